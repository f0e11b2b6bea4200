"""Was the time right on which a sampled child's decisions rested, and if not, why?

Two looks at a child's counters, about a minute apart, are a period. Over it, the counted time is compared with the
player's claim, and Redis with PostgreSQL. A period is wrong if they differ by more than ``TOLERANCE_MS``.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum

import msgspec

from app.domain.counters import Counters
from app.domain.day_usage import DayUsage

TOLERANCE_MS = 30_000
"""One interval between heartbeats: a smaller difference changes no decision before the next heartbeat."""
CLOCK_STEP_MS = 2_000
LATE_MS = 45_000
"""A heartbeat that has not come after so long is late."""


class ErrorCause(StrEnum):
    """To what an error is attributed. The first one that applies."""

    REDIS_LOSS = "redis_loss"
    """Redis has less than PostgreSQL, or than it had: it came back with older data."""
    CLOCK = "clock"
    """The clock of Redis was set within the period, or the counters lie in its future."""
    LATE_BEAT = "late_beat"
    """A heartbeat came late, and the gap was counted by other rules than the player counts by."""
    CLAIM = "claim"
    """Heartbeats came in time, and the player claims more or less than they say."""


class CounterSample(msgspec.Struct, frozen=True):
    """A child's counters at one look, and the instant (ms, by the clock of Redis)."""

    counters: Counters
    at_ms: int


class AccuracyError(msgspec.Struct, frozen=True):
    cause: ErrorCause
    off_ms: int
    """How far the counted time was off."""


def judged(
    before: CounterSample, after: CounterSample | None, kept: DayUsage | None, *, profile_id: str, clock_step_ms: int
) -> AccuracyError | None:
    """The error of a period; None if what was counted is right.

    Args:
        before: the earlier look.
        after: the later look; None if Redis has no counters any more.
        kept: the child's day as PostgreSQL had it before the later look.
        profile_id: the child.
        clock_step_ms: by how much the clock of Redis was set between the looks.
    """
    missing_ms = _missing_ms(before, after, kept, profile_id)
    if missing_ms > TOLERANCE_MS:
        return AccuracyError(ErrorCause.REDIS_LOSS, missing_ms)
    if after is None:
        return None
    if _ahead_ms(after) > TOLERANCE_MS:
        return AccuracyError(ErrorCause.CLOCK, _ahead_ms(after))
    off_ms = abs(_beyond_claim_ms(before.counters, after.counters))
    if off_ms <= TOLERANCE_MS:
        return None
    if abs(clock_step_ms) > CLOCK_STEP_MS:
        return AccuracyError(ErrorCause.CLOCK, off_ms)
    is_late = before.at_ms - before.counters.last_beat_ms > LATE_MS
    return AccuracyError(ErrorCause.LATE_BEAT if is_late else ErrorCause.CLAIM, off_ms)


def is_period(before: CounterSample, after: CounterSample | None) -> bool:
    """Whether there is something to judge: between two looks something was counted or lost, or the clock fell."""
    return after is None or after.counters.version != before.counters.version or _ahead_ms(after) > TOLERANCE_MS


def sampled(samples: Sequence[tuple[str, CounterSample]]) -> Mapping[str, CounterSample]:
    """Looks at children that watch, by profile."""
    return {profile_id: sample for profile_id, sample in samples if sample.counters.session_id}


def _ahead_ms(sample: CounterSample) -> int:
    """How far the last heartbeat lies in the future."""
    return sample.counters.last_beat_ms - sample.at_ms


def _missing_ms(before: CounterSample, after: CounterSample | None, kept: DayUsage | None, profile_id: str) -> int:
    """How much of a day that was counted is not in Redis any more.

    The counters of an erased profile are gone as well; it has no day in PostgreSQL either.
    """
    earlier = DayUsage.of(profile_id, before.counters)
    if after is None:
        return 0 if kept is None else earlier.total_ms
    now = DayUsage.of(profile_id, after.counters)
    known = [day for day in (earlier, kept) if day is not None and day.day_number == now.day_number]
    return max((now.lacks(day) for day in known), default=0)


def _beyond_claim_ms(before: Counters, after: Counters) -> int:
    """What was counted in a period beyond the claim; negative: what was claimed beyond the count.

    Pauses count by a grace that no claim knows, and time that an offline sync has credited is claimed and not counted.
    Another session begins another claim. Windows with these are not compared.
    """
    is_same = before.session_id == after.session_id and not before.has_ended
    if not is_same or before.paused_since_ms or after.paused_since_ms or before.uncounted != after.uncounted:
        return 0
    counted_ms = after.session_total_ms - before.session_total_ms
    claimed_ms = after.watched_ms - before.watched_ms
    return counted_ms - claimed_ms
