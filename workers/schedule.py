"""Schedule of the worker's jobs on the monotonic clock, so that a step of the wall clock stops no job.

APScheduler only computes calendar times. Its triggers compare wall clocks, so a clock step makes it compute the next
time again.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import structlog
from apscheduler.schedulers.asyncio import AsyncIOScheduler
from apscheduler.triggers.cron import CronTrigger

from app.clock import Clock, now_ms
from app.observability import worker_metrics
from app.observability.worker_metrics import JobState
from app.timestamps import utc

log = structlog.get_logger(__name__)
_STEP_MS = 2_000
"""A larger difference between wall clock and monotonic clock is a clock step. Smaller ones are normal adjustments."""
_LOOK_SECONDS = 1.0
_GRACE_SECONDS = 30.0
_MISSED_RUNS = 3
_RETRY_SECONDS = 30.0
"""Maximum delay before a failed job is retried."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A repeated job. At most one run is active.

    Attributes:
        name: in logs and metrics.
        action: one run; an exception is a failure.
        every_seconds: time between two starts; the next run follows a longer run at once.
        minutes: for a calendar job: minutes of each hour, in cron syntax.
        starts_late: whether the first run waits for ``every_seconds``.
    """

    name: str
    action: Callable[[], Awaitable[object]]
    every_seconds: float
    minutes: str | None = None
    starts_late: bool = False

    @property
    def overdue_seconds(self) -> float:
        """The age of the last success above which the job is overdue."""
        return self.every_seconds * _MISSED_RUNS + _GRACE_SECONDS


class Schedule:
    """Runs jobs from ``start`` to ``stop``.

    Args:
        jobs: the jobs.
        failed: called after a failed run with the job's name and the error.
        succeeded: called after a successful run.
        clock: the wall clock, for the calendar.
        seconds: a monotonic clock, for intervals.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        *,
        failed: Callable[[str, Exception], Awaitable[None]],
        succeeded: Callable[[str], None],
        clock: Clock = now_ms,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._jobs = {job.name: job for job in jobs}
        self._failed = failed
        self._succeeded = succeeded
        self._clock = clock
        self._seconds = seconds
        self._started = seconds()
        self._last_success: dict[str, float] = {}
        self._running = {job.name: asyncio.Lock() for job in jobs}
        self._stopping = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._calendar = AsyncIOScheduler(
            timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )

    def states(self) -> dict[str, JobState]:
        """The current state of each job."""
        now = self._seconds()
        states = {}
        for name, job in self._jobs.items():
            age_seconds = now - self._last_success.get(name, self._started)
            states[name] = JobState(
                success_age_seconds=age_seconds,
                has_succeeded=name in self._last_success,
                is_overdue=age_seconds > job.overdue_seconds,
            )
        return states

    def start(self) -> None:
        for job in self._jobs.values():
            # Calendar and interval are independent: a failure of one does not stop the other.
            if job.minutes is not None:
                trigger = CronTrigger(minute=job.minutes, timezone="UTC")
                self._calendar.add_job(self.run_once, trigger, args=[job.name], id=job.name)
            self._tasks.append(asyncio.create_task(self._repeat(job), name=job.name))
        self._calendar.start()
        self._tasks.append(asyncio.create_task(self._watch_clock(self._apart_ms()), name="clock"))

    def stop(self) -> None:
        """Begin no further run. Active runs continue."""
        self._stopping.set()
        self._calendar.pause()

    async def close(self) -> None:
        """Cancel the active runs."""
        self.stop()
        self._calendar.shutdown(wait=False)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def run_once(self, name: str) -> bool:
        """Run a job now, unless it is running. Returns False when it failed."""
        lock = self._running[name]
        if lock.locked() or self._stopping.is_set():
            return True
        async with lock:
            try:
                await self._jobs[name].action()
            except Exception as error:  # noqa: BLE001  a job that fails is tried again in time, whatever it was
                worker_metrics.JOB_FAILURES.labels(name).inc()
                await self._failed(name, error)
                return False
            else:
                self._last_success[name] = self._seconds()
                worker_metrics.JOB_RUNS.labels(name).inc()
                self._succeeded(name)
        return True

    async def _repeat(self, job: Job) -> None:
        worker_metrics.JOB_FAILURES.labels(job.name)  # report 0 before the first failure
        if job.starts_late:
            await self._pause(job.every_seconds)
        while not self._stopping.is_set():
            began = self._seconds()
            is_well = await self.run_once(job.name)
            pause_seconds = job.every_seconds if is_well else min(job.every_seconds, _RETRY_SECONDS)
            await self._pause(began + pause_seconds - self._seconds())

    async def _pause(self, seconds: float) -> None:
        """Wait for this long, or until the schedule stops."""
        try:
            async with asyncio.timeout(max(0.0, seconds)):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _watch_clock(self, apart_ms: float) -> None:
        """Detect a step of the wall clock since the given offset, and update the calendar."""
        while not self._stopping.is_set():
            await self._pause(_LOOK_SECONDS)
            now_apart_ms = self._apart_ms()
            step_ms, apart_ms = now_apart_ms - apart_ms, now_apart_ms
            if abs(step_ms) >= _STEP_MS:
                worker_metrics.CLOCK_STEPS.inc()
                log.warning("clock_stepped", seconds=round(step_ms / 1000, 1))
                self._reckon_anew()

    def _apart_ms(self) -> float:
        """The wall clock minus the monotonic clock, in ms. It changes only when the wall clock is set."""
        return self._clock() - self._seconds() * 1000

    def _reckon_anew(self) -> None:
        now = utc(self._clock())
        for planned in self._calendar.get_jobs():
            planned.modify(next_run_time=planned.trigger.get_next_fire_time(None, now))
