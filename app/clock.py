"""The only reader of the host's clock. Everything else takes instants as arguments.

Usage is dated by the clock of Redis, read inside its scripts, so that API hosts whose clocks disagree still agree on
every minute. The host's clock serves tokens, caches and logs.
"""

import time
from collections.abc import Callable

Clock = Callable[[], int]
"""Answers the instant in milliseconds since 1970-01-01 UTC."""


def now_ms() -> int:
    return time.time_ns() // 1_000_000
