"""The ledger of extra time, and what children asked for.

Whoever changes something holds the profile first, so changes of one child come one after the other.
"""

from collections.abc import Callable
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import RowMapping, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.grants import ExtraTimeRequest, GrantEntry, RequestStatus, with_grant, without_grant
from app.domain.idempotency import IdempotencyKey
from app.domain.policy import Policy
from app.errors import NotFound, ProfileAccessDenied, TooManyRequests
from app.instants import ms_of, utc
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.configs import require_child, touch_policy
from app.postgres_store.idempotency import first_answer, keep_answer
from app.postgres_store.policies import policies_of
from app.postgres_store.tables import extra_time_requests, time_grants

Answer = dict[str, Any]


class PostgresGrants:
    """Grants of the children of accounts.

    Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        at_ms: int,
        key: IdempotencyKey | None,
        entry_for: Callable[[Policy], GrantEntry],
        answer_for: Callable[[Policy, GrantEntry], Answer],
    ) -> tuple[Answer, Policy | None]:
        """Enter a grant; answers what ``answer_for`` says, and the policy that is now in force.

        With a key that was used before: the first answer, and None.

        Raises:
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """
        async with transaction(self._engine) as database:
            if key is not None:
                first = await first_answer(database, account_id=account_id, key=key, at_ms=at_ms)
                if first is not None:
                    return first, None
            before = await _held(database, account_id=account_id, profile_id=profile_id, at_ms=at_ms)
            entry = entry_for(before)
            policy = await _enter(database, before, entry)
            answer = answer_for(policy, entry)
            if key is not None:
                await keep_answer(
                    database, account_id=account_id, profile_id=profile_id, key=key, answer=answer, at_ms=at_ms
                )
        return answer, policy

    async def revoke(
        self, *, account_id: str, profile_id: str, grant_id: str, actor: str, at_ms: int
    ) -> tuple[GrantEntry, Policy]:
        """Mark a grant as revoked; answers it and the policy that is now in force. Repeating it changes nothing.

        Raises:
            NotFound: there is no such grant of this profile.
        """
        async with transaction(self._engine) as database:
            policy = await _held(database, account_id=account_id, profile_id=profile_id, at_ms=at_ms)
            mine = (time_grants.c.id == _known(grant_id)) & (time_grants.c.profile_id == profile_id)
            row = (await database.execute(select(time_grants).where(mine))).mappings().one_or_none()
            if row is None:
                raise NotFound
            entry = _entry(row)
            if entry.revoked_ms is not None:
                return entry, policy
            await database.execute(update(time_grants).where(mine).values(revoked_at=utc(at_ms)))
            await touch_policy(database, profile_id, at_ms=at_ms)
            await note(
                database,
                account_id=account_id,
                profile_id=profile_id,
                actor=actor,
                action="grant_revoked",
                at_ms=at_ms,
                detail={"grant_id": grant_id},
            )
        return msgspec.structs.replace(entry, revoked_ms=at_ms), without_grant(policy, entry)

    async def entries(self, *, account_id: str, profile_id: str, day: date | None, most: int) -> list[GrantEntry]:
        """The newest entries of a child, those of one viewing day if one is named."""
        wanted = select(time_grants).order_by(time_grants.c.granted_at.desc(), time_grants.c.id).limit(most)
        if day is not None:
            wanted = wanted.where(time_grants.c.day == day)
        async with connection(self._engine) as database:
            await require_child(database, account_id=account_id, profile_id=profile_id)
            rows = await database.execute(wanted.where(time_grants.c.profile_id == profile_id))
            return [_entry(row) for row in rows.mappings()]


class PostgresRequests:
    """What the children of accounts asked for.

    Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        actor: str,
        at_ms: int,
        most_a_day: int,
        request_for: Callable[[Policy], ExtraTimeRequest],
    ) -> ExtraTimeRequest:
        """Keep a request.

        Raises:
            TooManyRequests: the child asked ``most_a_day`` times on this viewing day.
        """
        async with transaction(self._engine) as database:
            request = request_for(await _held(database, account_id=account_id, profile_id=profile_id, at_ms=at_ms))
            same_day = (extra_time_requests.c.profile_id == profile_id) & (extra_time_requests.c.day == request.day)
            count = (await database.execute(select(func.count()).where(same_day))).scalar_one()
            if count >= most_a_day:
                raise TooManyRequests(retry_after_seconds=-(-(request.expires_ms - at_ms) // 1000))
            await database.execute(
                insert(extra_time_requests).values(
                    id=request.request_id,
                    profile_id=profile_id,
                    day=request.day,
                    minutes=request.minutes,
                    note=request.note,
                    status=request.status,
                    requested_at=utc(request.requested_ms),
                    expires_at=utc(request.expires_ms),
                )
            )
            await note(
                database,
                account_id=account_id,
                profile_id=profile_id,
                actor=actor,
                action="time_requested",
                at_ms=at_ms,
                detail={"request_id": request.request_id, "minutes": request.minutes},
            )
        return request

    async def answer(
        self,
        *,
        account_id: str,
        profile_id: str,
        request_id: str,
        actor: str,
        at_ms: int,
        decide: Callable[[ExtraTimeRequest], tuple[ExtraTimeRequest, GrantEntry | None]],
    ) -> tuple[ExtraTimeRequest, Policy | None]:
        """Keep what ``decide`` makes of a request, and the grant it answers with, if any.

        Returns:
            The request, and the policy that is now in force, None when nothing was granted.

        Raises:
            NotFound: there is no such request of this profile.
        """
        async with transaction(self._engine) as database:
            policy = await _held(database, account_id=account_id, profile_id=profile_id, at_ms=at_ms)
            mine = (extra_time_requests.c.id == _known(request_id)) & (extra_time_requests.c.profile_id == profile_id)
            row = (await database.execute(select(extra_time_requests).where(mine))).mappings().one_or_none()
            if row is None:
                raise NotFound
            before = _request(row)
            request, entry = decide(before)
            if request is before:
                return request, None
            granted = None if entry is None else await _enter(database, policy, entry)
            answered = {"status": request.status, "decided_at": utc(at_ms), "grant_id": request.grant_id}
            await database.execute(update(extra_time_requests).where(mine).values(answered))
            await note(
                database,
                account_id=account_id,
                profile_id=profile_id,
                actor=actor,
                action=f"request_{request.status}",
                at_ms=at_ms,
                detail={"request_id": request_id},
            )
        return request, granted

    async def entries(self, *, account_id: str, profile_id: str, most: int) -> list[ExtraTimeRequest]:
        """The newest requests of a child."""
        wanted = select(extra_time_requests).where(extra_time_requests.c.profile_id == profile_id)
        newest_first = wanted.order_by(extra_time_requests.c.requested_at.desc(), extra_time_requests.c.id)
        async with connection(self._engine) as database:
            await require_child(database, account_id=account_id, profile_id=profile_id)
            rows = await database.execute(newest_first.limit(most))
            return [_request(row) for row in rows.mappings()]


async def _held(database: AsyncConnection, *, account_id: str, profile_id: str, at_ms: int) -> Policy:
    """The policy of a child, which nobody else changes before this transaction ends."""
    await require_child(database, account_id=account_id, profile_id=profile_id, lock=True)
    (policy,) = await policies_of(database, [profile_id], at_ms=at_ms)
    if policy is None:  # erased just now
        raise ProfileAccessDenied
    return policy


async def _enter(database: AsyncConnection, policy: Policy, entry: GrantEntry) -> Policy:
    """Enter a grant; answers the policy that is now in force."""
    await database.execute(
        insert(time_grants).values(
            id=entry.grant_id,
            profile_id=policy.profile_id,
            day=entry.day,
            minutes=entry.minutes,
            granted_by=entry.granted_by,
            is_remote=entry.is_remote,
            granted_at=utc(entry.granted_ms),
        )
    )
    await touch_policy(database, policy.profile_id, at_ms=entry.granted_ms)
    await note(
        database,
        account_id=policy.account_id,
        profile_id=policy.profile_id,
        actor=entry.granted_by,
        action="time_granted",
        at_ms=entry.granted_ms,
        detail={"grant_id": entry.grant_id, "minutes": entry.minutes},
    )
    return with_grant(policy, entry)


def _known(entry_id: str) -> str:
    if not is_uuid(entry_id):
        raise NotFound
    return entry_id


def _entry(row: RowMapping) -> GrantEntry:
    return GrantEntry(
        grant_id=row["id"],
        minutes=row["minutes"],
        day=row["day"],
        granted_by=row["granted_by"],
        is_remote=row["is_remote"],
        granted_ms=ms_of(row["granted_at"]),
        revoked_ms=None if row["revoked_at"] is None else ms_of(row["revoked_at"]),
    )


def _request(row: RowMapping) -> ExtraTimeRequest:
    return ExtraTimeRequest(
        request_id=row["id"],
        minutes=row["minutes"],
        note=row["note"],
        day=row["day"],
        status=RequestStatus(row["status"]),
        requested_ms=ms_of(row["requested_at"]),
        expires_ms=ms_of(row["expires_at"]),
        decided_ms=None if row["decided_at"] is None else ms_of(row["decided_at"]),
        grant_id=row["grant_id"],
    )
