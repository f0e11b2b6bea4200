"""Receivers of webhooks, how far each has read the feed, and what each has not accepted yet."""

from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import RowMapping, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.webhooks import ROTATION_MS, DeliveryRound, WaitingDelivery, WebhookReceiver
from app.errors import NotFound, TooManyReceivers
from app.kit.sealing import SecretSeal, SecretUnreadable
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.feed import EVENT_COLUMNS, kept_event
from app.postgres_store.tables import feed_state, webhook_deliveries, webhook_receivers
from app.timestamps import ms_of, ms_or_none, utc

log = structlog.get_logger(__name__)
MAX_RECEIVERS = 20

_RECEIVERS = text("""
SELECT r.*, s.last_position - r.position AS behind,
       (SELECT count(*) FROM webhook_deliveries d WHERE d.receiver_id = r.id AND d.dead_at IS NULL) AS waiting,
       (SELECT count(*) FROM webhook_deliveries d WHERE d.receiver_id = r.id AND d.dead_at IS NOT NULL) AS dead_letters
  FROM webhook_receivers r CROSS JOIN feed_state s
 ORDER BY r.created_at, r.id
""")
_WAITING = text(f"""
SELECT {EVENT_COLUMNS}, d.attempts, d.error,
       (extract(epoch FROM d.first_at) * 1000)::bigint AS first_ms,
       (extract(epoch FROM d.next_at) * 1000)::bigint AS next_ms
  FROM webhook_deliveries d JOIN feed_events e ON e.id = d.event_id
 WHERE d.receiver_id = :receiver_id AND d.dead_at IS NULL
 ORDER BY e.position
 LIMIT :most
""")  # noqa: S608  columns of our own
# An event that was erased meanwhile is left out.
_KEEP = """
INSERT INTO webhook_deliveries AS t (receiver_id, event_id, attempts, first_at, next_at, dead_at, error)
SELECT $1::uuid, e.id, n.attempts, n.first_at, n.next_at, n.dead_at, n.error
  FROM unnest($2::uuid[], $3::int[], $4::timestamptz[], $5::timestamptz[], $6::timestamptz[], $7::text[])
       AS n(event_id, attempts, first_at, next_at, dead_at, error)
  JOIN feed_events e ON e.id = n.event_id
   FOR KEY SHARE OF e
    ON CONFLICT (receiver_id, event_id) DO UPDATE
   SET attempts = excluded.attempts, first_at = excluded.first_at, next_at = excluded.next_at,
       dead_at = excluded.dead_at, error = excluded.error
"""
_REPLAY_DEAD = text("""
UPDATE webhook_deliveries SET dead_at = NULL, attempts = 0, first_at = :at, next_at = :at, error = NULL
 WHERE receiver_id = :receiver_id AND dead_at IS NOT NULL
""")
_REPLAY_RANGE = text("""
INSERT INTO webhook_deliveries AS t (receiver_id, event_id, attempts, first_at, next_at)
SELECT r.id, e.id, 0, :at, :at
  FROM webhook_receivers r
  JOIN feed_events e ON e.position > :after AND e.position <= LEAST(:until, r.position)
   AND (r.kinds IS NULL OR e.kind = ANY(r.kinds))
 WHERE r.id = :receiver_id
   FOR KEY SHARE OF e
    ON CONFLICT (receiver_id, event_id) DO UPDATE
   SET dead_at = NULL, attempts = 0, first_at = excluded.first_at, next_at = excluded.next_at, error = NULL
""")


class PostgresWebhooks:
    """Every call may raise DatabaseUnavailable. Those that name a receiver raise NotFound if there is none."""

    def __init__(self, engine: AsyncEngine, seal: SecretSeal) -> None:
        self._engine = engine
        self._seal = seal

    async def receivers(self) -> list[WebhookReceiver]:
        """All receivers, the oldest first."""
        async with connection(self._engine) as database:
            rows = (await database.execute(_RECEIVERS)).mappings().all()
            return [await self._receiver(database, row) for row in rows]

    async def receiver(self, receiver_id: str) -> WebhookReceiver:
        found = {each.receiver_id: each for each in await self.receivers()}
        if receiver_id not in found:
            raise NotFound("There is no such receiver.")
        return found[receiver_id]

    async def add(
        self, receiver_id: str, *, url: str, kinds: Sequence[str] | None, secret: bytes, at_ms: int
    ) -> WebhookReceiver:
        """A receiver of the events that come from now on. Raises TooManyReceivers."""
        async with transaction(self._engine) as database:
            last = (await database.execute(select(feed_state.c.last_position).with_for_update())).scalar_one()
            count = await database.execute(select(func.count()).select_from(webhook_receivers))
            if count.scalar_one() >= MAX_RECEIVERS:
                raise TooManyReceivers
            await database.execute(
                insert(webhook_receivers).values(
                    id=receiver_id,
                    url=url,
                    kinds=None if kinds is None else list(kinds),
                    sealed_secret=self._seal.sealed(secret),
                    position=last,
                    created_at=utc(at_ms),
                )
            )
        return await self.receiver(receiver_id)

    async def change(self, receiver_id: str, values: Mapping[str, Any]) -> WebhookReceiver:
        """Change the url, the kinds or whether it is enabled."""
        changes = dict(values)
        if changes.get("is_enabled"):
            changes |= {"disabled_reason": None, "failing_since": None}
        async with transaction(self._engine) as database:
            if changes:
                statement = update(webhook_receivers).where(_is(receiver_id)).values(**changes)
                if (await database.execute(statement)).rowcount == 0:
                    raise NotFound("There is no such receiver.")
        return await self.receiver(receiver_id)

    async def rotate(self, receiver_id: str, *, secret: bytes, at_ms: int) -> WebhookReceiver:
        """Give a receiver another secret. The one before signs as well for a day."""
        statement = (
            update(webhook_receivers)
            .where(_is(receiver_id))
            .values(
                sealed_secret=self._seal.sealed(secret),
                sealed_previous=webhook_receivers.c.sealed_secret,
                previous_until=utc(at_ms + ROTATION_MS),
            )
        )
        async with transaction(self._engine) as database:
            if (await database.execute(statement)).rowcount == 0:
                raise NotFound("There is no such receiver.")
        return await self.receiver(receiver_id)

    async def remove(self, receiver_id: str) -> None:
        async with transaction(self._engine) as database:
            if (await database.execute(delete(webhook_receivers).where(_is(receiver_id)))).rowcount == 0:
                raise NotFound("There is no such receiver.")

    async def waiting(self, receiver_id: str, *, most: int) -> list[WaitingDelivery]:
        """What a receiver has not accepted yet, in the order of the feed; without dead letters."""
        async with connection(self._engine) as database:
            rows = await database.execute(_WAITING, {"receiver_id": receiver_id, "most": most})
            return [
                WaitingDelivery(
                    event=kept_event(row),
                    first_ms=row["first_ms"],
                    attempts=row["attempts"],
                    next_ms=row["next_ms"],
                    error=row["error"],
                )
                for row in rows.mappings()
            ]

    async def keep(self, receiver_id: str, done: DeliveryRound, *, at_ms: int) -> None:
        """Keep the result of a round; nothing of a receiver that was removed meanwhile."""
        values: dict[str, Any] = {"position": func.greatest(webhook_receivers.c.position, done.position)}
        since = func.coalesce(webhook_receivers.c.failing_since, utc(at_ms))
        values["failing_since"] = since if done.is_failing else None
        if done.is_gone:
            values |= {"is_enabled": False, "disabled_reason": "gone"}
        async with transaction(self._engine) as database:
            changed = await database.execute(update(webhook_receivers).where(_is(receiver_id)).values(**values))
            if changed.rowcount == 0:
                return
            if done.delivered:
                deliveries = webhook_deliveries.c
                accepted = (deliveries.receiver_id == receiver_id) & deliveries.event_id.in_(done.delivered)
                await database.execute(delete(webhook_deliveries).where(accepted))
            late = [(each, None) for each in done.waiting] + [(each, utc(at_ms)) for each in done.dead]
            if late:
                columns = (
                    receiver_id,
                    [each.event.event_id for each, _ in late],
                    [each.attempts for each, _ in late],
                    [utc(each.first_ms) for each, _ in late],
                    [utc(each.next_ms) for each, _ in late],
                    [dead_at for _, dead_at in late],
                    [each.error for each, _ in late],
                )
                await database.exec_driver_sql(_KEEP, columns)

    async def replay_dead(self, receiver_id: str, *, at_ms: int) -> int:
        """Let a receiver have its dead letters once more; how many."""
        await self.receiver(receiver_id)
        async with transaction(self._engine) as database:
            values = {"receiver_id": receiver_id, "at": utc(at_ms)}
            return (await database.execute(_REPLAY_DEAD, values)).rowcount

    async def replay_range(self, receiver_id: str, *, after: int, until: int, at_ms: int) -> int:
        """Let a receiver have the events between two positions once more, as far as it has read; how many."""
        await self.receiver(receiver_id)
        async with transaction(self._engine) as database:
            values = {"receiver_id": receiver_id, "after": after, "until": until, "at": utc(at_ms)}
            return (await database.execute(_REPLAY_RANGE, values)).rowcount

    async def _receiver(self, database: AsyncConnection, row: RowMapping) -> WebhookReceiver:
        secret, previous, problem = b"", None, row["disabled_reason"]
        try:
            secret, is_current = self._seal.opened(row["sealed_secret"])
            if row["sealed_previous"] is not None:
                previous, _ = self._seal.opened(row["sealed_previous"])
            if not is_current:
                sealed = {"sealed_secret": self._seal.sealed(secret)}
                if previous is not None:
                    sealed["sealed_previous"] = self._seal.sealed(previous)
                same = _is(row["id"]) & (webhook_receivers.c.sealed_secret == row["sealed_secret"])
                await database.execute(update(webhook_receivers).where(same).values(**sealed))
        except SecretUnreadable:
            problem = "secret_unreadable"
        return WebhookReceiver(
            receiver_id=str(row["id"]),
            url=row["url"],
            kinds=None if row["kinds"] is None else tuple(row["kinds"]),
            secret=secret,
            previous_secret=previous,
            previous_until_ms=ms_or_none(row["previous_until"]) or 0,
            position=row["position"],
            is_enabled=row["is_enabled"] and problem != "secret_unreadable",
            disabled_reason=problem,
            failing_since_ms=ms_or_none(row["failing_since"]),
            created_ms=ms_of(row["created_at"]),
            waiting=row["waiting"],
            dead_letters=row["dead_letters"],
            behind=row["behind"],
        )


def _is(receiver_id: object) -> Any:  # noqa: ANN401  SQLAlchemy's condition
    if not is_uuid(str(receiver_id)):
        raise NotFound("There is no such receiver.")
    return webhook_receivers.c.id == str(receiver_id)
