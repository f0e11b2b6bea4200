"""The worker process: flushes on a schedule, sweeps policies, keeps partitions ahead.

At SIGTERM it lets the running work end, writes everything that is left, frees the lock and goes.
"""

import asyncio
import contextlib
import signal
from collections.abc import Awaitable, Callable

import structlog
import uvloop
from apscheduler.schedulers.asyncio import AsyncIOScheduler

from app import metrics
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.logs import configure_logs
from app.settings import Settings, load_settings
from app.wiring import WorkerServices, open_worker

log = structlog.get_logger(__name__)
_PARTITION_HOURS = 6
_REPORT_MINUTES = 20
_CYCLES_AT_ONCE = 10
_DRAIN_PAUSE_SECONDS = 0.1
_ERASURE_SECONDS = 60
_RETENTION_HOURS = 1


class Worker:
    """The jobs of the worker, each running at most once at a time."""

    def __init__(self, services: WorkerServices, *, longest_lag_seconds: float) -> None:
        self._services = services
        self._longest_lag_seconds = longest_lag_seconds
        self._busy = asyncio.Lock()
        self._is_behind = False

    async def flush(self) -> None:
        """A cycle, and at once some more where somebody has waited too long."""
        async with self._busy:
            for _ in range(_CYCLES_AT_ONCE):
                self._is_behind = False
                await self._attempt(self._flush_once)
                if not self._is_behind:
                    return

    async def sweep(self) -> None:
        """Put recently changed policies into Redis once more: a crash after their commit may have kept them out."""
        await self._attempt(self._services.sweep)

    async def partition(self) -> None:
        await self._attempt(self._services.make_partitions)

    async def prepare(self) -> None:
        """Prepare the weekly reports that are due."""
        await self._attempt(self._services.prepare_reports)

    async def remove_erased(self) -> None:
        """Remove from Redis what is kept of those who were erased lately."""
        await self._attempt(self._services.remove_erased)

    async def retain(self) -> None:
        """Remove what has been kept long enough."""
        await self._attempt(self._services.retain)

    async def drain(self) -> None:
        """Write everything, again and again until nothing is left, whatever is away; the caller bounds the time."""
        async with self._busy:
            while not await self._is_drained():  # noqa: ASYNC110  nobody tells us when a server is back
                await asyncio.sleep(_DRAIN_PAUSE_SECONDS)

    async def _is_drained(self) -> bool:
        """Write what is left; whether nothing is, or another flusher sees to it."""
        flusher = self._services.flusher
        try:
            return (await flusher.backlog()).is_empty or not (await flusher.drain()).was_ours
        except (CountersUnavailable, DatabaseUnavailable):
            return False

    async def _flush_once(self) -> None:
        """One cycle, and what is left after it in the metrics."""
        flushed = await self._services.flusher.cycle()
        metrics.FLUSHED.inc(flushed.entries)
        metrics.PARKED.inc(flushed.parked)
        metrics.POSTPONED.inc(flushed.postponed)
        if flushed.was_ours:
            backlog = await self._services.flusher.backlog()
            metrics.FLUSH_LAG.set(backlog.lag_seconds)
            metrics.BACKLOG.labels("children").set(backlog.children)
            metrics.BACKLOG.labels("closed").set(backlog.closed)
            self._is_behind = backlog.lag_seconds > self._longest_lag_seconds and not flushed.postponed

    async def _attempt(self, job: Callable[[], Awaitable[object]]) -> None:
        """A server that is away is no reason to stop: nothing was lost, and the next run goes on."""
        try:
            await job()
        except (CountersUnavailable, DatabaseUnavailable) as error:
            metrics.FLUSH_FAILURES.inc()
            log.warning("job_postponed", job=job.__name__, reason=error.code)
        except Exception:  # a defect: told by the scheduler, and tried again in time
            metrics.FLUSH_FAILURES.inc()
            raise


async def run(settings: Settings) -> None:
    """Work until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with open_worker(settings) as services:
        worker = Worker(services, longest_lag_seconds=settings.flush_age_seconds + settings.flush_cycle_seconds)
        await worker.partition()
        scheduler = AsyncIOScheduler(
            timezone="UTC", job_defaults={"misfire_grace_time": None, "coalesce": True, "max_instances": 1}
        )
        scheduler.add_job(worker.flush, "interval", seconds=settings.flush_cycle_seconds)
        scheduler.add_job(worker.sweep, "interval", seconds=settings.policy_sweep_seconds)
        scheduler.add_job(worker.partition, "interval", hours=_PARTITION_HOURS)
        # By the clock: a worker that is restarted often still gets to it.
        scheduler.add_job(worker.prepare, "cron", minute=f"*/{_REPORT_MINUTES}")
        scheduler.add_job(worker.retain)  # now, and then every hour
        scheduler.add_job(worker.retain, "interval", hours=_RETENTION_HOURS)
        scheduler.add_job(worker.remove_erased, "interval", seconds=_ERASURE_SECONDS)
        scheduler.start()
        log.info("worker_ready")
        await stop.wait()
        # The scheduler would cancel a running job; pausing lets it end, and draining waits for it.
        scheduler.pause()
        try:
            async with asyncio.timeout(settings.drain_seconds):
                await worker.drain()
            log.info("worker_drained")
        except TimeoutError:
            log.warning("worker_left_unflushed")
        scheduler.shutdown(wait=False)


def main() -> None:
    settings = load_settings()
    configure_logs(settings.log_level)
    with contextlib.suppress(KeyboardInterrupt):
        uvloop.run(run(settings))


if __name__ == "__main__":
    main()
