"""The only reader of the host's clocks. Everything else takes instants as arguments.

Usage is dated by the clock of Redis, read inside its scripts, so that API hosts whose clocks disagree still agree on
every minute. The host's wall clock dates tokens and logs. Lives of what is remembered are measured by the monotonic
clock, which no correction moves.
"""

import time
from collections.abc import Callable

_STEP_MS = 1000

Clock = Callable[[], int]
"""Answers an instant in milliseconds: since 1970-01-01 UTC, or since some moment of the past."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def monotonic_ms() -> int:
    """Milliseconds since some moment of the past; they never fall and never leap."""
    return time.monotonic_ns() // 1_000_000


class ClockSteps:
    """Detects that the wall clock was set. Deadlines that were derived from it must then be derived anew.

    Args:
        clock: the wall clock.
        monotonic: the clock to compare it with.
    """

    def __init__(self, clock: Clock, monotonic: Clock) -> None:
        self._clock = clock
        self._monotonic = monotonic
        self._ahead_ms = clock() - monotonic()

    def has_stepped(self) -> bool:
        """Whether the wall clock has moved by more than a second against the other since the last call."""
        before_ms, self._ahead_ms = self._ahead_ms, self._clock() - self._monotonic()
        return abs(self._ahead_ms - before_ms) > _STEP_MS
