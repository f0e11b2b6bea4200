"""Flow 1, the heartbeat: policy from memory → one atomic count → decision → answer.

The fast path is ``prepare``, ``enqueue`` and ``try_fast_response``. It answers beats that miss nothing. ``beat`` and
``finish_slow_path`` are the slow path, one coroutine for all others. Balance and eligibility read the same counters and
use the same decision function.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import msgspec

from app.auth.external_ids import ANY_ACCOUNT, ExternalIds
from app.auth.tokens import Principal, Role
from app.clock import Clock
from app.domain.breaks import BREAK
from app.domain.counters import NO_CLAIM, Beat, Counted, Counters, Outcome, Status
from app.domain.enforcement import ALLOWED, BLOCKED, DAILY_LIMIT, Decision, not_enforced, playable_always
from app.domain.external_ids import canonical, is_uuid
from app.domain.finishing import finish_of
from app.domain.ids import SessionIds
from app.domain.markets import ENFORCE, Markets
from app.domain.opening_hours import PARENT_PAUSE, WINDOW
from app.domain.policy import DayTerms
from app.domain.tampering import Sighting
from app.domain.viewing_day import ViewingDay
from app.domain.weekly import cut
from app.errors import (
    CountersUnavailable,
    HourglassError,
    NoConfig,
    ProfileAccessDenied,
    SessionEnded,
    SessionSuperseded,
    TitleUnknown,
)
from app.http.requests import require_printable
from app.kit.batching import Callback
from app.kit.connected import connected
from app.kit.ttl_cache import TtlCache
from app.observability import metrics, tracing
from app.timestamps import rfc3339
from app.viewing.active_sessions import ActiveSessions
from app.viewing.answers import (
    adult_balance_answer,
    adult_eligibility_answer,
    adult_heartbeat_answer,
    balance_answer,
    eligibility_answer,
    heartbeat_answer,
    why_answer,
)
from app.viewing.beat_recorder import BeatRecorder
from app.viewing.beats import DecidedBeat, Prepared, PreparedAdult, PreparedBeat
from app.viewing.co_viewing import CoViewing, end_co_viewers
from app.viewing.effective_policy import EffectivePolicy
from app.viewing.leases import PlaybackLeases
from app.viewing.policy_cache import KnownPolicy, PolicyCache
from app.viewing.ports import Events, Randomness
from app.viewing.schemas import (
    BalanceAnswer,
    EligibilityAnswer,
    EndAnswer,
    EndRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    WhyAnswer,
    seconds,
)
from app.viewing.tampering import TamperWatch

_NO_SESSION = ""
_TRIES = 2
"""How often the platform's id is looked up: what is remembered of it may have been erased."""


@dataclass(frozen=True, kw_only=True)
class HeartbeatTiming:
    """The beat interval and the longest lease, in ms."""

    interval_ms: int
    lease_ms: int


class _PolicyFound(NamedTuple):
    """``request`` names the profile by our id."""

    request: HeartbeatRequest
    known: KnownPolicy
    is_new: bool


class _RunningDay(NamedTuple):
    """A child's running day as it was read, its ``terms`` within the weekly limit, and the decision on it."""

    effective: EffectivePolicy
    terms: DayTerms
    counters: Counters
    at_ms: int
    is_exempt: bool
    decision: Decision


class ViewingService:
    """Heartbeats, session ends, balances and eligibility."""

    def __init__(
        self,
        *,
        recorder: BeatRecorder,
        policies: PolicyCache,
        titles: TtlCache[str, bool | None],
        households: TtlCache[str, tuple[str, ...]],
        events: Events,
        session_ids: SessionIds,
        active_sessions: ActiveSessions,
        leases: PlaybackLeases,
        tampering: TamperWatch,
        external_ids: ExternalIds,
        timing: HeartbeatTiming,
        markets: Markets,
        clock: Clock,
        randomness: Randomness,
    ) -> None:
        self._recorder = recorder
        self._policies = policies
        self._titles = titles
        self._households = households
        self._events = events
        self._session_ids = session_ids
        self._active_sessions = active_sessions
        self.leases = leases
        self._tampering = tampering
        self._external_ids = external_ids
        self._timing = timing
        self._markets = markets
        self._clock = clock
        self._randomness = randomness
        self._co_viewing = CoViewing(prepare=self._prepared, decide=self._decided)

    # --- the fast path

    def prepare(self, principal: Principal, request: HeartbeatRequest) -> PreparedBeat | None:
        """A beat whose policy and title are remembered; None for others, for beats of adults and with co-viewers."""
        if request.co_viewers:
            return None
        known = self._policies.last_known(request.profile_id)
        if known is None:  # the platform's own id, perhaps
            resolved = self._peek_external(principal, request)
            known = None if resolved is None else self._policies.last_known(resolved)
            if resolved is None or known is None:
                return None
            request = msgspec.structs.replace(request, profile_id=resolved)
        is_educational = self._titles.peek(request.title_id)
        if is_educational is None or not known.effective.policy.is_kids or not _may_access(principal, known):
            return None
        metrics.FOUND_IN_MEMORY.count += 1
        return self._prepared_beat(known, request, is_educational=is_educational)

    def prepare_again(
        self, known: KnownPolicy, effective: EffectivePolicy, request: HeartbeatRequest, *, is_educational: bool
    ) -> PreparedBeat:
        """A beat as it was queued with an effective policy, which the known one may have replaced since."""
        queued = msgspec.structs.replace(known, effective=effective)
        ready = self._prepared_beat(queued, request, is_educational=is_educational)
        ready.known = known
        return ready

    def enqueue(self, ready: PreparedBeat, callback: Callback[Outcome]) -> None:
        """Queue a beat for the next script call. ``callback`` gets its outcome or an error.

        Raises:
            CountersUnavailable: the queue is full.
        """
        self._recorder.enqueue(ready.profile_id, ready.beat, callback)

    def try_fast_response(self, ready: PreparedBeat, outcome: Outcome) -> HeartbeatAnswer | None:
        """The answer to an ordinary beat that was counted and causes no events; None for any other."""
        if outcome.status != Status.OK or ready.asked is not None:
            return None
        known, terms = ready.known, ready.beat.days[-1]
        self._policies.confirm(known)
        effective = known.effective
        decision = self._decision_on(effective, terms, outcome, is_educational=ready.is_educational)
        if _has_events(outcome, decision, effective):
            return None
        self._count_decision(effective, decision)
        return heartbeat_answer(effective, terms, outcome, decision, is_educational=ready.is_educational)

    # --- the slow path

    async def beat(self, principal: Principal, request: HeartbeatRequest) -> HeartbeatAnswer:
        """Count any heartbeat and decide: load what is missing, count, publish events.

        Raises:
            ProfileAccessDenied, TitleUnknown, SessionSuperseded, SessionEnded: as the contract says.
            CountersUnavailable, DatabaseUnavailable: nothing was counted; the next beat credits the gap.
        """
        if request.co_viewers:
            decided = await self._co_viewing.beat(principal, request)
        else:
            decided = await self._decided(await self._prepared(principal, request))
        return await self._with_lease(decided) if request.lease else decided.answer

    async def finish_slow_path(self, ready: PreparedBeat, outcome: Outcome) -> HeartbeatAnswer:
        """The rest of ``beat`` after the first script call: resolve a miss, publish events, answer.

        Raises: as ``beat`` does.
        """
        decided = await self._finished(ready, outcome)
        asks_for_lease = ready.asked is not None and ready.asked.lease
        return await self._with_lease(decided) if asks_for_lease else decided.answer

    async def _prepared(
        self, principal: Principal, request: HeartbeatRequest, is_educational: bool | None = None
    ) -> Prepared:
        """A beat with what it needs, loaded where it is not remembered.

        Args:
            principal: the caller.
            request: the beat, without co-viewers.
            is_educational: whether the title is educational; None looks it up.
        """
        ready = self.prepare(principal, request)
        if ready is not None:
            return ready
        load = await self._load_policy(principal, request)
        request = load.request
        if is_educational is None:
            is_educational = await self._is_educational(request)
        _require_access(principal, load.known)
        if not load.known.policy.is_kids:
            return PreparedAdult(load.known.account_id, request, is_educational)
        return self._prepared_beat(load.known, request, is_educational=is_educational, is_new=load.is_new)

    async def _decided(self, ready: Prepared) -> DecidedBeat:
        """Count a prepared beat and decide. Raises: as ``beat`` does."""
        if isinstance(ready, PreparedAdult):
            return self._decided_for_adult(ready)
        with tracing.span("script record", db__system__name="redis"):  # the script call takes other beats too
            outcome = await self._recorder.submit(ready.profile_id, ready.beat)
        return await self._finished(ready, outcome)

    async def _finished(self, ready: PreparedBeat, outcome: Outcome) -> DecidedBeat:
        known, terms = ready.known, ready.beat.days[-1]
        if outcome.status == Status.OK:
            self._policies.confirm(known)
        else:
            known, terms, outcome = await self._recorder.record_until_done(
                ready.profile_id, known, ready.beat, outcome, is_new=ready.is_new
            )
            if outcome.status != Status.OK:
                raise _refusal(outcome)
        effective = known.effective
        decision = self._decision_on(effective, terms, outcome, is_educational=ready.is_educational)
        if _has_events(outcome, decision, effective):
            await self._publish_events(ready, terms, outcome, decision, effective)
        self._count_decision(effective, decision)
        answer = heartbeat_answer(effective, terms, outcome, decision, is_educational=ready.is_educational)
        if ready.asked is not None and ready.asked.position_seconds is not None:
            self._tampering.note(ready.profile_id, _sighting(ready.asked, terms, outcome))
        is_exempt = ready.is_educational and effective.policy.educational_exempt
        playable = partial(effective.playable, terms, outcome, outcome.at_ms, is_exempt, outcome.week_left_ms)
        return DecidedBeat(ready.profile_id, outcome.at_ms, decision, answer, playable)

    # --- batches of a gateway

    async def beats(
        self, principal: Principal, requests: Sequence[HeartbeatRequest]
    ) -> list[HeartbeatAnswer | HourglassError]:
        """Count many heartbeats in few calls. Answers one answer or refusal per beat, in order.

        Raises:
            CountersUnavailable: some beats were not counted. Repeating them later credits the same time.
        """
        requests = [self._under_our_id(principal, request) for request in requests]
        alone, repeated = self._split(principal, requests)
        size = self._recorder.max_batch
        chunks = [alone[first : first + size] for first in range(0, len(alone), size)]
        found = await asyncio.gather(
            *(self._beats_of_chunk(principal, [requests[place] for place in chunk]) for chunk in chunks),
            *(self._beats_in_order(principal, [requests[place] for place in places]) for places in repeated),
        )
        answer_at = {
            place: answer
            for places, answers in zip(chunks + repeated, found, strict=True)
            for place, answer in zip(places, answers, strict=True)
        }
        return [answer_at[place] for place in range(len(requests))]

    def _split(self, principal: Principal, requests: Sequence[HeartbeatRequest]) -> tuple[list[int], list[list[int]]]:
        """The positions of beats whose profiles occur in no other beat, and those of beats that must follow each other.

        Beats that share a profile, as owner or co-viewer, follow each other.
        """
        if any(request.co_viewers for request in requests):
            groups = connected([self._profiles_of(principal, request) for request in requests])
        else:
            places_of: dict[str, list[int]] = {}
            for place, request in enumerate(requests):
                places_of.setdefault(request.profile_id, []).append(place)
            groups = list(places_of.values())
        return [group[0] for group in groups if len(group) == 1], [group for group in groups if len(group) > 1]

    def _profiles_of(self, principal: Principal, request: HeartbeatRequest) -> list[str]:
        """The profile of a beat and its co-viewers, under our ids where they are known."""
        named = (msgspec.structs.replace(request, profile_id=each.profile_id) for each in request.co_viewers or ())
        return [request.profile_id, *(self._under_our_id(principal, each).profile_id for each in named)]

    def _under_our_id(self, principal: Principal, request: HeartbeatRequest) -> HeartbeatRequest:
        """A beat under our id of its profile, where that is known: all beats of a profile are to be found together."""
        if self._policies.last_known(request.profile_id) is not None or is_uuid(request.profile_id):
            return request
        resolved = self._peek_external(principal, request)
        return request if resolved is None else msgspec.structs.replace(request, profile_id=resolved)

    async def _beats_in_order(
        self, principal: Principal, requests: Sequence[HeartbeatRequest]
    ) -> list[HeartbeatAnswer | HourglassError]:
        """Several beats of one profile. Each one waits for the answer to the one before."""
        return [await _answer_or_refusal(self.beat(principal, request)) for request in requests]

    async def _beats_of_chunk(
        self, principal: Principal, requests: Sequence[HeartbeatRequest]
    ) -> list[HeartbeatAnswer | HourglassError]:
        prepared = [self.prepare(principal, request) for request in requests]
        beats = [(ready.profile_id, ready.beat) for ready in prepared if ready is not None]
        outcomes = iter(await self._recorder.record_batch(beats))
        answers: list[HeartbeatAnswer | HourglassError | None] = []
        slow_beats: list[Awaitable[HeartbeatAnswer | HourglassError]] = []
        for ready, request in zip(prepared, requests, strict=True):
            answer: HeartbeatAnswer | HourglassError | None = None
            if ready is None:
                slow_beats.append(_answer_or_refusal(self.beat(principal, request)))
            elif isinstance(outcome := next(outcomes), CountersUnavailable):
                answer = outcome
            else:
                answer = self.try_fast_response(ready, outcome)
                if answer is None:
                    slow_beats.append(_answer_or_refusal(self.finish_slow_path(ready, outcome)))
            answers.append(answer)
        slow_answers = iter(await asyncio.gather(*slow_beats) if slow_beats else ())
        return [next(slow_answers) if answer is None else answer for answer in answers]

    async def end(self, principal: Principal, session_id: str, ending: EndRequest) -> EndAnswer:
        """End a session and those of its co-viewers. The time since the last beat is credited first.

        A repetition gets the same answer.

        Args:
            principal: the caller.
            session_id: the session.
            ending: the claim of the player, if it sent one, and the sessions of co-viewers.

        Raises:
            ProfileAccessDenied: the session was not issued to a profile of this account.
            CountersUnavailable, DatabaseUnavailable: some of the sessions have not ended.
        """
        ended = await self._end(principal, session_id, ending.watched_seconds)
        if not ending.co_viewers:
            return ended
        return await end_co_viewers(ended, ending.co_viewers, partial(self._end, principal))

    async def _end(self, principal: Principal, session_id: str, watched_seconds: float | None) -> EndAnswer:
        profile_id, issued_ms = await self._owner_of(principal, session_id)
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            self._active_sessions.ended(profile_id, session_id)
            return EndAnswer(session_id, 0.0, rfc3339(issued_ms))  # nothing else is stored of it
        beat = _end_beat(known, session_id, watched_seconds)
        _, _, outcome = await self._recorder.record(profile_id, known, beat)
        if outcome.status == Status.OK:
            total_ms, ended_ms = outcome.session_total_ms, outcome.ended_ms
        else:
            total_ms, ended_ms = await self._recorder.session_totals(profile_id, session_id, outcome)
        return EndAnswer(session_id, seconds(total_ms), rfc3339(ended_ms))

    async def balance(self, principal: Principal, profile_id: str) -> BalanceAnswer:
        """The running day of a profile."""
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            return adult_balance_answer(profile_id, at_ms=self._clock())
        day = await self._read_day(profile_id, known)
        return balance_answer(profile_id, day.effective, day.terms, day.counters, day.decision, at_ms=day.at_ms)

    async def running_day(self, principal: Principal, profile_id: str) -> tuple[ViewingDay, int]:
        """A child's running day, and the ms until it ends by the clock of the counters."""
        known = await self.owned(principal, profile_id)
        _, at_ms, _, terms = await self._recorder.read_counters(profile_id, known)
        return terms.day, terms.ends_ms - at_ms

    async def changes_ms(self, principal: Principal, profile_id: str, at_ms: int) -> tuple[int | None, bool]:
        """When playback opens or closes next for another reason than the allowance; None if that is not known.

        Also whether beats may change it: those of a child with breaks.
        """
        known = await self.owned(principal, profile_id)
        if known.effective.breaks is None:
            return known.effective.changes_ms(None, at_ms), False
        known, _, counters, _ = await self._recorder.read_counters(profile_id, known)
        return known.effective.changes_ms(counters, at_ms), True

    async def eligibility(self, principal: Principal, profile_id: str, title_id: str | None) -> EligibilityAnswer:
        """Whether a title may be started now, even if it is longer than the remaining time."""
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            return adult_eligibility_answer(profile_id, at_ms=self._clock())
        is_educational = bool(title_id and await self._titles.get(title_id))
        day = await self._read_day(profile_id, known, is_educational=is_educational, opens=True)
        return eligibility_answer(profile_id, day.terms, day.decision, is_exempt=day.is_exempt, at_ms=day.at_ms)

    async def why(self, principal: Principal, profile_id: str) -> WhyAnswer:
        """The decision on a child's running day, explained in sentences. Raises NoConfig for an adult."""
        known = await self.owned(principal, profile_id)
        if not known.policy.is_kids:
            raise NoConfig
        day = await self._read_day(profile_id, known)
        return why_answer(
            profile_id,
            day.effective,
            day.terms,
            day.counters,
            day.decision,
            at_ms=day.at_ms,
            market=self._markets.of(day.effective.policy.market),
            hints=await self._tampering.hints_of(profile_id, day.terms.number),
        )

    async def _read_day(
        self, profile_id: str, known: KnownPolicy, *, is_educational: bool = False, opens: bool = False
    ) -> _RunningDay:
        """Read the counters of a child's running day, and decide.

        Args:
            profile_id: the child.
            known: its policy.
            is_educational: whether the title is educational.
            opens: whether it would be played in another session, which finishes no title of the running one.
        """
        known, at_ms, counters, terms = await self._recorder.read_counters(profile_id, known)
        effective, is_exempt = known.effective, is_educational and known.policy.educational_exempt
        terms, left_ms = effective.within_week(terms, counters)
        decided = msgspec.structs.replace(counters, finish_until_ms=0) if opens else counters
        decision = self._decide(effective, terms, decided, at_ms, is_exempt, left_ms)
        return _RunningDay(effective, terms, counters, at_ms, is_exempt, decision)

    async def drain(self) -> None:
        """Wait for what is in flight."""
        await self._recorder.drain()
        await self._active_sessions.drain()
        await self._tampering.drain()

    # --- what a beat needs

    async def _load_policy(self, principal: Principal, request: HeartbeatRequest) -> _PolicyFound:
        """A beat under our id of its profile, with the policy of that.

        An id of ours comes before the platform's; ours that is not the caller's may still be the platform's.
        """
        found, is_new, resolved = None, False, None
        with tracing.span("load policy"):
            if is_uuid(request.profile_id):
                found, is_new, _ = await self._policies.load_with_counters(request.profile_id)
            if found is not None and _may_access(principal, found):
                return _PolicyFound(request, found, is_new)
        for _ in range(_TRIES):
            resolved = await self._external(principal, request, instead_of=resolved)
            if resolved is None:
                raise ProfileAccessDenied
            found, is_new, _ = await self._policies.load_with_counters(resolved)
            if found is not None:
                return _PolicyFound(msgspec.structs.replace(request, profile_id=resolved), found, is_new)
        raise ProfileAccessDenied

    def _peek_external(self, principal: Principal, beat: HeartbeatRequest) -> str | None:
        """Our id of the profile that the platform's id names, if that is known without asking anybody."""
        account_id: str | None = principal.account_id
        if principal.role is Role.SERVICE:
            given = beat.account_id
            account_id = ANY_ACCOUNT if given is None else self._external_ids.peek_account(canonical(given))
        return None if account_id is None else self._external_ids.peek_profile(account_id, canonical(beat.profile_id))

    async def _external(self, principal: Principal, beat: HeartbeatRequest, *, instead_of: str | None) -> str | None:
        require_printable(beat.profile_id, "/profile_id")
        account_id: str | None = principal.account_id
        if principal.role is Role.SERVICE:
            account_id = ANY_ACCOUNT if beat.account_id is None else await self._external_ids.account(beat.account_id)
        if account_id is None:
            return None
        return await self._external_ids.profile(account_id, beat.profile_id, instead_of=instead_of)

    async def _is_educational(self, request: HeartbeatRequest) -> bool:
        is_educational = await self._titles.get(request.title_id)
        if is_educational is None and request.session_id is None:
            raise TitleUnknown
        return bool(is_educational)

    def _prepared_beat(
        self, known: KnownPolicy, request: HeartbeatRequest, *, is_educational: bool, is_new: bool = False
    ) -> PreparedBeat:
        effective = known.effective
        session_id, title_seconds = request.session_id or _NO_SESSION, request.title_remaining_seconds
        beat = Beat(  # more than 15 keywords would be collected in a dictionary first
            session_id,
            _NO_SESSION if session_id else self._recorder.issue(request.profile_id, self._clock()),
            0,  # when the session id was issued is not known yet
            request.title_id,
            1 if is_educational else 0,
            1 if effective.policy.educational_exempt else 0,
            1 if request.is_paused else 0,
            0,
            _claim_ms(request.watched_seconds),
            request.device_id,
            request.device_type,
            known.version,
            effective.days,
            synced=effective.policy.synced,
            closed=effective.closed,
            week=effective.week,
            breaks=effective.breaks,
            finish=None if title_seconds is None else finish_of(effective.policy.rules, round(title_seconds * 1000)),
        )
        asked = request if request.lease or request.position_seconds is not None else None
        return PreparedBeat(request.profile_id, known, beat, is_educational, is_new, asked)

    async def named(self, principal: Principal, given: str) -> str:
        """Our id of the profile that a household names in a body, by the platform's id or ours.

        Raises:
            ProfileAccessDenied: there is none on this account.
            InvalidInput: it holds control characters.
        """
        resolved = None
        if is_uuid(given):
            known = await self._policies.get(given)
            if known is not None and _may_access(principal, known):
                return given
        require_printable(given, "/profile_id")
        for _ in range(_TRIES):
            resolved = await self._external_ids.profile(principal.account_id, given, instead_of=resolved)
            if resolved is None:
                raise ProfileAccessDenied
            if await self._policies.get(resolved) is not None:
                return resolved
        raise ProfileAccessDenied

    async def owned(self, principal: Principal, profile_id: str) -> KnownPolicy:
        """The policy of a profile of this account. Raises ProfileAccessDenied."""
        with tracing.span("load policy"):
            known = await self._policies.get(profile_id)
        if known is None:
            raise ProfileAccessDenied
        _require_access(principal, known)
        return known

    async def _owner_of(self, principal: Principal, session_id: str) -> tuple[str, int]:
        """The profile of this account to which a session id was issued, and the instant in ms."""
        likely = self._policies.latest_of(principal.account_id)
        if likely is not None and (issued_ms := self._session_ids.issued_ms(likely, session_id)) is not None:
            return likely, issued_ms
        for profile_id in await self._households.get(principal.account_id):
            if (issued_ms := self._session_ids.issued_ms(profile_id, session_id)) is not None:
                return profile_id, issued_ms
        raise ProfileAccessDenied

    # --- decision and events

    def _decision_on(
        self, effective: EffectivePolicy, terms: DayTerms, outcome: Outcome, *, is_educational: bool
    ) -> Decision:
        is_exempt = is_educational and effective.policy.educational_exempt
        left_ms = outcome.week_left_ms
        if effective.weekly is not None:
            terms = cut(terms, left_ms)
        return self._decide(effective, terms, outcome, outcome.at_ms, is_exempt, left_ms)

    async def _publish_events(
        self, ready: PreparedBeat, terms: DayTerms, outcome: Outcome, decision: Decision, effective: EffectivePolicy
    ) -> None:
        """Publish events for the child's devices. The beat is answered even if that fails."""
        try:
            if outcome.superseded_id:
                facts: dict[str, object] = {
                    "session_id": outcome.superseded_id,
                    "by": {"device_type": ready.beat.device_type},
                }
                await self._events.add(ready.profile_id, "session_superseded", facts, at_ms=outcome.at_ms)
            if has_just_blocked(outcome, decision, effective):
                facts = _facts_of_block(terms, decision)
                await self._events.add(ready.profile_id, "blocked", facts, at_ms=outcome.at_ms)
        except CountersUnavailable:
            return

    async def _with_lease(self, decided: DecidedBeat) -> HeartbeatAnswer:
        """The answer to a beat with a signed lease for its decision."""
        answer = decided.answer
        lease = await self.leases.lease(decided.profile_id, answer.session_id, decided.decision, at_ms=decided.at_ms)
        return msgspec.structs.replace(answer, playback_lease=lease)

    def _decided_for_adult(self, ready: PreparedAdult) -> DecidedBeat:
        """Adults are unlimited and have no counters. The session id still proves to whom it was issued."""
        session_id = ready.request.session_id
        if session_id is None:
            session_id = self._recorder.issue(ready.profile_id, self._clock())
        elif self._session_ids.issued_ms(ready.profile_id, session_id) is None:
            raise ProfileAccessDenied
        if ready.is_end:
            self._active_sessions.ended(ready.profile_id, session_id)
        else:
            self._active_sessions.beat(ready.request, session_id)
        metrics.BEAT_OUTCOMES.labels("adult").inc()
        interval_ms, lease_ms, at_ms = self._jittered_interval_ms(), self._timing.lease_ms, self._clock()
        answer = adult_heartbeat_answer(
            session_id, is_educational=ready.is_educational, interval_ms=interval_ms, lease_ms=lease_ms, at_ms=at_ms
        )
        decision = Decision(ALLOWED, None, None, interval_ms, lease_ms)
        return DecidedBeat(ready.profile_id, at_ms, decision, answer, partial(playable_always, at_ms))

    def _count_decision(self, effective: EffectivePolicy, decision: Decision) -> None:
        metrics.count_decision(decision.enforcement)
        if effective.enforcement != ENFORCE:
            market = self._markets.of(effective.policy.market).name
            metrics.NOT_ENFORCED.labels(market, effective.enforcement, metrics.kind_of(decision.would_be)).inc()

    def _jittered_interval_ms(self) -> int:
        """The beat interval ± 10 %, so that players do not beat in step."""
        return int(self._timing.interval_ms * (0.9 + 0.2 * self._randomness.random()))

    def _decide(  # noqa: PLR0917  every heartbeat comes here, and keywords cost
        self,
        effective: EffectivePolicy,
        terms: DayTerms,
        counted: Counted,
        at_ms: int,
        is_exempt: bool,
        week_left_ms: int,
    ) -> Decision:
        interval_ms, lease_ms = self._jittered_interval_ms(), self._timing.lease_ms
        decision = effective.decision(terms, counted, at_ms, is_exempt, week_left_ms, interval_ms, lease_ms)
        if effective.enforcement == ENFORCE:
            return decision
        return not_enforced(decision, effective.enforcement, longest_lease_ms=lease_ms)


def _end_beat(known: KnownPolicy, session_id: str, watched_seconds: float | None) -> Beat:
    return Beat(
        session_id=session_id,
        new_session_id=_NO_SESSION,
        issued_at_ms=0,
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
        closed=known.effective.closed,
        week=known.effective.week,
        breaks=known.effective.breaks,
    )


async def _answer_or_refusal(answering: Awaitable[HeartbeatAnswer]) -> HeartbeatAnswer | HourglassError:
    try:
        return await answering
    except HourglassError as error:
        return error


def _has_events(outcome: Outcome, decision: Decision, effective: EffectivePolicy) -> bool:
    """Whether the beat causes events for the child's devices."""
    return outcome.superseded_id != "" or has_just_blocked(outcome, decision, effective)


def has_just_blocked(outcome: Outcome, decision: Decision, effective: EffectivePolicy) -> bool:
    """Whether playback has ended since the beat before: what is watched nevertheless causes no further events."""
    if decision.enforcement != BLOCKED or outcome.counted_ms == 0:
        return False
    if decision.reason == BREAK and effective.breaks is not None:  # and not by the grace of a pause
        has_played = outcome.played_until_ms > outcome.at_ms - outcome.counted_ms
        return has_played and outcome.unbroken_ms - outcome.counted_ms < effective.breaks.after_ms
    hours = effective.opening_hours
    if hours is None or decision.reason not in {WINDOW, PARENT_PAUSE}:  # else a limit has just been used up
        return True
    return outcome.at_ms - outcome.counted_ms < hours.begins_at_ms(outcome.at_ms)


def _facts_of_block(terms: DayTerms, decision: Decision) -> dict[str, object]:
    """What an event tells about the end of playback. Events are kept small: the usual rule is not named."""
    facts: dict[str, object] = {"next_reset_at": rfc3339(terms.ends_ms)}
    if decision.reason != DAILY_LIMIT:
        facts["reason"] = decision.reason
    return facts


def _may_access(principal: Principal, known: KnownPolicy) -> bool:
    """A household may access its own profiles, and a gateway may access all."""
    return known.account_id == principal.account_id or principal.role is Role.SERVICE


def _require_access(principal: Principal, known: KnownPolicy) -> None:
    if not _may_access(principal, known):
        raise ProfileAccessDenied


def _sighting(request: HeartbeatRequest, terms: DayTerms, outcome: Outcome) -> Sighting:
    return Sighting(
        session_id=outcome.session_id,
        title_id=request.title_id,
        device_id=request.device_id,
        day_number=terms.number,
        at_ms=outcome.at_ms,
        position_ms=round((request.position_seconds or 0) * 1000),
        watched_ms=_claim_ms(request.watched_seconds),
        is_paused=request.is_paused,
    )


def _claim_ms(watched_seconds: float | None) -> int:
    return NO_CLAIM if watched_seconds is None else round(watched_seconds * 1000)


def _refusal(outcome: Outcome) -> HourglassError:
    facts = {"by": {"device_type": outcome.by_device_type}, "at": rfc3339(outcome.ended_ms)}
    return SessionSuperseded(extra=facts) if outcome.status == Status.SUPERSEDED else SessionEnded(extra=facts)
