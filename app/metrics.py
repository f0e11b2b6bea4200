"""What operators watch. Processes share one folder (``PROMETHEUS_MULTIPROC_DIR``), so that one scrape sums them all."""

from prometheus_client import REGISTRY as OWN
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

BEATS = Counter("hourglass_heartbeats", "Heartbeats handed to the counters, repeats included.")
REFUSED_CONNECTIONS = Counter("hourglass_refused_connections", "Connections beyond what a process can hold.")
SCRIPT_CALLS = Counter("hourglass_record_calls", "Script calls that counted heartbeats.")
COUNTERS_UNAVAILABLE = Counter("hourglass_counters_unavailable", "Calls that Redis did not answer in time.")
STALE_POLICIES = Counter("hourglass_stale_policies", "Policies served past their life because loading failed.")
BREAKER_OPENED = Counter("hourglass_redis_breaker_opened", "Times Redis stopped answering, as seen by a process.")
REGRESSED = Counter("hourglass_redis_regressed", "Buckets in which Redis came back with an older state.")
REDIS_CONCERNS = Gauge(
    "hourglass_redis_concern", "What is wrong with Redis: 1 while it is.", ["concern"], multiprocess_mode="mostrecent"
)
FLUSHED = Counter("hourglass_flushed_entries", "Entries written to PostgreSQL.")
PARKED = Counter("hourglass_parked_rows", "Entries that PostgreSQL can never take, set aside.")
FLUSH_FAILURES = Counter("hourglass_flush_failures", "Flush cycles that failed and will be repeated.")
POSTPONED = Counter("hourglass_flush_postponed", "Buckets left to the next cycle, because a row in them was locked.")
LOOP_LAG = Histogram(
    "hourglass_event_loop_lag_seconds",
    "By how much the event loop wakes a sleeper late.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
FLUSH_LAG = Gauge(
    "hourglass_flush_lag_seconds", "Age of the oldest unflushed running child.", multiprocess_mode="mostrecent"
)
BACKLOG = Gauge("hourglass_unflushed", "Entries that wait to be flushed.", ["kind"], multiprocess_mode="mostrecent")
LATE_ROWS = Counter("hourglass_late_rows", "Flushed rows of days that are no longer kept, refused.", ["kind"])
OLDEST_ROW = Gauge(
    "hourglass_oldest_row_age_seconds",
    "Age of the oldest row of each kind; of usage, that of the beginning of its oldest partition.",
    ["kind"],
    multiprocess_mode="mostrecent",
)


def render(*, shared: bool) -> bytes:
    """The text format; ``shared`` sums the processes of this deployment."""
    if not shared:
        return generate_latest(OWN)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
