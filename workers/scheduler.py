"""The worker process: flush on a schedule, sweep policies, create partitions, prepare reports, erase.

Its port answers from the start. At SIGTERM it finishes the active runs, flushes all remaining data and releases the
leader lock.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Awaitable, Callable

import structlog
import uvloop

from app.deployment.listening import base_url, exclusive, shared
from app.deployment.preflight import ServiceRole, preflight
from app.errors import CountersUnavailable, DatabaseUnavailable, HourglassError
from app.kit.garbage import collect_rarely
from app.observability import worker_metrics
from app.observability.logs import configure_logs, log_the_uncaught
from app.observability.outages import Outages
from app.server.worker_port import WorkerPort, answering
from app.settings.settings import Settings, load_settings
from app.wiring.process import traced
from app.wiring.worker import WorkerServices, open_worker
from workers.schedule import Job, Schedule

log = structlog.get_logger(__name__)
_PARTITION_SECONDS = 6 * 3600.0
_REPORT_MINUTES = 20
_CYCLES_AT_ONCE = 10
_DRAIN_PAUSE_SECONDS = 0.1
_ERASURE_SECONDS = 60.0
_RETENTION_SECONDS = 3600.0
_CLOSE_SECONDS = 30.0
_NUMBER_SECONDS = 1.0
_DELIVER_SECONDS = 1.0
_SERVERS = {CountersUnavailable: "Redis", DatabaseUnavailable: "PostgreSQL"}


class Worker:
    """The jobs of the worker. At most one run of each is active.

    Attributes:
        holds_lock: whether this worker flushes; None before the first cycle.
    """

    def __init__(self, services: WorkerServices, *, longest_lag_seconds: float) -> None:
        self._services = services
        self._longest_lag_seconds = longest_lag_seconds
        self._busy = asyncio.Lock()
        self._is_behind = False
        self.holds_lock: bool | None = None

    def jobs(self, settings: Settings) -> list[Job]:
        """The jobs and their intervals."""
        services = self._services
        return [
            Job(name="flush", action=self.flush, every_seconds=settings.flush_cycle_seconds),
            Job(
                name="sweep_policies",
                action=services.sweep,  # a crash after a commit may have kept a policy out of Redis
                every_seconds=settings.policy_sweep_seconds,
                starts_late=True,
            ),
            Job(
                name="make_partitions",
                action=services.make_partitions,
                every_seconds=_PARTITION_SECONDS,
            ),
            Job(
                name="prepare_reports",
                action=services.prepare_reports,
                every_seconds=_REPORT_MINUTES * 60.0,
                minutes=f"*/{_REPORT_MINUTES}",
                starts_late=True,
            ),
            Job(name="retain", action=services.retain, every_seconds=_RETENTION_SECONDS),
            *self._feed_jobs(settings),
            Job(
                name="check_accuracy",
                action=self.check_accuracy,
                every_seconds=settings.accuracy_seconds,
                starts_late=True,
            ),
            Job(name="remove_erased", action=services.remove_erased, every_seconds=_ERASURE_SECONDS, starts_late=True),
        ]

    def _feed_jobs(self, settings: Settings) -> list[Job]:
        """The jobs of the event feed; none while it is off."""
        if not settings.event_feed:
            return []
        return [
            Job(name="close_usage", action=self.close_usage, every_seconds=_CLOSE_SECONDS, starts_late=True),
            Job(name="number_events", action=self._services.number_events, every_seconds=_NUMBER_SECONDS),
            Job(
                name="deliver_events",
                action=self._services.deliver_events,
                every_seconds=_DELIVER_SECONDS,
                starts_late=True,
            ),
        ]

    async def close_usage(self) -> None:
        """Tell of sessions and days that ended without a write, in the worker that flushes."""
        if self.holds_lock:
            await self._services.close_usage()

    async def check_accuracy(self) -> None:
        """Check a sample of children, in the worker that flushes."""
        if self.holds_lock:
            await self._services.check_accuracy()

    async def flush(self) -> None:
        """Run a flush cycle, and repeat it at once while the lag is too high."""
        async with self._busy:
            for _ in range(_CYCLES_AT_ONCE):
                self._is_behind = False
                await self._flush_once()
                if not self._is_behind:
                    return

    async def drain(self) -> None:
        """Flush until nothing is left, and retry errors. The caller bounds the time."""
        async with self._busy:
            while not await self._is_drained():  # noqa: ASYNC110  nobody tells us when a server is back
                await asyncio.sleep(_DRAIN_PAUSE_SECONDS)

    async def _is_drained(self) -> bool:
        """Flush the rest. Returns whether nothing is left, or another worker flushes."""
        flusher = self._services.flusher
        try:
            return (await flusher.backlog()).is_empty or not (await flusher.drain()).was_ours
        except (CountersUnavailable, DatabaseUnavailable):
            return False

    async def _flush_once(self) -> None:
        """Run one cycle and return the remaining entries."""
        flushed = await self._services.flusher.cycle()
        worker_metrics.POSTPONED.inc(flushed.postponed)
        self.holds_lock = flushed.was_ours
        if flushed.was_ours:
            backlog = await self._services.flusher.backlog()
            self._is_behind = backlog.lag_seconds > self._longest_lag_seconds and not flushed.postponed


class JobLog:
    """Logs failing jobs. An unreachable server is logged by its monitor, a defect with its traceback."""

    def __init__(self, outages: Outages, look: Callable[[], Awaitable[None]]) -> None:
        self._servers = outages
        self._look = look
        self._jobs = Outages(of="job")

    async def failed(self, name: str, error: Exception) -> None:
        """Log a failed run. It loses nothing, because the next run continues."""
        if not isinstance(error, HourglassError):
            log.error("job_failed", job=name, exc_info=error)
            return
        server = _SERVERS.get(type(error))
        if server is not None:
            await self._look()
        if server is None or not self._servers.is_away(server):
            self._jobs.away(name, error.code)

    def succeeded(self, name: str) -> None:
        self._jobs.back(name)


async def run(settings: Settings, listener: socket.socket) -> None:
    """Work until SIGTERM or SIGINT.

    Args:
        settings: settings of the deployment.
        listener: bound socket for probes and metrics.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    port = WorkerPort()
    async with answering(port, listener):
        host, number = listener.getsockname()[:2]
        log.info("worker_listening", url=base_url(host, number))
        opening = asyncio.create_task(preflight(settings, role=ServiceRole.WORKER))
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([opening, stopped], return_when=asyncio.FIRST_COMPLETED)
        if stop.is_set():
            opening.cancel()
            await asyncio.gather(opening, return_exceptions=True)
            return
        await opening
        async with traced(settings), open_worker(settings) as services:
            await _work(settings, services, port, stop)


async def _work(settings: Settings, services: WorkerServices, port: WorkerPort, stop: asyncio.Event) -> None:
    """Run the jobs until asked to stop, then flush the rest."""
    worker = Worker(services, longest_lag_seconds=settings.flush_age_seconds + settings.flush_cycle_seconds)
    told = JobLog(services.outages, services.look_at_servers)
    schedule = Schedule(worker.jobs(settings), failed=told.failed, succeeded=told.succeeded)
    await schedule.run_once("make_partitions")
    port.jobs, port.backlog, port.ping_database = schedule.states, services.flusher.backlog, services.ping_database
    port.holds_lock = lambda: worker.holds_lock
    port.phase = "working"
    collect_rarely()
    schedule.start()
    log.info("worker_ready")
    await stop.wait()
    port.phase = "draining"
    schedule.stop()  # active runs may end; draining waits for a running flush
    try:
        async with asyncio.timeout(settings.shutdown_seconds):
            await worker.drain()
        log.info("worker_drained")
    except TimeoutError:
        log.warning("worker_left_unflushed")
    await schedule.close()


def main(*, has_parent: bool = False) -> None:
    """Run the worker process.

    Args:
        has_parent: whether a supervisor holds the port.
    """
    settings = load_settings()
    configure_logs(settings.log_level, settings.log_format)
    log_the_uncaught()
    if has_parent:
        listener = shared(settings.host, settings.worker_port)
    else:
        listener = exclusive(settings.host, settings.worker_port, option="HOURGLASS_WORKER_PORT")
    with contextlib.suppress(KeyboardInterrupt), contextlib.closing(listener):
        uvloop.run(run(settings, listener))


if __name__ == "__main__":
    main()
