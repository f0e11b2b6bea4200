"""A child's usage of one viewing day, to compare Redis with PostgreSQL."""

import msgspec

from app.domain.counters import Counters


class DayUsage(msgspec.Struct, frozen=True):
    """Counted time of a child on one viewing day, in ms."""

    profile_id: str
    day_number: int
    starts_ms: int
    ends_ms: int
    used_ms: int
    educational_ms: int
    overrun_ms: int

    @classmethod
    def of(cls, profile_id: str, counters: Counters) -> "DayUsage":
        return cls(
            profile_id,
            counters.day_number,
            counters.day_starts_ms,
            counters.day_ends_ms,
            counters.used_ms,
            counters.educational_ms,
            counters.overrun_ms,
        )

    @property
    def key(self) -> tuple[str, int]:
        return self.profile_id, self.day_number

    @property
    def total_ms(self) -> int:
        return self.used_ms + self.educational_ms + self.overrun_ms

    def lacks(self, other: "DayUsage | None") -> int:
        """How many ms of another tally of the same day are missing here."""
        if other is None:
            return 0
        pairs = (
            (self.used_ms, other.used_ms),
            (self.educational_ms, other.educational_ms),
            (self.overrun_ms, other.overrun_ms),
        )
        return sum(max(0, theirs - ours) for ours, theirs in pairs)

    def merged(self, other: "DayUsage | None") -> "DayUsage":
        """The larger value of each field. Counters only grow, so the larger one is right."""
        if other is None:
            return self
        return msgspec.structs.replace(
            self,
            used_ms=max(self.used_ms, other.used_ms),
            educational_ms=max(self.educational_ms, other.educational_ms),
            overrun_ms=max(self.overrun_ms, other.overrun_ms),
        )


class BufferedUsage(msgspec.Struct, frozen=True):
    """Usage in Redis.

    ``waits`` is whether it is marked for the flush, so that PostgreSQL may still have less.
    """

    tally: DayUsage
    waits: bool
