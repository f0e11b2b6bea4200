"""Extra time: given by parents, asked for by children."""

from datetime import date
from uuid import uuid4

import msgspec

from app.domain.grants import ExtraTimeRequest, GrantEntry, RequestStatus, running_allowance, running_day
from app.domain.idempotency import IdempotencyKey
from app.domain.markets import Markets
from app.domain.pages import PageEnd
from app.domain.policy import Policy, exceeded_ms
from app.parents.announcements import Announcements
from app.parents.ports import Answer, Decide, Grants, Requests
from app.parents.used import Used, UsedTime

MAX_REQUESTS_A_DAY = 5
SAME_REQUEST_MS = 60_000
"""So soon an equal request is the same one, tapped twice."""


class Actor(msgspec.Struct, frozen=True):
    """Who acts for which account, from afar or on the player. ``caregiver_id`` is the device of a caregiver."""

    account_id: str
    name: str
    is_remote: bool = True
    caregiver_id: str | None = None


class ExtraTime(msgspec.Struct, frozen=True, kw_only=True):
    """A grant and what it leaves of the running day. ``remaining_ms`` is None when unlimited or not known.

    ``at_ms`` is the instant of which this is true; 0 in answers that a version before this one kept for repeats.
    """

    grant_id: str
    minutes: int | None
    day: date
    remaining_ms: int | None
    is_unlimited_override: bool
    covered_ms: int = 0
    at_ms: int = 0


class GrantService:
    """Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    def __init__(self, *, grants: Grants, used: UsedTime, announcements: Announcements, markets: Markets) -> None:
        self._grants = grants
        self._used = used
        self._announcements = announcements
        self._markets = markets

    async def give(
        self, actor: Actor, profile_id: str, *, minutes: int | None, key: str | None, at_ms: int
    ) -> ExtraTime:
        """Add extra time to the running day, None = no limit until it ends. With a key that was used: the first answer.

        Raises:
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
            BudgetExhausted: a caregiver has not that much left today.
        """
        used = await self._used.of(profile_id)

        async def entry_for(policy: Policy) -> GrantEntry:
            nonlocal used
            used = await self._used.again(profile_id, used)  # nobody else changes the allowance meanwhile
            return _entry(policy, actor, used, minutes=minutes, at_ms=at_ms, markets=self._markets)

        def answer_for(policy: Policy, entry: GrantEntry) -> Answer:
            answer: Answer = msgspec.to_builtins(self._extra_time(policy, entry, used, at_ms))
            return answer

        answer, policy = await self._grants.add(
            account_id=actor.account_id,
            profile_id=profile_id,
            at_ms=at_ms,
            key=None if key is None else IdempotencyKey.of(key, "grant", profile_id, minutes),
            caregiver_id=actor.caregiver_id,
            entry_for=entry_for,
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

    async def entries(
        self, *, account_id: str, profile_id: str, day: date | None, before: PageEnd | None = None, most: int
    ) -> list[GrantEntry]:
        """The newest entries of the ledger that follow ``before``, those of one viewing day if one is named."""
        return await self._grants.entries(
            account_id=account_id, profile_id=profile_id, day=day, before=before, most=most
        )

    def _extra_time(self, policy: Policy, entry: GrantEntry, used: Used, at_ms: int) -> ExtraTime:
        market = self._markets.of(policy.market)
        day = running_day(policy, at_ms, pinned=used.pinned)
        allowance = running_allowance(
            policy,
            at_ms=at_ms,
            weekend_days=market.weekend_days,
            pinned=used.pinned,
            week_left_ms=used.week_left_ms(policy, day, market),
            owed_ms=used.owed_ms(day),
        )
        return ExtraTime(
            grant_id=entry.grant_id,
            minutes=entry.minutes,
            day=entry.day,
            remaining_ms=used.remaining_ms(policy, allowance),
            is_unlimited_override=allowance.is_override,
            covered_ms=entry.covered_ms,
            at_ms=at_ms,
        )


class RequestService:
    """Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    def __init__(self, *, requests: Requests, used: UsedTime, announcements: Announcements, markets: Markets) -> None:
        self._requests = requests
        self._used = used
        self._announcements = announcements
        self._markets = markets

    async def ask(
        self, actor: Actor, profile_id: str, *, minutes: int, note: str | None, key: str | None, at_ms: int
    ) -> ExtraTimeRequest:
        """Ask for extra time on the running day.

        An equal request that is open and was made just before is answered instead: a double tap. With a key
        that was used: the first answer.

        Raises:
            TooManyRequests: there were five on one day.
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """
        used = await self._used.of(profile_id)

        def request_for(policy: Policy) -> ExtraTimeRequest:
            day = running_day(policy, at_ms, pinned=used.pinned)
            return ExtraTimeRequest(
                request_id=str(uuid4()),
                minutes=minutes,
                note=note,
                day=day.date,
                status=RequestStatus.OPEN,
                requested_ms=at_ms,
                expires_ms=day.ends_ms,
            )

        asked = await self._requests.add(
            account_id=actor.account_id,
            profile_id=profile_id,
            actor=actor.name,
            at_ms=at_ms,
            key=None if key is None else IdempotencyKey.of(key, "request", profile_id, minutes, note),
            most_a_day=MAX_REQUESTS_A_DAY,
            same_since_ms=at_ms - SAME_REQUEST_MS,
            request_for=request_for,
        )
        await self._announcements.request_made(profile_id)
        return asked

    async def approve(self, actor: Actor, profile_id: str, request_id: str, *, at_ms: int) -> ExtraTimeRequest:
        """Give what was asked for. Repeating it gives nothing more.

        Raises:
            NotFound: there is no such request of this profile.
            AlreadyDecided: it was denied, or its day is over.
            BudgetExhausted: a caregiver has not that much left today.
        """
        used = await self._used.of(profile_id)

        async def decide(request: ExtraTimeRequest, policy: Policy) -> tuple[ExtraTimeRequest, GrantEntry | None]:
            grant_id = str(uuid4())
            approved = request.answered(RequestStatus.APPROVED, at_ms=at_ms, grant_id=grant_id)
            if approved is request:
                return request, None
            now = await self._used.again(profile_id, used)
            entry = _entry(policy, actor, now, minutes=request.minutes, at_ms=at_ms, markets=self._markets)
            return approved, msgspec.structs.replace(entry, grant_id=grant_id)

        return await self._answer(actor, profile_id, request_id, decide, at_ms=at_ms)

    async def deny(self, actor: Actor, profile_id: str, request_id: str, *, at_ms: int) -> ExtraTimeRequest:
        """Give nothing.

        Raises:
            NotFound: there is no such request of this profile.
            AlreadyDecided: it was approved, or its day is over.
        """

        async def decide(request: ExtraTimeRequest, _: Policy) -> tuple[ExtraTimeRequest, GrantEntry | None]:
            return request.answered(RequestStatus.DENIED, at_ms=at_ms), None

        return await self._answer(actor, profile_id, request_id, decide, at_ms=at_ms)

    async def entries(
        self, *, account_id: str, profile_id: str, before: PageEnd | None = None, most: int
    ) -> list[ExtraTimeRequest]:
        """The newest requests of a child that follow ``before``."""
        return await self._requests.entries(account_id=account_id, profile_id=profile_id, before=before, most=most)

    async def of_account(
        self, account_id: str, *, status: RequestStatus | None, before: PageEnd | None = None, most: int, at_ms: int
    ) -> list[tuple[str, ExtraTimeRequest]]:
        """The newest requests of an account, each after its profile; those of one status if it is named."""
        return await self._requests.of_account(account_id, status=status, before=before, most=most, at_ms=at_ms)

    async def _answer(
        self, actor: Actor, profile_id: str, request_id: str, decide: Decide, *, at_ms: int
    ) -> ExtraTimeRequest:
        """Keep the answer to a request; then every process and the child hear of it."""
        answered = await self._requests.answer(
            account_id=actor.account_id,
            profile_id=profile_id,
            request_id=request_id,
            actor=actor.name,
            at_ms=at_ms,
            caregiver_id=actor.caregiver_id,
            decide=decide,
        )
        if answered.policy is not None:
            await self._announcements.announce(answered.policy)
        if answered.is_first:
            await self._announcements.request_answered(profile_id, answered.request, at_ms=at_ms)
        return answered.request


def _entry(
    policy: Policy,
    actor: Actor,
    used: Used,
    *,
    minutes: int | None,
    at_ms: int,
    markets: Markets,
) -> GrantEntry:
    """A grant for the running day. What the child is over its allowance is covered, so that it gets all its minutes."""
    day = running_day(policy, at_ms, pinned=used.pinned)
    market = markets.of(policy.market)
    over_ms = exceeded_ms(
        policy,
        day,
        used_ms=used.used_ms(policy, day),
        weekend_days=market.weekend_days,
        week_left_ms=used.week_left_ms(policy, day, market),
        owed_ms=used.owed_ms(day),
    )
    return GrantEntry(
        grant_id=str(uuid4()),
        minutes=minutes,
        covered_ms=0 if minutes is None else over_ms,
        day=day.date,
        granted_by=actor.name,
        is_remote=actor.is_remote,
        granted_ms=at_ms,
    )
