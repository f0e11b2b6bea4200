"""The worker runs one flush cycle at a time, and more at once while the lag is too high."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import pytest

from app.domain.unflushed import Backlog
from app.flushing.service import Flushed
from workers.scheduler import Worker

if TYPE_CHECKING:
    from app.wiring.worker import WorkerServices


@dataclass
class Flusher:
    """Reports the given lags, one after each cycle."""

    lags_seconds: list[float]
    postponed: int = 0
    cycles: int = field(default=0, init=False)

    async def cycle(self) -> Flushed:
        self.cycles += 1
        return Flushed(postponed=self.postponed)

    async def backlog(self) -> Backlog:
        lag_ms = int(self.lags_seconds[min(self.cycles, len(self.lags_seconds)) - 1] * 1000)
        return Backlog(children=1, closed=0, oldest_ms=1_000_000 - lag_ms, at_ms=1_000_000)


@dataclass
class Services:
    flusher: Any


@pytest.mark.parametrize(
    ("lags_seconds", "postponed", "cycles"),
    [([54], 0, 1), ([90, 70, 54, 80], 0, 3), ([90], 0, 10), ([90], 1, 1)],
    ids=["in time", "until it has caught up", "not for ever", "not against a lock"],
)
async def test_cycles_follow_at_once_while_somebody_has_waited_too_long(
    lags_seconds: list[float], postponed: int, cycles: int
) -> None:
    flusher = Flusher(lags_seconds, postponed)
    await Worker(cast("WorkerServices", Services(flusher)), longest_lag_seconds=55).flush()
    assert flusher.cycles == cycles
