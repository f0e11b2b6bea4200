"""The worker's schedule follows the monotonic clock, and the calendar follows a changed wall clock."""

import asyncio
from dataclasses import dataclass, field
from datetime import datetime, tzinfo

import pytest
from apscheduler.schedulers import asyncio as asyncio_scheduler
from apscheduler.schedulers import base

from app.clock import now_ms
from workers.schedule import Job, Schedule

HOUR_MS = 3_600_000


@dataclass
class Told:
    """Records the callbacks of a schedule."""

    failures: list[tuple[str, str]] = field(default_factory=list)
    successes: list[str] = field(default_factory=list)

    async def failed(self, name: str, error: Exception) -> None:
        self.failures.append((name, str(error)))

    def succeeded(self, name: str) -> None:
        self.successes.append(name)


@dataclass
class SteppedClock:
    """The true wall clock, and a step on top of it."""

    step_ms: int = 0

    def __call__(self) -> int:
        return now_ms() + self.step_ms


class Counted:
    """A job that counts its runs."""

    def __init__(self, *, raises: Exception | None = None) -> None:
        self.runs = 0
        self.ran = asyncio.Event()
        self._raises = raises

    async def __call__(self) -> None:
        self.runs += 1
        self.ran.set()
        if self._raises is not None:
            raise self._raises

    async def next_run(self) -> None:
        self.ran.clear()
        await asyncio.wait_for(self.ran.wait(), timeout=10)


@pytest.mark.parametrize("step_ms", [-3 * HOUR_MS, -47 * 60_000, 24 * HOUR_MS])
async def test_jobs_go_on_whatever_the_wall_clock_does(step_ms: int) -> None:
    clock, told, action = SteppedClock(), Told(), Counted()
    schedule = Schedule(
        [Job(name="flush", action=action, every_seconds=0.01)],
        failed=told.failed,
        succeeded=told.succeeded,
        clock=clock,
    )
    schedule.start()
    await action.next_run()
    for step in (step_ms, 0):
        clock.step_ms = step
        await action.next_run()
        await action.next_run()
        assert not schedule.states()["flush"].is_overdue
    await schedule.close()
    assert told.failures == []


async def test_the_calendar_follows_a_clock_that_was_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back by three hours, a job due every 20 minutes is next due within 20 minutes of the new time."""
    clock, told = SteppedClock(), Told()

    class Stepped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> datetime:  # type: ignore[override]
            return datetime.fromtimestamp(clock() / 1000, tz)

    for module in (asyncio_scheduler, base):
        if hasattr(module, "datetime"):
            monkeypatch.setattr(module, "datetime", Stepped)
    job = Job(name="reports", action=Counted(), every_seconds=1200, minutes="*/20", starts_late=True)
    schedule = Schedule([job], failed=told.failed, succeeded=told.succeeded, clock=clock)
    schedule.start()
    try:
        for step_ms in (-3 * HOUR_MS, 24 * HOUR_MS, 0):
            clock.step_ms = step_ms
            async with asyncio.timeout(10):
                while not 0 <= _next_due_ms(schedule) - clock() <= 20 * 60_000:  # noqa: ASYNC110  nobody tells us
                    await asyncio.sleep(0.01)
    finally:
        await schedule.close()


def _next_due_ms(schedule: Schedule) -> float:
    [planned] = schedule._calendar.get_jobs()
    return float(planned.next_run_time.timestamp() * 1000)


async def test_a_job_that_does_not_end_is_overdue_by_the_monotonic_clock() -> None:
    at = 1000.0
    schedule = Schedule(
        [Job(name="flush", action=Counted(), every_seconds=5)],
        failed=Told().failed,
        succeeded=Told().succeeded,
        seconds=lambda: at,
    )
    await schedule.run_once("flush")
    at += 44
    assert not schedule.states()["flush"].is_overdue
    assert schedule.states()["flush"].success_age_seconds == 44
    at += 2
    assert schedule.states()["flush"].is_overdue


async def test_a_job_that_never_ended_is_overdue_since_the_start() -> None:
    at = 0.0
    told = Told()
    job = Job(name="flush", action=Counted(raises=RuntimeError("no")), every_seconds=5)
    schedule = Schedule([job], failed=told.failed, succeeded=told.succeeded, seconds=lambda: at)
    assert await schedule.run_once("flush") is False
    at = 46.0
    state = schedule.states()["flush"]
    assert (state.has_succeeded, state.is_overdue) == (False, True)
    assert told.failures == [("flush", "no")]


async def test_a_failing_job_holds_up_no_other() -> None:
    told, failing, sound = Told(), Counted(raises=RuntimeError("no")), Counted()
    schedule = Schedule(
        [
            Job(name="bad", action=failing, every_seconds=0.01),
            Job(name="good", action=sound, every_seconds=0.01),
        ],
        failed=told.failed,
        succeeded=told.succeeded,
    )
    schedule.start()
    for action in (failing, sound, failing, sound):
        await action.next_run()
    await schedule.close()
    assert {name for name, _ in told.failures} == {"bad"}
    assert set(told.successes) == {"good"}


async def test_after_a_stop_nothing_begins() -> None:
    told, action = Told(), Counted()
    schedule = Schedule(
        [Job(name="flush", action=action, every_seconds=0.001)], failed=told.failed, succeeded=told.succeeded
    )
    schedule.start()
    await action.next_run()
    schedule.stop()
    runs = action.runs
    await schedule.run_once("flush")
    assert action.runs == runs
    await schedule.close()
