"""Counters to be flushed from Redis to PostgreSQL."""

import msgspec

from app.domain.counters import Counters


class RowRefused(Exception):
    """At least one entry can never be written as it is."""


class Unflushed(msgspec.Struct, frozen=True, gc=False):
    """Counters that PostgreSQL does not have yet.

    ``source`` names the finished session or day they belong to; it is empty for a running child's.
    """

    profile_id: str
    counters: Counters
    source: str = ""


class Backlog(msgspec.Struct, frozen=True):
    """What waits to be flushed.

    Attributes:
        children: running children with unflushed counters.
        closed: finished sessions and days.
        oldest_ms: the instant at which the oldest child became dirty, None when none is.
        at_ms: the instant of the count.
    """

    children: int
    closed: int
    oldest_ms: int | None
    at_ms: int

    @property
    def lag_seconds(self) -> float:
        return 0.0 if self.oldest_ms is None else max(0, self.at_ms - self.oldest_ms) / 1000

    @property
    def is_empty(self) -> bool:
        return not self.children and not self.closed
