"""Offline sync: what a device played without a connection is credited once it is back.

The credit is policy: PostgreSQL owns it, it shortens the allowance of its day, and every process learns of it the way
it learns of a grant. So repeating, reordering or interrupting a sync changes nothing.
"""

from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import Annotated, Protocol

import msgspec
from msgspec import Meta

from app.auth.tokens import Principal
from app.cache import TimedCache
from app.domain.offline import (
    DayUse,
    OfflineBatch,
    OfflineInterval,
    Settlement,
    Stretch,
    counted_until_ms,
    settle,
    settle_tampered,
)
from app.domain.policy import DayTerms, OfflineUse, Policy, terms_of
from app.domain.viewing_day import DAY_MS, LONG_ABSENCE_MS, ViewingDay
from app.errors import CountersUnavailable, InvalidInput
from app.instants import ms_of
from app.requests import require_printable
from app.viewing.counting import Counting
from app.viewing.policies import PolicyCache
from app.viewing.ports import PolicyAnnouncer, PolicyReader
from app.viewing.schemas import BalanceAnswer, Id, Text64, Text100, seconds
from app.viewing.service import ViewingService

_LARGEST_CLOCK_ERROR_MS = 300_000
_OLDEST_MS = LONG_ABSENCE_MS
"""Viewing days are certain so far back, whatever changes of zone and reset hour came since."""
MAX_INTERVALS = 500

Instant = Annotated[datetime, Meta(tz=True)]


class IntervalRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A stretch of playback by the device's clock."""

    title_id: Text64
    started_at: Instant
    ended_at: Instant
    watched_seconds: Annotated[float, Meta(ge=0, le=_OLDEST_MS // 1000)]


class OfflineSyncRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``last_server_time`` is the server's time at the last contact; ``device_now`` the device's clock at sending."""

    profile_id: Id
    device_id: Text100
    batch_id: Text64
    device_now: Instant
    last_server_time: Instant
    intervals: Annotated[list[IntervalRequest], Meta(max_length=MAX_INTERVALS)]


class OfflineSyncAnswer(msgspec.Struct, frozen=True):
    batch_id: str
    credited_seconds: list[float]
    tampered: bool
    balance: BalanceAnswer


class OfflineLedger(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def stored(self, profile_id: str, batch_id: str) -> tuple[tuple[int, ...], bool] | None:
        """The credit of a batch that was synced before, and whether it was tampered with."""
        ...

    async def apply(
        self,
        batch: OfflineBatch,
        *,
        settle: Callable[[Sequence[Stretch], dict[int, DayUse]], Settlement],
        terms_of: Callable[[OfflineUse], DayTerms],
    ) -> tuple[tuple[int, ...], bool]:
        """Credit a batch once."""
        ...


class OfflineSync:
    """Credits offline playback."""

    def __init__(
        self,
        *,
        ledger: OfflineLedger,
        viewing: ViewingService,
        counting: Counting,
        titles: TimedCache[str, bool | None],
        policies: PolicyReader,
        announcer: PolicyAnnouncer,
        remembered: PolicyCache,
        weekend_days: Collection[int],
        max_gap_ms: int,
    ) -> None:
        self._ledger = ledger
        self._viewing = viewing
        self._counting = counting
        self._titles = titles
        self._policies = policies
        self._announcer = announcer
        self._remembered = remembered
        self._weekend_days = weekend_days
        self._max_gap_ms = max_gap_ms

    async def sync(self, principal: Principal, request: OfflineSyncRequest) -> OfflineSyncAnswer:
        """Credit a batch; repeating it answers the same credit.

        Raises:
            ProfileAccessDenied: not a profile of this account.
            InvalidInput: an interval ends before it begins.
            CountersUnavailable, DatabaseUnavailable: nothing was credited.
        """
        require_printable(request.device_id, "/device_id")
        require_printable(request.batch_id, "/batch_id")
        _require_sound(request.intervals)
        known = await self._viewing.owned(principal, request.profile_id)
        calendar = known.policy.calendar
        if calendar is None:  # adults are unlimited; nothing of theirs is counted
            return await self._answer(principal, request, (0,) * len(request.intervals), is_tampered=False)
        before = await self._ledger.stored(request.profile_id, request.batch_id)
        if before is not None:
            return await self._answer(principal, request, before[0], is_tampered=before[1])
        known, at_ms, live, terms = await self._counting.look(request.profile_id, known)
        closed = await self._counting.closed_stretches(request.profile_id)
        policy = known.policy
        is_tampered = _is_tampered(request, at_ms)
        intervals = await self._by_our_clock(request, policy, at_ms)
        batch = OfflineBatch(
            profile_id=request.profile_id,
            device_id=request.device_id,
            batch_id=request.batch_id,
            is_tampered=is_tampered,
            titles=tuple(interval.title_id for interval in request.intervals),
            around=(min([terms.starts_ms, *(interval.starts_ms for interval in intervals)]), at_ms),
            at_ms=at_ms,
        )
        until_ms = counted_until_ms(live, at_ms=at_ms, max_gap_ms=self._max_gap_ms)
        running = [(live.session_started_ms, until_ms)] if live.session_id else []

        def day_at(instant_ms: int) -> ViewingDay:
            return terms.day if terms.day.holds(instant_ms) else calendar.day_at(instant_ms)

        def decide(flushed: Sequence[Stretch], used: dict[int, DayUse]) -> Settlement:
            covered = [*flushed, *closed, *running]

            def use_of(day: ViewingDay) -> DayUse:
                # The running day's counters are fresher than what was flushed; its terms leave out earlier syncs.
                if day.number == terms.number:
                    return DayUse(terms.allowance_ms, live.used_ms)
                return used.get(day.number) or DayUse(self._terms(policy, day).allowance_ms, 0)

            if is_tampered:
                return settle_tampered(intervals, covered=covered, today=terms.day, use=use_of(terms.day), at_ms=at_ms)
            return settle(intervals, covered=covered, day_at=day_at, use_of=use_of)

        days: dict[int, ViewingDay] = {terms.number: terms.day}
        days |= {day.number: day for day in map(day_at, _instants(intervals))}
        credited_ms, is_tampered = await self._ledger.apply(
            batch, settle=decide, terms_of=lambda use: self._terms(policy, days[use.day_number])
        )
        await self._announce(request.profile_id)
        return await self._answer(principal, request, credited_ms, is_tampered=is_tampered)

    async def _by_our_clock(self, request: OfflineSyncRequest, policy: Policy, at_ms: int) -> list[OfflineInterval]:
        """The intervals by the server's clock, cut to what can have been: not in the future, not out of keeping."""
        shift_ms = at_ms - ms_of(request.device_now)
        oldest_ms = at_ms - _OLDEST_MS
        intervals: list[OfflineInterval] = []
        for sent in request.intervals:
            starts_ms = min(at_ms, max(oldest_ms, ms_of(sent.started_at) + shift_ms))
            ends_ms = min(at_ms, max(starts_ms, ms_of(sent.ended_at) + shift_ms))
            is_educational = bool(await self._titles.get(sent.title_id))
            watched_ms = min(round(sent.watched_seconds * 1000), ms_of(sent.ended_at) - ms_of(sent.started_at))
            intervals.append(
                OfflineInterval(
                    starts_ms=starts_ms,
                    ends_ms=ends_ms,
                    watched_ms=watched_ms,
                    is_exempt=is_educational and policy.educational_exempt,
                )
            )
        return intervals

    def _terms(self, policy: Policy, day: ViewingDay) -> DayTerms:
        return terms_of(policy, day, weekend_days=self._weekend_days)

    async def _announce(self, profile_id: str) -> None:
        """Tell every process. When that fails the sweep does it: the credit is committed."""
        try:
            policies = [policy for policy in await self._policies.load([profile_id]) if policy is not None]
            for policy in policies:
                self._remembered.require(profile_id, policy.version)  # the answer's balance must know of it
            await self._announcer.announce(policies)
        except CountersUnavailable:
            return

    async def _answer(
        self, principal: Principal, request: OfflineSyncRequest, credited_ms: Sequence[int], *, is_tampered: bool
    ) -> OfflineSyncAnswer:
        return OfflineSyncAnswer(
            batch_id=request.batch_id,
            credited_seconds=[seconds(part_ms) for part_ms in credited_ms],
            tampered=is_tampered,
            balance=await self._viewing.balance(principal, request.profile_id),
        )


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
    """The device's clock is off, or it speaks of times that cannot have been offline."""
    last_contact_ms = ms_of(request.last_server_time)
    is_off = abs(ms_of(request.device_now) - at_ms) > _LARGEST_CLOCK_ERROR_MS
    is_before_contact = any(
        ms_of(interval.started_at) < last_contact_ms - _LARGEST_CLOCK_ERROR_MS for interval in request.intervals
    )
    is_ahead = any(ms_of(i.ended_at) > ms_of(request.device_now) + _LARGEST_CLOCK_ERROR_MS for i in request.intervals)
    return is_off or is_before_contact or is_ahead or last_contact_ms > at_ms + _LARGEST_CLOCK_ERROR_MS


def _instants(intervals: Sequence[OfflineInterval]) -> list[int]:
    """Instants that touch every day of the intervals: no day is shorter than half of one."""
    return [
        instant_ms
        for interval in intervals
        for instant_ms in (*range(interval.starts_ms, interval.ends_ms, DAY_MS // 2), interval.ends_ms)
    ]
