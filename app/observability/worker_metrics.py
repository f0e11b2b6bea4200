"""What only the worker knows: its jobs, what they flushed, and what still waits.

Ages and the backlog are computed when they are read. A gauge that a job sets cannot tell that this job stands still.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from app.domain.accuracy import AccuracyError, ErrorCause
from app.domain.unflushed import Backlog
from app.observability import metrics

WORKER = CollectorRegistry()
"""The worker's own registry: what counts heartbeats has no place in it."""

FLUSHED = Counter("hourglass_flushed_entries", "Entries written to PostgreSQL.", registry=WORKER)
DEAD_LETTERS = Counter(
    "hourglass_parked_rows", "Dead letters: entries that PostgreSQL can never take.", registry=WORKER
)
POSTPONED = Counter(
    "hourglass_flush_postponed", "Buckets postponed to the next cycle because of a locked row.", registry=WORKER
)
FLUSH_SECONDS = Histogram(
    "hourglass_flush_cycle_duration_seconds",
    "Duration of a flush cycle.",
    buckets=(0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0),
    registry=WORKER,
)
JOB_RUNS = Counter("hourglass_job_runs", "Successful runs of a job.", ["job"], registry=WORKER)
JOB_FAILURES = Counter("hourglass_job_failures", "Failed runs of a job.", ["job"], registry=WORKER)
ACCURACY_CHECKS = Counter(
    "hourglass_accuracy_checks", "Minutes of sampled children in which the counted time was checked.", registry=WORKER
)
ACCURACY_ERRORS = Counter(
    "hourglass_accuracy_errors",
    "Checked minutes in which the counted time was off by more than 30 s, by cause: redis_loss, clock, late_beat or"
    " claim.",
    ["cause"],
    registry=WORKER,
)
ACCURACY_ERROR_SECONDS = Counter(
    "hourglass_accuracy_error_seconds", "Seconds by which wrong minutes were off, by cause.", ["cause"], registry=WORKER
)
CLOCK_STEPS = Counter("hourglass_clock_steps", "Steps of this host's wall clock.", registry=WORKER)

WEBHOOK_ATTEMPTS = Counter(
    "hourglass_webhook_attempts",
    "Attempts to deliver an event, and events that became dead letters.",
    ["result"],
    registry=WORKER,
)
for _result in ("delivered", "failed", "dead"):  # 0 before the first attempt: an increase is seen from there
    WEBHOOK_ATTEMPTS.labels(_result)
WEBHOOK_WAITING = Gauge(
    "hourglass_webhook_waiting", "Events that a receiver has not accepted yet, by state.", ["state"], registry=WORKER
)

ProcessCollector(registry=WORKER)
PlatformCollector(registry=WORKER)
GCCollector(registry=WORKER)
for _shared in (
    metrics.COUNTERS_UNAVAILABLE,
    metrics.BREAKER_OPENED,
    metrics.REGRESSED,
    metrics.REDIS_CONCERNS,
    metrics.LOOP_LAG,
    metrics.MARKETS_FILE_USABLE,
    metrics.MARKETS_LOADED,
    metrics.LATE_ROWS,
    metrics.OLDEST_ROW,
    metrics.DATABASE_UNAVAILABLE,
    metrics.SQL_SECONDS,
    metrics.SQL_ERRORS,
    metrics.SQL_CONNECTIONS,
    metrics.REDIS_SECONDS,
    metrics.REDIS_CONNECTIONS,
    metrics.SCRIPT_SECONDS,
    metrics.BUILD,
):
    WORKER.register(_shared)


def note_webhooks(*, waiting: int, dead: int) -> None:
    """Note how many events wait for a receiver, and how many are dead letters."""
    WEBHOOK_WAITING.labels("waiting").set(waiting)
    WEBHOOK_WAITING.labels("dead").set(dead)


for _cause in ErrorCause:  # 0 before the first error
    ACCURACY_ERRORS.labels(_cause)
    ACCURACY_ERROR_SECONDS.labels(_cause)


def count_checked(error: AccuracyError | None) -> None:
    """Count a checked minute of a sampled child, and its error."""
    ACCURACY_CHECKS.inc()
    if error is not None:
        ACCURACY_ERRORS.labels(error.cause).inc()
        ACCURACY_ERROR_SECONDS.labels(error.cause).inc(error.off_ms / 1000)


@dataclass(frozen=True, kw_only=True)
class JobState:
    """How a job stands, by the monotonic clock.

    Attributes:
        success_age_seconds: since its last good end; before the first one, since the start of the process.
        has_succeeded: whether there was a good end at all.
        is_overdue: whether that is longer ago than it may be.
    """

    success_age_seconds: float
    has_succeeded: bool
    is_overdue: bool


def render_worker(jobs: Mapping[str, JobState], *, backlog: Backlog | None, holds_lock: bool | None) -> bytes:
    """The text format.

    Args:
        jobs: state of each job by its name.
        backlog: what waits now; None where Redis could not be asked, and then nothing is said about it.
        holds_lock: whether this worker is the one that flushes; None where that is not known.
    """
    metrics.publish()
    asked = CollectorRegistry()
    asked.register(_Asked(asked_families(jobs, backlog=backlog, holds_lock=holds_lock)))
    return generate_latest(WORKER) + generate_latest(asked)


def asked_families(jobs: Mapping[str, JobState], *, backlog: Backlog | None, holds_lock: bool | None) -> list[Metric]:
    """Values computed at each reading; arguments as for ``render_worker``."""
    return [*_of_jobs(jobs), *_of_backlog(backlog), *_of_lock(holds_lock=holds_lock)]


class _Asked(Collector):
    """Hands on families that were made for one scrape."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> Iterable[Metric]:
        return self._families


def _of_jobs(jobs: Mapping[str, JobState]) -> Iterator[Metric]:
    age = GaugeMetricFamily(
        "hourglass_job_last_success_age_seconds",
        "Time since a job's last success by the monotonic clock, or since the start of the worker.",
        labels=["job"],
    )
    overdue = GaugeMetricFamily(
        "hourglass_job_overdue", "1 while a job's last success is too long ago.", labels=["job"]
    )
    for name, state in jobs.items():
        age.add_metric([name], state.success_age_seconds)
        overdue.add_metric([name], float(state.is_overdue))
    yield from (age, overdue)


def _of_backlog(backlog: Backlog | None) -> Iterator[Metric]:
    if backlog is None:
        return
    yield GaugeMetricFamily("hourglass_flush_lag_seconds", "Age of the oldest dirty mark.", value=backlog.lag_seconds)
    waiting = GaugeMetricFamily("hourglass_unflushed", "Entries that wait for the flush.", labels=["kind"])
    waiting.add_metric(["children"], backlog.children)
    waiting.add_metric(["closed"], backlog.closed)
    yield waiting


def _of_lock(*, holds_lock: bool | None) -> Iterator[Metric]:
    if holds_lock is not None:
        yield GaugeMetricFamily(
            "hourglass_flush_lock_held", "1 in the worker that flushes; 0 in others.", value=float(holds_lock)
        )
