"""Pauses by parents, a column of the profile: a new pause replaces the one before."""

from collections.abc import Callable, Sequence

import msgspec
from sqlalchemy import Select, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.feed import FeedEvent, PauseBegun, PauseLifted
from app.domain.idempotency import IdempotencyKey
from app.domain.pauses import ParentPause, with_pause
from app.domain.policy import Policy
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.configs import require_child, touch_policy
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.postgres_store.idempotency import first_answer, keep_answer
from app.postgres_store.policies import policies_of
from app.postgres_store.tables import profiles
from app.timestamps import utc


class PostgresPauses:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._feed = feed

    async def children(self, account_id: str) -> list[str]:
        """The children of an account, by id."""
        if not is_uuid(account_id):
            return []
        async with connection(self._engine) as database:
            return list(await database.scalars(_children(account_id)))

    async def set(
        self,
        *,
        account_id: str,
        profile_id: str | None,
        actor: str,
        at_ms: int,
        key: IdempotencyKey | None,
        until_for: Callable[[Policy], int | None],
    ) -> tuple[list[ParentPause], list[Policy]]:
        """Pause a child, or all children of the account, until the instant that ``until_for`` says (None: not at all).

        Returns the pauses, and the policies that changed. With a key that was used before: the first answer, and no
        policy. A child whose pause is the same afterwards is not changed.

        Raises:
            ProfileAccessDenied, NoConfig: ``profile_id`` is no child of the account.
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """
        async with transaction(self._engine) as database:
            if key is not None:
                first = await first_answer(database, account_id=account_id, key=key, at_ms=at_ms)
                if first is not None:
                    return msgspec.convert(first["pauses"], list[ParentPause]), []
            ids = await _locked(database, account_id, profile_id)
            policies = [policy for policy in await policies_of(database, ids, at_ms=at_ms) if policy is not None]
            pauses, changed = [], []
            for policy in policies:
                until_ms = until_for(policy)
                pauses.append(ParentPause(profile_id=policy.profile_id, until_ms=until_ms))
                if until_ms != policy.paused_until_ms:
                    await _store(database, policy, until_ms, actor=actor, at_ms=at_ms)
                    await self._feed.write(database, _event(policy, until_ms, at_ms=at_ms), at_ms=at_ms)
                    changed.append(with_pause(policy, until_ms))
            if key is not None and ids:
                answer = {"pauses": msgspec.to_builtins(pauses)}
                await keep_answer(
                    database, account_id=account_id, profile_id=ids[0], key=key, answer=answer, at_ms=at_ms
                )
        return pauses, changed


async def _locked(database: AsyncConnection, account_id: str, profile_id: str | None) -> Sequence[str]:
    """The children to pause, locked until this transaction ends; in one order, so that none waits for another."""
    if profile_id is not None:
        await require_child(database, account_id=account_id, profile_id=profile_id, lock=True)
        return [profile_id]
    if not is_uuid(account_id):
        return []
    return list(await database.scalars(_children(account_id).with_for_update(key_share=True)))


async def _store(database: AsyncConnection, policy: Policy, until_ms: int | None, *, actor: str, at_ms: int) -> None:
    since, until = (None, None) if until_ms is None else (utc(at_ms), utc(until_ms))
    values = {"paused_at": since, "paused_until": until}
    await database.execute(update(profiles).where(profiles.c.id == policy.profile_id).values(values))
    await touch_policy(database, policy.profile_id, at_ms=at_ms)
    await note(
        database,
        account_id=policy.account_id,
        profile_id=policy.profile_id,
        actor=actor,
        action="pause_lifted" if until_ms is None else "viewing_paused",
        at_ms=at_ms,
        detail={} if until_ms is None else {"until_ms": until_ms},
    )


def _event(policy: Policy, until_ms: int | None, *, at_ms: int) -> FeedEvent:
    """The version of the policy before it tells a change from all others."""
    return FeedEvent(
        facts=PauseLifted() if until_ms is None else PauseBegun(paused_until=utc(until_ms)),
        cause=(policy.profile_id, policy.version),
        at_ms=at_ms,
        profile_id=policy.profile_id,
    )


def _children(account_id: str) -> Select[tuple[str]]:
    return select(profiles.c.id).where(profiles.c.account_id == account_id, profiles.c.is_kids).order_by(profiles.c.id)
