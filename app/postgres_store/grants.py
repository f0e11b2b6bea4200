"""The ledger of extra time, and what children asked for.

Each change locks the profile first, so changes of one child come one after the other.
"""

from collections.abc import Awaitable, Callable
from datetime import date
from typing import Any

import msgspec
from sqlalchemy import ColumnElement, RowMapping, Select, and_, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.feed import FeedEvent, GrantGiven, GrantRevoked, RequestAnswered, RequestCreated
from app.domain.grants import (
    AnsweredRequest,
    ExtraTimeRequest,
    GrantEntry,
    RequestStatus,
    with_grant,
    without_grant,
)
from app.domain.idempotency import IdempotencyKey
from app.domain.pages import PageEnd
from app.domain.policy import Policy
from app.errors import NotFound, ProfileAccessDenied, TooManyRequests
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.caregivers import held_budget
from app.postgres_store.configs import require_child, touch_policy
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.postgres_store.idempotency import first_answer, keep_answer
from app.postgres_store.policies import policies_of
from app.postgres_store.tables import extra_time_requests, profiles, time_grants
from app.timestamps import ms_of, ms_or_none, utc

Answer = dict[str, Any]


class PostgresGrants:
    """Grants of the children of accounts.

    Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable.
    """

    def __init__(self, engine: AsyncEngine, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._feed = feed

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        at_ms: int,
        key: IdempotencyKey | None,
        caregiver_id: str | None,
        entry_for: Callable[[Policy], Awaitable[GrantEntry]],
        answer_for: Callable[[Policy, GrantEntry], Answer],
    ) -> tuple[Answer, Policy | None]:
        """Enter a grant; answers what ``answer_for`` says, and the policy that is now in force.

        With a key that was used before: the first answer, and None. ``caregiver_id`` is the device of a caregiver,
        whose budget the grant must fit.

        Raises:
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
            BudgetExhausted: the budget has not that much left.
            Unauthenticated: the caregiver has just been revoked.
        """
        async with transaction(self._engine) as database:
            if key is not None:
                first = await first_answer(database, account_id=account_id, key=key, at_ms=at_ms)
                if first is not None:
                    return first, None
            before = await _held(database, account_id=account_id, profile_id=profile_id, at_ms=at_ms)
            entry = await entry_for(before)
            policy = await _enter(database, before, entry, self._feed, caregiver_id=caregiver_id)
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
            revoked = GrantRevoked(grant_id=grant_id, day=entry.day)
            event = FeedEvent(facts=revoked, cause=(grant_id,), at_ms=at_ms, profile_id=profile_id)
            await self._feed.write(database, event, at_ms=at_ms)
        return msgspec.structs.replace(entry, revoked_ms=at_ms), without_grant(policy, entry)

    async def entries(
        self, *, account_id: str, profile_id: str, day: date | None, before: PageEnd | None, most: int
    ) -> list[GrantEntry]:
        """The newest entries of a child that follow ``before``, those of one viewing day if one is named."""
        wanted = _page(select(time_grants), time_grants.c.granted_at, time_grants.c.id, before).limit(most)
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

    def __init__(self, engine: AsyncEngine, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._feed = feed

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        actor: str,
        at_ms: int,
        key: IdempotencyKey | None,
        most_a_day: int,
        same_since_ms: int,
        request_for: Callable[[Policy], ExtraTimeRequest],
    ) -> ExtraTimeRequest:
        """Keep a request; one that equals an open one made since ``same_since_ms`` is that one.

        With a key that was used before: the first answer.

        Raises:
            TooManyRequests: the child asked ``most_a_day`` times on this viewing day.
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """
        async with transaction(self._engine) as database:
            if key is not None:
                first = await first_answer(database, account_id=account_id, key=key, at_ms=at_ms)
                if first is not None:
                    return msgspec.convert(first, ExtraTimeRequest)
            request = request_for(await _held(database, account_id=account_id, profile_id=profile_id, at_ms=at_ms))
            same = await _same_request(database, profile_id, request, since_ms=same_since_ms)
            if same is None:
                await _keep_request(
                    database, account_id, profile_id, request, actor=actor, at_ms=at_ms, most_a_day=most_a_day
                )
                await self._feed.write(database, _created(profile_id, request), at_ms=at_ms)
            request = same or request
            if key is not None:
                answer = msgspec.to_builtins(request)
                await keep_answer(
                    database, account_id=account_id, profile_id=profile_id, key=key, answer=answer, at_ms=at_ms
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
        caregiver_id: str | None,
        decide: Callable[[ExtraTimeRequest, Policy], Awaitable[tuple[ExtraTimeRequest, GrantEntry | None]]],
    ) -> AnsweredRequest:
        """Keep what ``decide`` makes of a request, and the grant it answers with, if any.

        Raises:
            NotFound: there is no such request of this profile.
            BudgetExhausted, Unauthenticated: of ``caregiver_id``, as for a grant.
        """
        async with transaction(self._engine) as database:
            policy = await _held(database, account_id=account_id, profile_id=profile_id, at_ms=at_ms)
            mine = (extra_time_requests.c.id == _known(request_id)) & (extra_time_requests.c.profile_id == profile_id)
            row = (await database.execute(select(extra_time_requests).where(mine))).mappings().one_or_none()
            if row is None:
                raise NotFound
            before = _request(row)
            request, entry = await decide(before, policy)
            if request is before:
                return AnsweredRequest(request, None, is_first=False)
            granted = None
            if entry is not None:
                granted = await _enter(database, policy, entry, self._feed, caregiver_id=caregiver_id)
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
            facts = RequestAnswered(request_id=request_id, status=request.status, grant_id=request.grant_id)
            event = FeedEvent(facts=facts, cause=(request_id,), at_ms=at_ms, profile_id=profile_id)
            await self._feed.write(database, event, at_ms=at_ms)
        return AnsweredRequest(request, granted, is_first=True)

    async def entries(
        self, *, account_id: str, profile_id: str, before: PageEnd | None, most: int
    ) -> list[ExtraTimeRequest]:
        """The newest requests of a child that follow ``before``."""
        table = extra_time_requests.c
        wanted = select(extra_time_requests).where(table.profile_id == profile_id)
        newest_first = _page(wanted, table.requested_at, table.id, before)
        async with connection(self._engine) as database:
            await require_child(database, account_id=account_id, profile_id=profile_id)
            rows = await database.execute(newest_first.limit(most))
            return [_request(row) for row in rows.mappings()]

    async def of_account(
        self, account_id: str, *, status: RequestStatus | None, before: PageEnd | None, most: int, at_ms: int
    ) -> list[tuple[str, ExtraTimeRequest]]:
        """The newest requests of an account, each after its profile; those of one status if it is named."""
        if not is_uuid(account_id):
            return []
        table = extra_time_requests.c
        children = select(profiles.c.id).where(profiles.c.account_id == account_id, profiles.c.is_kids)
        wanted = select(extra_time_requests).where(table.profile_id.in_(children))
        if status is RequestStatus.OPEN:
            wanted = wanted.where(table.status == RequestStatus.OPEN, table.expires_at > utc(at_ms))
        elif status is RequestStatus.EXPIRED:
            wanted = wanted.where(table.status == RequestStatus.OPEN, table.expires_at <= utc(at_ms))
        elif status is not None:
            wanted = wanted.where(table.status == status)
        newest_first = _page(wanted, table.requested_at, table.id, before)
        async with connection(self._engine) as database:
            rows = await database.execute(newest_first.limit(most))
            return [(row["profile_id"], _request(row)) for row in rows.mappings()]


def _page(
    wanted: Select[Any], at: ColumnElement[Any], entry_id: ColumnElement[Any], before: PageEnd | None
) -> Select[Any]:
    """Entries, newest first; those that follow one if it is named."""
    if before is not None:
        instant = utc(before.at_ms)
        wanted = wanted.where(or_(at < instant, and_(at == instant, entry_id > before.entry_id)))
    return wanted.order_by(at.desc(), entry_id)


async def _held(database: AsyncConnection, *, account_id: str, profile_id: str, at_ms: int) -> Policy:
    """The policy of a child, locked until this transaction ends."""
    await require_child(database, account_id=account_id, profile_id=profile_id, lock=True)
    (policy,) = await policies_of(database, [profile_id], at_ms=at_ms)
    if policy is None:  # erased just now
        raise ProfileAccessDenied
    return policy


async def _enter(
    database: AsyncConnection, policy: Policy, entry: GrantEntry, feed: FeedWriter, *, caregiver_id: str | None
) -> Policy:
    """Enter a grant; answers the policy that is now in force."""
    if caregiver_id is not None:
        budget = await held_budget(database, policy.account_id, caregiver_id, at_ms=entry.granted_ms)
        budget.require(entry.minutes)
    await database.execute(
        insert(time_grants).values(
            id=entry.grant_id,
            profile_id=policy.profile_id,
            day=entry.day,
            minutes=entry.minutes,
            covered_ms=entry.covered_ms,
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
    given = GrantGiven(grant_id=entry.grant_id, day=entry.day, minutes=entry.minutes, is_remote=entry.is_remote)
    event = FeedEvent(facts=given, cause=(entry.grant_id,), at_ms=entry.granted_ms, profile_id=policy.profile_id)
    await feed.write(database, event, at_ms=entry.granted_ms)
    return with_grant(policy, entry)


def _created(profile_id: str, request: ExtraTimeRequest) -> FeedEvent:
    facts = RequestCreated(
        request_id=request.request_id, day=request.day, minutes=request.minutes, expires_at=utc(request.expires_ms)
    )
    return FeedEvent(facts=facts, cause=(request.request_id,), at_ms=request.requested_ms, profile_id=profile_id)


async def _same_request(
    database: AsyncConnection, profile_id: str, request: ExtraTimeRequest, *, since_ms: int
) -> ExtraTimeRequest | None:
    """An open request of a child that asks for the same and was made since an instant."""
    table = extra_time_requests.c
    same = select(extra_time_requests).where(
        table.profile_id == profile_id,
        table.day == request.day,
        table.minutes == request.minutes,
        table.note.is_not_distinct_from(request.note),
        table.status == RequestStatus.OPEN,
        table.requested_at > utc(since_ms),
    )
    newest = same.order_by(table.requested_at.desc(), table.id).limit(1)
    row = (await database.execute(newest)).mappings().one_or_none()
    return None if row is None else _request(row)


async def _keep_request(
    database: AsyncConnection,
    account_id: str,
    profile_id: str,
    request: ExtraTimeRequest,
    *,
    actor: str,
    at_ms: int,
    most_a_day: int,
) -> None:
    """Raises TooManyRequests."""
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
        covered_ms=row["covered_ms"],
        revoked_ms=ms_or_none(row["revoked_at"]),
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
        decided_ms=ms_or_none(row["decided_at"]),
        grant_id=row["grant_id"],
    )
