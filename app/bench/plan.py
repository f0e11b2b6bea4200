"""How large a run is and how long its parts take."""

from dataclasses import dataclass
from typing import Self

FULL_VIEWERS = 500_000
QUICK_VIEWERS = 10_000
FULL_CHILDREN = 100_000
QUICK_CHILDREN = 1_000
TARGET_PER_SECOND = 16_667
"""500,000 viewers, a beat each 30 s."""
MOST_CONNECTIONS = 128
VIEWERS_A_CONNECTION = 40
"""Fewer viewers get fewer connections, so that two beats of one child never meet on the way."""
THREADS = 2
MOST_GUESTS = 2_000
LEAST_GUESTS = 200


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run.

    Attributes:
        viewers: children, each with an account and a token of its own.
        children: others, ten to an account, with a year of the past for reports.
        seconds: length of the sustained run.
        sample_seconds: length of each other load.
        warm_seconds: load before a measured one, not counted.
        workers: API processes.
    """

    viewers: int
    children: int
    seconds: float
    sample_seconds: float
    warm_seconds: float
    quick: bool
    workers: int = 2

    @classmethod
    def of(cls, *, quick: bool, viewers: int | None, seconds: float | None, children: int | None = None) -> Self:
        """The usual sizes, and what the caller wants to be different."""
        sustained = seconds or (10.0 if quick else 300.0)
        return cls(
            viewers=viewers or (QUICK_VIEWERS if quick else FULL_VIEWERS),
            children=children or (QUICK_CHILDREN if quick else FULL_CHILDREN),
            seconds=sustained,
            sample_seconds=min(sustained, 1.0 if quick else 20.0),
            warm_seconds=min(sustained / 2, 1.0 if quick else 30.0),
            quick=quick,
        )

    @property
    def everybody(self) -> range:
        return range(self.viewers)

    @property
    def guests(self) -> range:
        """Viewers beyond the others, for measurements beside the load: it never touches them."""
        return range(self.viewers, self.viewers + max(LEAST_GUESTS, min(MOST_GUESTS, self.viewers // 10)))

    @property
    def flush_scale(self) -> float:
        """How much sooner fewer viewers are flushed, so that the flusher has as much to do as with all of them."""
        return min(1.0, self.viewers / FULL_VIEWERS)


def connections_for(viewers: int) -> int:
    """How many connections so many viewers share, a multiple of the load's threads."""
    return max(2 * THREADS, min(MOST_CONNECTIONS, viewers // VIEWERS_A_CONNECTION // THREADS * THREADS))
