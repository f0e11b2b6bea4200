"""What one place knows of a child's viewing day, for comparing places with each other."""

import msgspec

from app.domain.accounting import Live


class Tally(msgspec.Struct, frozen=True):
    """Counted time of a child on one viewing day, in ms."""

    profile_id: str
    day_number: int
    starts_ms: int
    ends_ms: int
    used_ms: int
    educational_ms: int
    overrun_ms: int

    @classmethod
    def of(cls, profile_id: str, live: Live) -> "Tally":
        return cls(
            profile_id,
            live.day_number,
            live.day_starts_ms,
            live.day_ends_ms,
            live.used_ms,
            live.educational_ms,
            live.overrun_ms,
        )

    @property
    def key(self) -> tuple[str, int]:
        return self.profile_id, self.day_number

    @property
    def total_ms(self) -> int:
        return self.used_ms + self.educational_ms + self.overrun_ms

    def lacks(self, other: "Tally | None") -> int:
        """How many ms of another tally of the same day are missing here."""
        if other is None:
            return 0
        pairs = (
            (self.used_ms, other.used_ms),
            (self.educational_ms, other.educational_ms),
            (self.overrun_ms, other.overrun_ms),
        )
        return sum(max(0, theirs - ours) for ours, theirs in pairs)

    def merged(self, other: "Tally | None") -> "Tally":
        """The larger of each: counters only grow, so whoever knows more is right."""
        if other is None:
            return self
        return msgspec.structs.replace(
            self,
            used_ms=max(self.used_ms, other.used_ms),
            educational_ms=max(self.educational_ms, other.educational_ms),
            overrun_ms=max(self.overrun_ms, other.overrun_ms),
        )


class Held(msgspec.Struct, frozen=True):
    """A tally in Redis.

    ``waits``: it is marked for the flush, so that PostgreSQL may still lack some of it.
    """

    tally: Tally
    waits: bool
