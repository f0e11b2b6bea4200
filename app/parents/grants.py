"""Extra time: given by parents, asked for by children."""

from collections.abc import Collection
from datetime import date
from uuid import uuid4

import msgspec

from app.domain.grants import ExtraTimeRequest, GrantEntry, RequestStatus, running_allowance, running_day
from app.domain.idempotency import IdempotencyKey
from app.domain.policy import Policy
from app.parents.announcements import Announcements
from app.parents.ports import Answer, Grants, Requests
from app.parents.used import Used, UsedTime

MOST_REQUESTS_A_DAY = 5


class Actor(msgspec.Struct, frozen=True):
    """Who acts for which account, from afar or on the player."""

    account_id: str
    name: str
    is_remote: bool = True


class ExtraTime(msgspec.Struct, frozen=True, kw_only=True):
    """A grant and what it leaves of the running day. ``remaining_ms`` is None when unlimited or not known."""

    grant_id: str
    minutes: int | None
    day: date
    remaining_ms: int | None
    is_unlimited_override: bool


class GrantService:
    """Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    def __init__(
        self, *, grants: Grants, used: UsedTime, announcements: Announcements, weekend_days: Collection[int]
    ) -> None:
        self._grants = grants
        self._used = used
        self._announcements = announcements
        self._weekend_days = weekend_days

    async def give(
        self, actor: Actor, profile_id: str, *, minutes: int | None, key: str | None, at_ms: int
    ) -> ExtraTime:
        """Add extra time to the running day, None = no limit until it ends. With a key that was used: the first answer.

        Raises:
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """
        used = await self._used.of(profile_id)

        def answer_for(policy: Policy, entry: GrantEntry) -> Answer:
            answer: Answer = msgspec.to_builtins(self._extra_time(policy, entry, used, at_ms))
            return answer

        answer, policy = await self._grants.add(
            account_id=actor.account_id,
            profile_id=profile_id,
            at_ms=at_ms,
            key=None if key is None else IdempotencyKey.of(key, "grant", profile_id, minutes),
            entry_for=lambda policy: _entry(policy, actor, minutes=minutes, at_ms=at_ms),
            answer_for=answer_for,
        )
        if policy is not None:
            await self._announcements.announce(policy)
        return msgspec.convert(answer, ExtraTime)

    async def revoke(self, actor: Actor, profile_id: str, grant_id: str, *, at_ms: int) -> ExtraTime:
        """Take a grant back. What was used stays used. Repeating it changes nothing.

        Raises:
            NotFound: there is no such grant of this profile.
        """
        entry, policy = await self._grants.revoke(
            account_id=actor.account_id, profile_id=profile_id, grant_id=grant_id, actor=actor.name, at_ms=at_ms
        )
        await self._announcements.announce(policy)
        return self._extra_time(policy, entry, await self._used.of(profile_id), at_ms)

    async def entries(self, *, account_id: str, profile_id: str, day: date | None, most: int) -> list[GrantEntry]:
        """The newest entries of the ledger, those of one viewing day if one is named."""
        return await self._grants.entries(account_id=account_id, profile_id=profile_id, day=day, most=most)

    def _extra_time(self, policy: Policy, entry: GrantEntry, used: Used, at_ms: int) -> ExtraTime:
        allowance = running_allowance(policy, at_ms=at_ms, weekend_days=self._weekend_days)
        return ExtraTime(
            grant_id=entry.grant_id,
            minutes=entry.minutes,
            day=entry.day,
            remaining_ms=used.remaining_ms(allowance),
            is_unlimited_override=allowance.is_override,
        )


class RequestService:
    """Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    def __init__(self, *, requests: Requests, announcements: Announcements) -> None:
        self._requests = requests
        self._announcements = announcements

    async def ask(
        self, actor: Actor, profile_id: str, *, minutes: int, note: str | None, at_ms: int
    ) -> ExtraTimeRequest:
        """Ask for extra time on the running day. Raises TooManyRequests after five on one day."""

        def request_for(policy: Policy) -> ExtraTimeRequest:
            day = running_day(policy, at_ms)
            return ExtraTimeRequest(
                request_id=str(uuid4()),
                minutes=minutes,
                note=note,
                day=day.date,
                status=RequestStatus.OPEN,
                requested_ms=at_ms,
                expires_ms=day.ends_ms,
            )

        return await self._requests.add(
            account_id=actor.account_id,
            profile_id=profile_id,
            actor=actor.name,
            at_ms=at_ms,
            most_a_day=MOST_REQUESTS_A_DAY,
            request_for=request_for,
        )

    async def approve(self, actor: Actor, profile_id: str, request_id: str, *, at_ms: int) -> ExtraTimeRequest:
        """Give what was asked for. Repeating it gives nothing more.

        Raises:
            NotFound: there is no such request of this profile.
            AlreadyDecided: it was denied, or its day is over.
        """

        def decide(request: ExtraTimeRequest) -> tuple[ExtraTimeRequest, GrantEntry | None]:
            grant_id = str(uuid4())
            approved = request.answered(RequestStatus.APPROVED, at_ms=at_ms, grant_id=grant_id)
            entry = GrantEntry(
                grant_id=grant_id,
                minutes=request.minutes,
                day=request.day,
                granted_by=actor.name,
                is_remote=actor.is_remote,
                granted_ms=at_ms,
            )
            return approved, None if approved is request else entry

        request, policy = await self._requests.answer(
            account_id=actor.account_id,
            profile_id=profile_id,
            request_id=request_id,
            actor=actor.name,
            at_ms=at_ms,
            decide=decide,
        )
        if policy is not None:
            await self._announcements.announce(policy)
        return request

    async def deny(self, actor: Actor, profile_id: str, request_id: str, *, at_ms: int) -> ExtraTimeRequest:
        """Give nothing.

        Raises:
            NotFound: there is no such request of this profile.
            AlreadyDecided: it was approved, or its day is over.
        """
        request, _ = await self._requests.answer(
            account_id=actor.account_id,
            profile_id=profile_id,
            request_id=request_id,
            actor=actor.name,
            at_ms=at_ms,
            decide=lambda request: (request.answered(RequestStatus.DENIED, at_ms=at_ms), None),
        )
        return request

    async def entries(self, *, account_id: str, profile_id: str, most: int) -> list[ExtraTimeRequest]:
        """The newest requests of a child."""
        return await self._requests.entries(account_id=account_id, profile_id=profile_id, most=most)


def _entry(policy: Policy, actor: Actor, *, minutes: int | None, at_ms: int) -> GrantEntry:
    return GrantEntry(
        grant_id=str(uuid4()),
        minutes=minutes,
        day=running_day(policy, at_ms).date,
        granted_by=actor.name,
        is_remote=actor.is_remote,
        granted_ms=at_ms,
    )
