"""The clocks of the host."""

import pytest

from app.clock import ClockSteps, monotonic_ms


class Clocks:
    wall_ms = 1_772_452_800_000
    monotonic_ms = 5_000

    def pass_time(self, ms: int) -> None:
        self.wall_ms += ms
        self.monotonic_ms += ms


@pytest.mark.parametrize("step_ms", [-10_800_000, -600_000, -1_001, 1_001, 86_400_000])
def test_a_step_is_noticed_once(step_ms: int) -> None:
    clocks = Clocks()
    steps = ClockSteps(lambda: clocks.wall_ms, lambda: clocks.monotonic_ms)
    clocks.pass_time(3_600_000)
    assert not steps.has_stepped(), "time has passed on both"
    clocks.pass_time(500)
    clocks.wall_ms += step_ms
    assert steps.has_stepped()
    clocks.pass_time(500)
    assert not steps.has_stepped()


def test_corrections_by_less_than_a_second_are_no_step() -> None:
    clocks = Clocks()
    steps = ClockSteps(lambda: clocks.wall_ms, lambda: clocks.monotonic_ms)
    for _ in range(10):
        clocks.wall_ms += 900
        assert not steps.has_stepped()


def test_the_monotonic_clock_never_falls() -> None:
    read = [monotonic_ms() for _ in range(1000)]
    assert read == sorted(read)
