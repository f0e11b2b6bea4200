"""Offline playback: credited in one transaction, so that a repeated or interrupted batch counts once."""

from collections.abc import Awaitable, Callable, Sequence
from datetime import date, timedelta
from typing import Any

import msgspec
from sqlalchemy import RowMapping, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.feed import FeedEvent, TamperingSuspected
from app.domain.finishing import less_owed
from app.domain.limits import DailyLimits
from app.domain.markets import Markets
from app.domain.offline import OfflineBatch, Settlement, Synced, TimeRange, uncovered
from app.domain.past_terms import ConfigVersion, KeptDay, LedgerGrant, PastTerms, extra_ms_of
from app.domain.policy import UNLIMITED, DayTerms, OfflineUse
from app.domain.report import WEEK
from app.domain.viewing_day import ViewingDay, date_of
from app.errors import ProfileAccessDenied
from app.postgres_store.access import connection, transaction
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.postgres_store.limit_rules import rules_of
from app.postgres_store.partitions import BALANCES, is_partition_missing, make_partitions_for
from app.postgres_store.weekly_reports import note_changes
from app.timestamps import utc

_MAX_DAY_MS = 38 * 3_600_000
_MAX_PARTITIONS = 8
"""More than the days of a batch can lie in."""

_LOCK = text("SELECT 1 FROM profiles WHERE id = :profile_id FOR UPDATE")
_STORED = text(
    "SELECT credited_ms::text AS credited_ms, penalty_ms, is_tampered"
    "  FROM offline_batches WHERE profile_id = :profile_id AND batch_id = :batch_id"
)
_COVERED = text("""
SELECT CAST(EXTRACT(EPOCH FROM s.started_at) * 1000 AS bigint) AS starts_ms, s.last_beat_ms AS ends_ms, s.uncounted_ms
  FROM viewing_sessions s
 WHERE s.profile_id = :profile_id AND s.started_at >= :since AND s.started_at < :until
 UNION ALL
SELECT o.starts_ms, o.ends_ms, '{}' FROM offline_intervals o
 WHERE o.profile_id = :profile_id AND o.ends_ms > :from_ms AND o.starts_ms < :to_ms
""")
_KEPT = text("""
SELECT day - DATE '1970-01-01' AS day_number, starts_ms, ends_ms, COALESCE(limit_ms, -1) AS limit_ms, used_ms, version,
       offline_used_ms, offline_educational_ms, offline_overrun_ms, penalty_ms, borrowed_ms, owed_ms
  FROM viewing_time_balances
 WHERE profile_id = :profile_id AND day BETWEEN :first_of_week AND :last
""")
# The settings in force when the first day began, and all that came later.
_VERSIONS = text("""
SELECT (EXTRACT(EPOCH FROM h.valid_from) * 1000)::bigint AS valid_from_ms,
       h.weekday_limit_minutes, h.weekend_limit_minutes, h.rules::text AS rules, h.educational_exempt
  FROM viewing_time_config_history h
 WHERE h.profile_id = :profile_id
   AND h.version >= COALESCE((SELECT max(b.version) FROM viewing_time_config_history b
                               WHERE b.profile_id = :profile_id AND b.valid_from < :since), 0)
 ORDER BY h.version
""")
_NOW = text("""
SELECT c.educational_exempt, a.market
  FROM profiles p JOIN accounts a ON a.id = p.account_id LEFT JOIN viewing_time_configs c ON c.profile_id = p.id
 WHERE p.id = :profile_id
""")
_GRANTS = text("""
SELECT day - DATE '1970-01-01' AS day_number, minutes, covered_ms,
       (EXTRACT(EPOCH FROM revoked_at) * 1000)::bigint AS revoked_ms
  FROM time_grants
 WHERE profile_id = :profile_id AND day BETWEEN :first AND :last
""")
_ADD_BATCH = text("""
INSERT INTO offline_batches (profile_id, batch_id, device_id, is_tampered, credited_ms, penalty_ms, synced_at)
VALUES (:profile_id, :batch_id, :device_id, :is_tampered, CAST(:credited_ms AS jsonb), :penalty_ms, :synced_at)
""")
_ADD_INTERVALS = """
INSERT INTO offline_intervals
       (profile_id, device_id, session_id, title_id, starts_ms, ends_ms, day, credited_ms, educational_ms, overrun_ms,
        is_educational, is_settled)
SELECT $1::uuid, $2, CASE WHEN n.credited_ms > 0 THEN gen_random_uuid() END, n.title_id, n.starts_ms, n.ends_ms,
       DATE '1970-01-01' + n.day, n.credited_ms, n.educational_ms, n.overrun_ms, n.is_educational, n.is_settled
  FROM unnest($3::text[], $4::bigint[], $5::bigint[], $6::int[], $7::bigint[], $8::bigint[], $9::bigint[],
              $10::boolean[], $11::boolean[])
       AS n(title_id, starts_ms, ends_ms, day, credited_ms, educational_ms, overrun_ms, is_educational, is_settled)
"""
_ADD_USE = text("""
INSERT INTO viewing_time_balances AS t
       (profile_id, day, starts_ms, ends_ms, limit_ms, allowance_ms, used_ms, educational_ms, overrun_ms, version,
        offline_used_ms, offline_educational_ms, offline_overrun_ms, penalty_ms, owed_ms)
VALUES (:profile_id, :day, :starts_ms, :ends_ms, NULLIF(:limit_ms, -1), NULLIF(:allowance_ms, -1), 0, 0, 0, 0,
        :used_ms, :educational_ms, :overrun_ms, :penalty_ms, :owed_ms)
    ON CONFLICT (profile_id, day) DO UPDATE
   SET offline_used_ms = t.offline_used_ms + excluded.offline_used_ms,
       offline_educational_ms = t.offline_educational_ms + excluded.offline_educational_ms,
       offline_overrun_ms = t.offline_overrun_ms + excluded.offline_overrun_ms,
       penalty_ms = t.penalty_ms + excluded.penalty_ms
""")
_BUMP = text("""
UPDATE profiles SET policy_version = policy_version + 1, policy_changed_at = :at WHERE id = :profile_id
""")


class _NoPartition(Exception):
    """A day is credited that lies in no partition yet."""

    def __init__(self, day: date) -> None:
        super().__init__(day.isoformat())
        self.day = day


class PostgresOffline:
    """The ledger of offline playback. Syncs of one child run one after the other."""

    def __init__(self, engine: AsyncEngine, *, markets: Markets, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._markets = markets
        self._feed = feed

    async def stored(self, profile_id: str, batch_id: str) -> Synced | None:
        """The answer to a batch that was synced before; None if it was not."""
        async with connection(self._engine) as database:
            return await _stored(database, profile_id, batch_id)

    async def apply(
        self,
        batch: OfflineBatch,
        *,
        settle: Callable[[Sequence[TimeRange], PastTerms], Settlement],
        reserve: Callable[[Settlement], Awaitable[bool]] | None = None,
    ) -> Synced | None:
        """Credit a batch unless it was credited before.

        Args:
            batch: what was played.
            settle: decides the credit from what is covered already and the terms of the days.
            reserve: reserves the credited time ranges in Redis. If it answers False, the counters have changed since
                they were read: nothing is credited, and the answer is None.

        Raises:
            DatabaseUnavailable: nothing was credited.
            ProfileAccessDenied: the profile is gone.
        """
        for _ in range(_MAX_PARTITIONS):
            try:
                return await self._apply(batch, settle=settle, reserve=reserve)
            except _NoPartition as missing:
                await make_partitions_for(self._engine, BALANCES, [missing.day])
        return await self._apply(batch, settle=settle, reserve=reserve)

    async def _apply(
        self,
        batch: OfflineBatch,
        *,
        settle: Callable[[Sequence[TimeRange], PastTerms], Settlement],
        reserve: Callable[[Settlement], Awaitable[bool]] | None,
    ) -> Synced | None:
        """One attempt. Raises _NoPartition, and then nothing was credited."""
        async with transaction(self._engine) as database:
            keys = {"profile_id": batch.profile_id, "batch_id": batch.batch_id}
            if (await database.execute(_LOCK, keys)).first() is None:
                raise ProfileAccessDenied
            before = await _stored(database, batch.profile_id, batch.batch_id)
            if before is not None:
                return before
            around = _around(batch)
            settlement = settle(await _covered(database, around), await self._terms(database, around))
            if reserve is not None and not await reserve(settlement):
                return None
            await _write(database, batch, settlement)
            if batch.is_tampered:
                await self._feed.write(database, _clock_moved(batch, settlement), at_ms=batch.at_ms)
        return Synced(settlement.credited_ms, settlement.penalty_ms, batch.is_tampered)

    async def _terms(self, database: AsyncConnection, around: dict[str, Any]) -> PastTerms:
        """The terms of the days of a batch, as of this transaction."""
        now = (await database.execute(_NOW, around)).one()
        versions = (await database.execute(_VERSIONS, around)).mappings()
        grants = (await database.execute(_GRANTS, around)).mappings()
        kept = (await database.execute(_KEPT, around)).mappings()
        return PastTerms(
            versions=[_version(row) for row in versions],
            exempt_now=bool(now.educational_exempt),
            grants=[
                LedgerGrant(row["day_number"], extra_ms_of(row["minutes"], row["covered_ms"]), row["revoked_ms"])
                for row in grants
            ],
            kept={row["day_number"]: _kept(row) for row in kept},
            weekend_days=self._markets.weekend_days(now.market),
            week_starts_on=self._markets.of(now.market).week_starts_on,
        )


def _clock_moved(batch: OfflineBatch, settlement: Settlement) -> FeedEvent:
    return FeedEvent(
        facts=TamperingSuspected(reason="clock_moved", penalty_seconds=settlement.penalty_ms / 1000),
        cause=(batch.profile_id, "offline", batch.batch_id),
        at_ms=batch.at_ms,
        profile_id=batch.profile_id,
    )


def _version(row: RowMapping) -> ConfigVersion:
    limits = DailyLimits(row["weekday_limit_minutes"], row["weekend_limit_minutes"], rules_of(row["rules"]))
    return ConfigVersion(row["valid_from_ms"], limits, row["educational_exempt"])


async def _stored(database: AsyncConnection, profile_id: str, batch_id: str) -> Synced | None:
    row = (await database.execute(_STORED, {"profile_id": profile_id, "batch_id": batch_id})).mappings().first()
    if row is None:
        return None
    credited_ms = msgspec.json.decode(row["credited_ms"], type=tuple[int, ...])
    return Synced(credited_ms, row["penalty_ms"], row["is_tampered"])


def _around(batch: OfflineBatch) -> dict[str, Any]:
    """The parameters of the statements that read the surroundings of a batch."""
    from_ms, to_ms = batch.around
    return {
        "profile_id": batch.profile_id,
        "from_ms": from_ms,
        "to_ms": to_ms,
        "since": utc(from_ms - _MAX_DAY_MS),
        "until": utc(to_ms),
        "first": utc(from_ms - _MAX_DAY_MS).date(),
        "first_of_week": utc(from_ms - _MAX_DAY_MS).date() - timedelta(days=WEEK),
        "last": utc(batch.at_ms + _MAX_DAY_MS).date(),
    }


async def _covered(database: AsyncConnection, around: dict[str, Any]) -> list[TimeRange]:
    """The intervals around the batch in which something was counted."""
    covered: list[TimeRange] = []
    for row in (await database.execute(_COVERED, around)).mappings():
        uncounted_ms = row["uncounted_ms"]
        uncounted = list(zip(uncounted_ms[::2], uncounted_ms[1::2], strict=True))
        covered += uncovered((row["starts_ms"], row["ends_ms"]), uncounted)
    return covered


def _kept(row: RowMapping) -> KeptDay:
    number = row["day_number"]
    return KeptDay(
        day=ViewingDay(number, row["starts_ms"], row["ends_ms"]),
        limit_ms=row["limit_ms"],
        used_ms=row["used_ms"],
        version=row["version"],
        offline=OfflineUse(
            number,
            row["offline_used_ms"],
            row["offline_educational_ms"],
            row["offline_overrun_ms"],
            row["penalty_ms"],
        ),
        borrowed_ms=row["borrowed_ms"],
        owed_ms=row["owed_ms"],
    )


async def _write(database: AsyncConnection, batch: OfflineBatch, settlement: Settlement) -> None:
    batch_row = {
        "profile_id": batch.profile_id,
        "batch_id": batch.batch_id,
        "device_id": batch.device_id,
        "is_tampered": batch.is_tampered,
        "credited_ms": msgspec.json.encode(settlement.credited_ms).decode(),
        "penalty_ms": settlement.penalty_ms,
        "synced_at": utc(batch.at_ms),
    }
    await database.execute(_ADD_BATCH, batch_row)
    parts = settlement.parts
    columns = (
        batch.profile_id,
        batch.device_id,
        [batch.titles[part.place] for part in parts],
        [part.starts_ms for part in parts],
        [part.ends_ms for part in parts],
        [part.day_number for part in parts],
        [part.credited_ms for part in parts],
        [part.educational_ms for part in parts],
        [part.overrun_ms for part in parts],
        [part.is_educational for part in parts],
        [part.is_settled for part in parts],
    )
    await database.exec_driver_sql(_ADD_INTERVALS, columns)
    uses = zip(settlement.by_day, settlement.terms, settlement.owed_ms, strict=True)
    for use, terms, owed_ms in sorted(uses, key=lambda day: day[0].day_number):
        try:
            await database.execute(_ADD_USE, {"profile_id": batch.profile_id, **_day_row(use, terms, owed_ms)})
        except DBAPIError as error:
            if is_partition_missing(error):
                raise _NoPartition(date_of(use.day_number)) from error
            raise
    await note_changes(database, [(batch.profile_id, use.day_number) for use in settlement.by_day])
    await database.execute(_BUMP, {"profile_id": batch.profile_id, "at": utc(batch.at_ms)})


def _day_row(use: OfflineUse, terms: DayTerms, owed_ms: int) -> dict[str, Any]:
    """The row of a day without a balance. Beats may use the rest of its allowance."""
    allowance_ms = less_owed(terms.allowance_ms, owed_ms)
    if allowance_ms != UNLIMITED:
        allowance_ms = max(0, allowance_ms - use.deducted_ms)
    return {
        "day": date_of(use.day_number),
        "starts_ms": terms.starts_ms,
        "ends_ms": terms.ends_ms,
        "limit_ms": terms.limit_ms,
        "allowance_ms": allowance_ms,
        "used_ms": use.used_ms,
        "educational_ms": use.educational_ms,
        "overrun_ms": use.overrun_ms,
        "penalty_ms": use.penalty_ms,
        "owed_ms": owed_ms,
    }
