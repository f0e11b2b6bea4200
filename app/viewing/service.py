"""Flow 1, the heartbeat: policy from memory → one atomic count → decision → answer.

Balance and eligibility read the same counters and decide with the same function.
"""

import asyncio
from collections.abc import Awaitable, Collection, Sequence
from dataclasses import dataclass

import msgspec

from app.auth.tokens import Principal, Role
from app.cache import TimedCache
from app.clock import Clock
from app.coalesce import Deliver
from app.domain.accounting import NO_CLAIM, Beat, Outcome, Status
from app.domain.enforcement import BLOCKED, Decision, decide
from app.domain.ids import SessionIds
from app.domain.policy import DayTerms
from app.domain.viewing_day import ViewingDay
from app.errors import (
    CountersUnavailable,
    HourglassError,
    NoConfig,
    ProfileAccessDenied,
    SessionEnded,
    SessionSuperseded,
    TitleUnknown,
)
from app.instants import rfc3339
from app.viewing.answers import (
    adult_balance_answer,
    adult_heartbeat_answer,
    balance_answer,
    eligibility_answer,
    heartbeat_answer,
    why_answer,
)
from app.viewing.concurrency import Concurrency
from app.viewing.counting import Counting
from app.viewing.policies import KnownPolicy, Met, PolicyCache, Standing
from app.viewing.ports import Events, Randomness
from app.viewing.schemas import (
    BalanceAnswer,
    EligibilityAnswer,
    EndAnswer,
    HeartbeatAnswer,
    HeartbeatRequest,
    WhyAnswer,
    seconds,
)

_NO_SESSION = ""


@dataclass(frozen=True, kw_only=True)
class Pace:
    """How often players ask, in milliseconds; and the weekdays (Monday = 0) whose days have the weekend's limit."""

    interval_ms: int
    lease_ms: int
    weekend_days: Collection[int]


class Ready(msgspec.Struct, gc=False):
    """A beat with all that deciding on it needs."""

    profile_id: str
    known: KnownPolicy
    beat: Beat
    is_educational: bool


class ViewingService:
    """Heartbeats, session ends, balances and eligibility."""

    def __init__(
        self,
        *,
        counting: Counting,
        policies: PolicyCache,
        titles: TimedCache[str, bool | None],
        households: TimedCache[str, tuple[str, ...]],
        events: Events,
        session_ids: SessionIds,
        concurrency: Concurrency,
        pace: Pace,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._counting = counting
        self._policies = policies
        self._titles = titles
        self._households = households
        self._events = events
        self._session_ids = session_ids
        self._concurrency = concurrency
        self._pace = pace
        self._clock = clock
        self._randomness = randomness

    async def beat(self, principal: Principal, request: HeartbeatRequest) -> HeartbeatAnswer:
        """Count one heartbeat and decide.

        Raises:
            ProfileAccessDenied, TitleUnknown, SessionSuperseded, SessionEnded: as the contract says.
            CountersUnavailable, DatabaseUnavailable: nothing was counted; the next beat credits the gap.
        """
        ready, is_new = self.ready(principal, request), False
        if ready is None:
            known, is_new = await self._meet(request.profile_id)
            is_educational = await self._is_educational(request)
            _require_access(principal, known)
            if not known.policy.is_kids:
                return self._adult(request, is_educational=is_educational)
            ready = self._made_ready(known, request, is_educational=is_educational)
        return await self.conclude(ready, await self._counting.submit(ready.profile_id, ready.beat), is_new=is_new)

    def ready(self, principal: Principal, request: HeartbeatRequest) -> Ready | None:
        """A child's beat whose policy and title are remembered; None for any other, for which ``beat`` is there."""
        known = self._policies.last_known(request.profile_id)
        is_educational = self._titles.peek(request.title_id)
        if (
            known is None
            or is_educational is None
            or not known.standing.policy.is_kids
            or not _may_access(principal, known)
        ):
            return None
        return self._made_ready(known, request, is_educational=is_educational)

    def meet(self, request: HeartbeatRequest, deliver: Deliver[Met]) -> None:
        """Load the policy of a beat that is not ready; the next thing is to ask again whether it is."""
        self._policies.enqueue(request.profile_id, deliver)

    def count(self, ready: Ready, deliver: Deliver[Outcome]) -> None:
        """Hand a beat to the next call. Its outcome is for ``answer_at_once``, or for ``conclude``.

        Raises:
            CountersUnavailable: too many beats wait already.
        """
        self._counting.enqueue(ready.profile_id, ready.beat, deliver)

    def answer_at_once(self, ready: Ready, outcome: Outcome) -> HeartbeatAnswer | None:
        """The answer to a beat that was counted, of which nobody else need hear; None for any other."""
        if outcome.status != Status.OK:
            return None
        known, terms = ready.known, ready.beat.days[-1]
        self._policies.confirm(known)
        standing = known.standing
        decision = self._decision_on(standing, terms, outcome, is_educational=ready.is_educational)
        if _is_news(outcome, decision):
            return None
        return heartbeat_answer(standing, terms, outcome, decision, is_educational=ready.is_educational)

    async def conclude(self, ready: Ready, outcome: Outcome, *, is_new: bool = False) -> HeartbeatAnswer:
        """The answer to a beat whatever came of it, when what the counters ask for was supplied.

        ``is_new`` as for ``Counting.settle``.

        Raises: as ``beat`` does.
        """
        known, beat, terms = ready.known, ready.beat, ready.beat.days[-1]
        if outcome.status == Status.OK:
            self._policies.confirm(known)
        else:
            known, terms, outcome = await self._counting.settle(ready.profile_id, known, beat, outcome, is_new=is_new)
            if outcome.status != Status.OK:
                raise _refusal(outcome)
        standing = known.standing
        decision = self._decision_on(standing, terms, outcome, is_educational=ready.is_educational)
        if _is_news(outcome, decision):
            await self._tell(ready, terms, outcome, decision)
        return heartbeat_answer(standing, terms, outcome, decision, is_educational=ready.is_educational)

    async def beats(
        self, principal: Principal, requests: Sequence[HeartbeatRequest]
    ) -> list[HeartbeatAnswer | HourglassError]:
        """Count many heartbeats in few calls; one answer or refusal each, in order. One bad beat spoils nothing.

        Raises:
            CountersUnavailable: not all were counted; repeating later credits the time all the same.
        """
        most = self._counting.max_batch
        chunks = [requests[first : first + most] for first in range(0, len(requests), most)]
        found = await asyncio.gather(*(self._beats_of_a_call(principal, chunk) for chunk in chunks))
        return [answer for answers in found for answer in answers]

    async def _beats_of_a_call(
        self, principal: Principal, requests: Sequence[HeartbeatRequest]
    ) -> list[HeartbeatAnswer | HourglassError]:
        prepared = [self.ready(principal, request) for request in requests]
        beats = [(ready.profile_id, ready.beat) for ready in prepared if ready is not None]
        outcomes = iter(await self._counting.count_at_once(beats))
        answers: list[HeartbeatAnswer | HourglassError | None] = []
        going_on: list[Awaitable[HeartbeatAnswer | HourglassError]] = []
        for ready, request in zip(prepared, requests, strict=True):
            answer: HeartbeatAnswer | HourglassError | None = None
            if ready is None:
                going_on.append(_answer_or_refusal(self.beat(principal, request)))
            elif isinstance(outcome := next(outcomes), CountersUnavailable):
                answer = outcome
            else:
                answer = self.answer_at_once(ready, outcome)
                if answer is None:
                    going_on.append(_answer_or_refusal(self.conclude(ready, outcome)))
            answers.append(answer)
        late = iter(await asyncio.gather(*going_on) if going_on else ())
        return [next(late) if answer is None else answer for answer in answers]

    async def end(self, principal: Principal, session_id: str, watched_seconds: float | None) -> EndAnswer:
        """End a session; time since its last beat is credited first. Repeating it answers the same.

        Raises:
            ProfileAccessDenied: the session is not one of this account's, or never was.
        """
        profile_id, issued_ms = await self._owner_of(principal, session_id)
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            self._concurrency.ended(profile_id, session_id)
            return EndAnswer(session_id, 0.0, rfc3339(issued_ms))  # all that is known of it, and the same each time
        beat = Beat(
            session_id=session_id,
            new_session_id=_NO_SESSION,
            proof_ms=0,
            title_id="",
            is_educational=0,
            is_exempt=1 if known.policy.educational_exempt else 0,
            is_paused=0,
            is_end=1,
            watched_ms=_claim_ms(watched_seconds),
            device_id="",
            device_type="",
            policy_version=known.version,
            days=known.days,
            synced=known.policy.synced,
        )
        _, _, outcome = await self._counting.count(profile_id, known, beat)
        if outcome.status == Status.OK:
            return EndAnswer(session_id, seconds(outcome.session_total_ms), rfc3339(outcome.ended_ms))
        total_ms, ended_ms = await self._counting.ending(profile_id, session_id, outcome)
        return EndAnswer(session_id, seconds(total_ms), rfc3339(ended_ms))

    async def balance(self, principal: Principal, profile_id: str) -> BalanceAnswer:
        """The running day of a profile."""
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            return adult_balance_answer(profile_id)
        known, at_ms, live, terms = await self._counting.look(profile_id, known)
        decision = self._decide(known.standing, terms, live.used_ms, at_ms, is_exempt=False)
        return balance_answer(profile_id, known.standing, terms, live, decision)

    async def running_day(self, principal: Principal, profile_id: str) -> tuple[ViewingDay, int]:
        """A child's running day, and how long it still lasts by the clock of the counters, in ms."""
        known = await self.owned(principal, profile_id)
        _, at_ms, _, terms = await self._counting.look(profile_id, known)
        return terms.day, terms.ends_ms - at_ms

    async def eligibility(self, principal: Principal, profile_id: str, title_id: str | None) -> EligibilityAnswer:
        """Whether a title may be started now. A title longer than the remaining time may."""
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            return EligibilityAnswer(profile_id, eligible=True, reason="adult")
        is_educational = bool(title_id and await self._titles.get(title_id))
        known, at_ms, live, terms = await self._counting.look(profile_id, known)
        is_exempt = is_educational and known.policy.educational_exempt
        decision = self._decide(known.standing, terms, live.used_ms, at_ms, is_exempt=is_exempt)
        return eligibility_answer(profile_id, terms, decision, is_exempt=is_exempt)

    async def why(self, principal: Principal, profile_id: str) -> WhyAnswer:
        """The decision on a child's running day, spelled out. Raises NoConfig for an adult."""
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            raise NoConfig
        known, at_ms, live, terms = await self._counting.look(profile_id, known)
        decision = self._decide(known.standing, terms, live.used_ms, at_ms, is_exempt=False)
        return why_answer(
            profile_id, known.standing, terms, live, decision, at_ms=at_ms, weekend_days=self._pace.weekend_days
        )

    async def drain(self) -> None:
        """Wait for what is in flight."""
        await self._counting.drain()
        await self._concurrency.drain()

    # --- what a beat needs

    async def _meet(self, profile_id: str) -> tuple[KnownPolicy, bool]:
        known, is_new = await self._policies.meet(profile_id)
        if known is None:
            raise ProfileAccessDenied
        return known, is_new

    async def _is_educational(self, request: HeartbeatRequest) -> bool:
        is_educational = await self._titles.get(request.title_id)
        if is_educational is None and request.session_id is None:
            raise TitleUnknown
        return bool(is_educational)

    def _made_ready(self, known: KnownPolicy, request: HeartbeatRequest, *, is_educational: bool) -> Ready:
        standing = known.standing
        session_id = request.session_id or _NO_SESSION
        beat = Beat(
            session_id=session_id,
            new_session_id=_NO_SESSION if session_id else self._counting.issue(request.profile_id, self._clock()),
            proof_ms=0,
            title_id=request.title_id,
            is_educational=1 if is_educational else 0,
            is_exempt=1 if standing.policy.educational_exempt else 0,
            is_paused=1 if request.is_paused else 0,
            is_end=0,
            watched_ms=_claim_ms(request.watched_seconds),
            device_id=request.device_id,
            device_type=request.device_type,
            policy_version=known.version,
            days=standing.days,
            synced=standing.policy.synced,
        )
        return Ready(request.profile_id, known, beat, is_educational)

    async def owned(self, principal: Principal, profile_id: str) -> KnownPolicy:
        """The policy of a profile of this account. Raises ProfileAccessDenied."""
        known = await self._policies.get(profile_id)
        if known is None:
            raise ProfileAccessDenied
        _require_access(principal, known)
        return known

    async def _owner_of(self, principal: Principal, session_id: str) -> tuple[str, int]:
        """The profile of this account to which a session id was issued, and when (ms)."""
        likely = self._policies.latest_of(principal.account_id)
        if likely is not None and (issued_ms := self._session_ids.issued_ms(likely, session_id)) is not None:
            return likely, issued_ms
        for profile_id in await self._households.get(principal.account_id):
            if (issued_ms := self._session_ids.issued_ms(profile_id, session_id)) is not None:
                return profile_id, issued_ms
        raise ProfileAccessDenied

    # --- what comes of it

    def _decision_on(self, standing: Standing, terms: DayTerms, outcome: Outcome, *, is_educational: bool) -> Decision:
        is_exempt = is_educational and standing.policy.educational_exempt
        return self._decide(standing, terms, outcome.used_ms, outcome.at_ms, is_exempt=is_exempt)

    async def _tell(self, ready: Ready, terms: DayTerms, outcome: Outcome, decision: Decision) -> None:
        """Tell the child's devices. An event that cannot be sent is no reason to refuse the beat."""
        try:
            if outcome.superseded_id:
                facts = {"session_id": outcome.superseded_id, "by": {"device_type": ready.beat.device_type}}
                await self._events.add(ready.profile_id, "session_superseded", facts, at_ms=outcome.at_ms)
            if _has_just_blocked(outcome, decision):
                facts = {"next_reset_at": rfc3339(terms.ends_ms)}
                await self._events.add(ready.profile_id, "blocked", facts, at_ms=outcome.at_ms)
        except CountersUnavailable:
            return

    def _adult(self, request: HeartbeatRequest, *, is_educational: bool) -> HeartbeatAnswer:
        """Adults are unlimited and nothing of them is counted; the id still proves whose session it is."""
        session_id = request.session_id
        if session_id is None:
            session_id = self._counting.issue(request.profile_id, self._clock())
        elif self._session_ids.issued_ms(request.profile_id, session_id) is None:
            raise ProfileAccessDenied
        self._concurrency.beat(request, session_id)
        return adult_heartbeat_answer(
            session_id,
            is_educational=is_educational,
            interval_ms=self._jittered_interval_ms(),
            lease_ms=self._pace.lease_ms,
        )

    def _jittered_interval_ms(self) -> int:
        """The beat interval ± 10 %, so that players do not beat in step."""
        return int(self._pace.interval_ms * (0.9 + 0.2 * self._randomness.random()))

    def _decide(self, standing: Standing, terms: DayTerms, used_ms: int, at_ms: int, *, is_exempt: bool) -> Decision:
        return decide(
            at_ms=at_ms,
            used_ms=used_ms,
            allowance_ms=terms.allowance_ms,
            is_exempt=is_exempt,
            day_ends_ms=terms.ends_ms,
            next_allowance_ms=standing.next_allowance_ms,
            warning_minutes=standing.policy.warning_minutes,
            interval_ms=self._jittered_interval_ms(),
            longest_lease_ms=self._pace.lease_ms,
        )


async def _answer_or_refusal(answering: Awaitable[HeartbeatAnswer]) -> HeartbeatAnswer | HourglassError:
    try:
        return await answering
    except HourglassError as error:
        return error


def _is_news(outcome: Outcome, decision: Decision) -> bool:
    """Whether the child's other devices should hear of it."""
    return outcome.superseded_id != "" or _has_just_blocked(outcome, decision)


def _has_just_blocked(outcome: Outcome, decision: Decision) -> bool:
    return decision.enforcement == BLOCKED and outcome.counted_ms > 0


def _may_access(principal: Principal, known: KnownPolicy) -> bool:
    """A household's own profiles; a gateway speaks for all of them."""
    return known.account_id == principal.account_id or principal.role is Role.SERVICE


def _require_access(principal: Principal, known: KnownPolicy) -> None:
    if not _may_access(principal, known):
        raise ProfileAccessDenied


def _claim_ms(watched_seconds: float | None) -> int:
    return NO_CLAIM if watched_seconds is None else round(watched_seconds * 1000)


def _refusal(outcome: Outcome) -> HourglassError:
    facts = {"by": {"device_type": outcome.by_device_type}, "at": rfc3339(outcome.ended_ms)}
    return SessionSuperseded(extra=facts) if outcome.status == Status.SUPERSEDED else SessionEnded(extra=facts)
