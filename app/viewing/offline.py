"""Offline sync: credits what a device played without a connection.

The credit is part of the policy: PostgreSQL owns it, it shortens the allowance of its day, and processes learn of it as
of a grant. So repeating, reordering or interrupting a sync changes nothing.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from app.auth.tokens import Principal
from app.domain.counters import Counters, Rules, carried_into
from app.domain.offline import (
    DayUse,
    OfflineBatch,
    OfflineInterval,
    Settlement,
    Synced,
    TimeRange,
    counted_ranges,
    counted_until_ms,
    credited,
    settle,
    settle_tampered,
)
from app.domain.past_terms import PastTerms
from app.domain.policy import DayTerms, EarlierDay
from app.domain.viewing_day import LONG_ABSENCE_MS, Calendar, ViewingDay
from app.errors import CountersUnavailable, InvalidInput
from app.http.requests import require_printable
from app.kit.ttl_cache import TtlCache
from app.timestamps import ms_of
from app.viewing.beat_recorder import BeatRecorder
from app.viewing.policy_cache import KnownPolicy, PolicyCache
from app.viewing.ports import OfflineStore, PolicyAnnouncer, PolicyReader
from app.viewing.schemas import BalanceAnswer, ProfileId, Text64, Text100, seconds
from app.viewing.service import ViewingService

_MAX_CLOCK_ERROR_MS = 300_000
_OLDEST_MS = LONG_ABSENCE_MS
"""Viewing days are certain so far back, whatever changes of zone and reset hour came since."""
MAX_INTERVALS = 500
_ROUNDS = 8

Instant = Annotated[datetime, Meta(tz=True)]


class IntervalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A time range of playback. Its instants are by the clock that ``device_now`` is read from."""

    title_id: Text64
    started_at: Instant
    ended_at: Instant
    watched_seconds: Annotated[float, Meta(ge=0, le=_OLDEST_MS // 1000)]


class OfflineSyncRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A batch of offline playback. A repeat keeps ``batch_id`` and intervals and reads ``device_now`` anew.

    ``last_server_time`` is the last ``server_time`` that the device was told, ``device_now`` its clock at sending.
    """

    profile_id: ProfileId
    device_id: Text100
    batch_id: Text64
    device_now: Annotated[
        Instant,
        Meta(
            description="The device's clock as this request is sent, the same clock that dates the intervals. A device "
            "with a monotonic clock takes last_server_time plus the monotonic time since that answer, here and for the "
            "intervals. More than 5 min away from the server's own time, which is last_server_time plus the time that "
            "really passed, the batch is tampered with."
        ),
    ]
    last_server_time: Annotated[
        Instant,
        Meta(
            description="server_time of the last answer that reached the device before the first interval, unchanged; "
            "the Date header where an answer has no server_time. An interval that begins more than 5 min before it "
            "cannot have been offline: the batch is tampered with."
        ),
    ]
    intervals: Annotated[list[IntervalRequest], Meta(max_length=MAX_INTERVALS)]


class OfflineSyncAnswer(msgspec.Struct, frozen=True):
    """What a batch was credited. A tampered batch is charged to today.

    ``penalty_seconds`` is what of it did not fit into the time of today in which nothing was counted.
    """

    batch_id: str
    credited_seconds: list[float]
    tampered: bool
    penalty_seconds: float
    server_time: str
    balance: BalanceAnswer


class OfflineSync:
    """Credits offline playback."""

    def __init__(
        self,
        *,
        ledger: OfflineStore,
        viewing: ViewingService,
        recorder: BeatRecorder,
        titles: TtlCache[str, bool | None],
        policies: PolicyReader,
        announcer: PolicyAnnouncer,
        remembered: PolicyCache,
        rules: Rules,
    ) -> None:
        self._ledger = ledger
        self._viewing = viewing
        self._recorder = recorder
        self._titles = titles
        self._policies = policies
        self._announcer = announcer
        self._remembered = remembered
        self._rules = rules

    async def sync(self, principal: Principal, request: OfflineSyncRequest) -> OfflineSyncAnswer:
        """Credit a batch; repeating it answers the same credit.

        Raises:
            ProfileAccessDenied: not a profile of this account.
            InvalidInput: an interval ends before it begins.
            CountersUnavailable, DatabaseUnavailable: nothing was credited.
        """
        require_printable(request.device_id, "/device_id")
        require_printable(request.batch_id, "/batch_id")
        require_printable(request.profile_id, "/profile_id")
        _require_sound(request.intervals)
        our_id = await self._viewing.named(principal, request.profile_id)
        if our_id != request.profile_id:
            request = msgspec.structs.replace(request, profile_id=our_id)
        known = await self._viewing.owned(principal, our_id)
        calendar = known.policy.calendar
        if calendar is None:  # adults are unlimited; nothing of theirs is counted
            nothing = Synced((0,) * len(request.intervals), 0, is_tampered=False)
            return await self._answer(principal, request, nothing)
        synced = await self._ledger.stored(request.profile_id, request.batch_id)
        rounds = 0
        while synced is None:
            if rounds == _ROUNDS:
                raise CountersUnavailable("The counters of this profile are changing.", retry_after_seconds=1)
            synced, rounds = await self._settle_batch(request, known, calendar), rounds + 1
        if rounds:
            await self._announce(request.profile_id)
        return await self._answer(principal, request, synced)

    async def _settle_batch(self, request: OfflineSyncRequest, known: KnownPolicy, calendar: Calendar) -> Synced | None:
        """Settle a batch. None if something was counted meanwhile."""
        known, at_ms, counters, terms = await self._recorder.last_counters(request.profile_id, known)
        outbox = await self._recorder.outbox(request.profile_id)
        closed = [span for part in outbox for span in counted_ranges(part, until_ms=part.last_beat_ms)]
        intervals, named = await self._by_our_clock(request, at_ms)
        batch = OfflineBatch(
            profile_id=request.profile_id,
            device_id=request.device_id,
            batch_id=request.batch_id,
            is_tampered=_is_tampered(request, at_ms),
            titles=tuple(interval.title_id for interval in request.intervals),
            around=(min([terms.starts_ms, *(starts_ms for _, (starts_ms, _) in named)]), at_ms),
            at_ms=at_ms,
        )
        ended = carried_into(counters, known.days, known.effective.week).week
        running = counted_ranges(counters, until_ms=counted_until_ms(counters, at_ms=at_ms, rules=self._rules))

        def decide(flushed: Sequence[TimeRange], past: PastTerms) -> Settlement:
            days = _Days(calendar, terms, counters, past, outbox=outbox, ended=ended)
            covered = [*flushed, *closed, *running]
            if batch.is_tampered:
                return settle_tampered(
                    intervals,
                    named=named,
                    covered=covered,
                    today=terms.day,
                    day_at=days.day_at,
                    use=days.use_of(terms.day),
                    at_ms=at_ms,
                )
            return settle(intervals, covered=covered, day_at=days.day_at, use_of=days.use_of, exempt_at=past.exempt_at)

        return await self._ledger.apply(
            batch,
            settle=decide,
            reserve=lambda settlement: self._recorder.reserve(
                request.profile_id, known, counters, credited(settlement.parts)
            ),
        )

    async def _by_our_clock(
        self, request: OfflineSyncRequest, at_ms: int
    ) -> tuple[list[OfflineInterval], list[tuple[int, TimeRange]]]:
        """The intervals by the server's clock, cut to what can have been: not in the future, not out of keeping.

        Also the time ranges that they name by either clock: in a tampered batch, either clock may be right.
        """
        shift_ms = at_ms - ms_of(request.device_now)
        intervals: list[OfflineInterval] = []
        named: list[tuple[int, TimeRange]] = []
        for place, sent in enumerate(request.intervals):
            sent_ms = ms_of(sent.started_at), ms_of(sent.ended_at)
            starts_ms, ends_ms = _cut((sent_ms[0] + shift_ms, sent_ms[1] + shift_ms), at_ms)
            intervals.append(
                OfflineInterval(
                    starts_ms=starts_ms,
                    ends_ms=ends_ms,
                    watched_ms=min(round(sent.watched_seconds * 1000), sent_ms[1] - sent_ms[0]),
                    is_educational=bool(await self._titles.get(sent.title_id)),
                )
            )
            named += [(place, (starts_ms, ends_ms)), (place, _cut(sent_ms, at_ms))]
        return intervals, named

    async def _announce(self, profile_id: str) -> None:
        """Announce the new policy. If that fails, the sweep does it later: the credit is committed."""
        try:
            policies = [policy for policy in await self._policies.load([profile_id]) if policy is not None]
            for policy in policies:
                self._remembered.require_version(profile_id, policy.version)  # the answer's balance must know of it
            await self._announcer.announce(policies)
        except CountersUnavailable:
            return

    async def _answer(self, principal: Principal, request: OfflineSyncRequest, synced: Synced) -> OfflineSyncAnswer:
        balance = await self._viewing.balance(principal, request.profile_id)
        return OfflineSyncAnswer(
            batch_id=request.batch_id,
            credited_seconds=[seconds(part_ms) for part_ms in synced.credited_ms],
            tampered=synced.is_tampered,
            penalty_seconds=seconds(synced.penalty_ms),
            server_time=balance.server_time,
            balance=balance,
        )


class _Days:
    """The viewing days of a child, and how much of each is used."""

    def __init__(
        self,
        calendar: Calendar,
        running: DayTerms,
        counters: Counters,
        past: PastTerms,
        *,
        outbox: Sequence[Counters],
        ended: Sequence[EarlierDay],
    ) -> None:
        self._calendar = calendar
        self._running = running
        self._live = counters
        self._unflushed = [*outbox, counters]
        self._past = past
        self._ended = ended

    def day_at(self, at_ms: int) -> ViewingDay:
        """The day of an instant: the running one, one that was kept, or as the settings shape it."""
        if self._running.day.holds(at_ms):
            return self._running.day
        return self._past.kept_day_at(at_ms) or self._calendar.day_at(at_ms)

    def use_of(self, day: ViewingDay) -> DayUse:
        """Of each day, counters that wait for the flush are fresher than what was flushed."""
        used_ms = [each.used_ms for each in self._unflushed if each.day_number == day.number]
        owed_ms = max(self._past.owed_ms(day), self._live.owed_on(day))
        is_running = day.number == self._running.number
        terms = self._past.terms(day, ended=self._ended, is_running=is_running)
        beats_ms = max([self._past.beats_used_ms(day), *used_ms])
        return DayUse(terms, beats_ms + self._past.offline_use(day).deducted_ms, owed_ms)


def _require_sound(intervals: Sequence[IntervalRequest]) -> None:
    errors = [
        {"pointer": f"/intervals/{place}/ended_at", "detail": "must be later than started_at"}
        for place, interval in enumerate(intervals)
        if interval.ended_at <= interval.started_at
    ]
    for place, interval in enumerate(intervals):
        require_printable(interval.title_id, f"/intervals/{place}/title_id")
    if errors:
        raise InvalidInput(errors=errors)


def _is_tampered(request: OfflineSyncRequest, at_ms: int) -> bool:
    """Whether the device's clock is wrong, or an interval cannot have been offline."""
    last_contact_ms = ms_of(request.last_server_time)
    is_off = abs(ms_of(request.device_now) - at_ms) > _MAX_CLOCK_ERROR_MS
    is_before_contact = any(
        ms_of(interval.started_at) < last_contact_ms - _MAX_CLOCK_ERROR_MS for interval in request.intervals
    )
    is_ahead = any(ms_of(i.ended_at) > ms_of(request.device_now) + _MAX_CLOCK_ERROR_MS for i in request.intervals)
    return is_off or is_before_contact or is_ahead or last_contact_ms > at_ms + _MAX_CLOCK_ERROR_MS


def _cut(time_range: TimeRange, at_ms: int) -> TimeRange:
    """The part of a time range that is neither in the future nor too long ago."""
    starts_ms = min(at_ms, max(at_ms - _OLDEST_MS, time_range[0]))
    return starts_ms, min(at_ms, max(starts_ms, time_range[1]))
