"""The size of a run and the length of its parts."""

from dataclasses import dataclass
from typing import Self

FULL_VIEWERS = 500_000
QUICK_VIEWERS = 10_000
FULL_CHILDREN = 100_000
QUICK_CHILDREN = 1_000
TARGET_PER_SECOND = 16_667
"""500,000 viewers with one heartbeat every 30 s."""
MAX_CONNECTIONS = 128
VIEWERS_A_CONNECTION = 40
"""Fewer viewers get fewer connections, so that two heartbeats of a child never overlap."""
THREADS = 2
ROUNDS = 5
QUICK_ROUNDS = 3
MAX_GUESTS = 2_000
MIN_GUESTS = 200


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One run.

    Attributes:
        viewers: children, each with a separate account and token.
        children: other children for reports, ten to an account, with a year of usage.
        seconds: length of the sustained run.
        sample_seconds: length of every other load.
        warm_seconds: unmeasured load before a measured one.
        repeat: rounds in which compared parts take turns.
        compared: names of the parts that take turns; empty means all that can.
        all_rules: whether the settings of every child use every rule.
        workers: API processes.
    """

    viewers: int
    children: int
    seconds: float
    sample_seconds: float
    warm_seconds: float
    quick: bool
    repeat: int = ROUNDS
    compared: tuple[str, ...] = ()
    all_rules: bool = False
    workers: int = 2

    @classmethod
    def of(
        cls,
        *,
        quick: bool,
        viewers: int | None,
        seconds: float | None,
        children: int | None = None,
        repeat: int | None = None,
        compared: tuple[str, ...] = (),
        all_rules: bool = False,
    ) -> Self:
        """The default sizes, with the caller's changes."""
        sustained = seconds or (10.0 if quick else 300.0)
        return cls(
            viewers=viewers or (QUICK_VIEWERS if quick else FULL_VIEWERS),
            children=children or (QUICK_CHILDREN if quick else FULL_CHILDREN),
            seconds=sustained,
            sample_seconds=min(sustained, 1.0 if quick else 20.0),
            warm_seconds=min(sustained / 2, 1.0 if quick else 30.0),
            quick=quick,
            repeat=repeat or (QUICK_ROUNDS if quick else ROUNDS),
            compared=compared,
            all_rules=all_rules,
        )

    @property
    def everybody(self) -> range:
        return range(self.viewers)

    @property
    def probe_viewers(self) -> range:
        """Extra viewers for measurements beside the load, which never uses them."""
        return range(self.viewers, self.viewers + max(MIN_GUESTS, min(MAX_GUESTS, self.viewers // 10)))

    @property
    def flush_scale(self) -> float:
        """Factor by which fewer viewers are flushed sooner, so that the flusher has the same work per heartbeat."""
        return min(1.0, self.viewers / FULL_VIEWERS)


def connections_for(viewers: int) -> int:
    """Connections for this many viewers, a multiple of the load's threads."""
    return max(2 * THREADS, min(MAX_CONNECTIONS, viewers // VIEWERS_A_CONNECTION // THREADS * THREADS))
