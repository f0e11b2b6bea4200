"""What operators watch of any process, and of API processes, which share one folder: one scrape sums them all.

What only the worker knows is in ``app/observability/worker_metrics.py``; an API process does not claim it.

A heartbeat must not pay for being watched. What is observed for each is therefore counted in plain integers
(``HotCounter``, ``HotHistogram``) and published once a second, and before a scrape.

No label has values that clients choose: routes are templates, methods and codes are those we know.
"""

import platform
from bisect import bisect_left
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from app.settings.settings import share_metrics_folder

share_metrics_folder()  # the library decides when it is imported how it keeps values

from prometheus_client import REGISTRY as OWN  # noqa: E402
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess  # noqa: E402

PUBLISH_SECONDS = 1.0
LATE_SECONDS = 1.0
_REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_CALL_SECONDS = (0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

BEATS = Counter("hourglass_heartbeats", "Heartbeats sent to Redis, including repetitions.")
REFUSED_CONNECTIONS = Counter("hourglass_refused_connections", "Refused connections above the descriptor limit.")
SCRIPT_CALLS = Counter("hourglass_record_calls", "Script calls that counted heartbeats.")
COUNTERS_UNAVAILABLE = Counter("hourglass_counters_unavailable", "Calls that Redis did not answer in time.")
DATABASE_UNAVAILABLE = Counter("hourglass_database_unavailable", "Calls that PostgreSQL did not answer in time.")
STALE_POLICIES = Counter("hourglass_stale_policies", "Expired policies served after a failed load.")
BREAKER_OPENED = Counter("hourglass_redis_breaker_opened", "Openings of the circuit breaker of Redis.")
REGRESSED = Counter("hourglass_redis_regressed", "Buckets in which Redis came back with older data.")
REDIS_CONCERNS = Gauge(
    "hourglass_redis_concern", "Concerns about Redis: 1 while present.", ["concern"], multiprocess_mode="mostrecent"
)
LOOP_LAG = Histogram(
    "hourglass_event_loop_lag_seconds",
    "Delay of a timer on the event loop.",
    buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5),
)
REFUSED_TOKENS = Counter("hourglass_tokens_refused", "Refused tokens, by reason.", ["reason"])
KEY_SET_AGE = Gauge(
    "hourglass_key_set_age_seconds",
    "Time since the keys of the identity service were last fetched.",
    multiprocess_mode="mostrecent",
)
MARKETS_FILE_USABLE = Gauge(
    "hourglass_markets_file_usable",
    "0 while the markets file cannot be used, and an earlier version of it is in force; else 1, also without a file.",
    multiprocess_mode="livemin",
)
MARKETS_LOADED = Counter("hourglass_markets_loaded", "Changes of the markets file taken over, all processes summed.")
LATE_ROWS = Counter("hourglass_late_rows", "Refused rows of days that are no longer kept.", ["kind"])
OLDEST_ROW = Gauge(
    "hourglass_oldest_row_age_seconds",
    "Age of the oldest row of each kind; for usage, of the beginning of the oldest partition.",
    ["kind"],
    multiprocess_mode="mostrecent",
)
ERASURE_IN_FILES = Gauge(
    "hourglass_erasure_in_files_age_seconds",
    "Age of the oldest erasure whose keys may still be in Redis's append-only file; 0 when there is none.",
    multiprocess_mode="mostrecent",
)
REWRITES = Counter(
    "hourglass_append_only_rewrites",
    "Rewrites of Redis's append-only file after erasures, by result.",
    ["result"],
)

REQUEST_SECONDS = Histogram(
    "http_server_request_duration_seconds",
    "Time from the arrival of a request to the end of its answer; of an event stream, to its beginning.",
    ["method", "route", "status"],
    buckets=_REQUEST_SECONDS,
)
BEAT_OUTCOMES = Counter(
    "hourglass_heartbeat_outcomes",
    "Answered heartbeats, also within batches, by outcome: counted, adult, or the code of the problem.",
    ["outcome"],
)
BEAT_DECISIONS = Counter(
    "hourglass_heartbeat_decisions",
    "Decisions on heartbeats of children by enforcement; warnings of all thresholds together.",
    ["enforcement"],
)
NOT_ENFORCED = Counter(
    "hourglass_not_enforced_decisions",
    "Decisions on heartbeats that were not enforced, by market, mode (shadow or off) and the enforcement that would"
    " be; none with mode off.",
    ["market", "mode", "would_be"],
)
PLAYBACK_LEASES = Counter(
    "hourglass_playback_leases",
    "Heartbeats that asked for a signed lease, by result: signed, reused, or none.",
    ["result"],
)
TAMPER_HINTS = Counter("hourglass_tamper_hints", "Hints of tampering in heartbeats with positions, by kind.", ["kind"])
LATE_DECISIONS = Counter("hourglass_late_decisions", "Heartbeats answered more than 1 s after their arrival.")
POLICY_LOOKUPS = Counter(
    "hourglass_policy_lookups",
    "Policy look-ups by source: memory (L1), redis (L2), postgresql, or stale after a failed load.",
    ["source"],
)
POLICY_AGE = Histogram(
    "hourglass_policy_age_seconds",
    "Age of the last confirmation of the policy of a counted heartbeat.",
    buckets=(1.0, 5.0, 15.0, 30.0, 60.0, 120.0, 600.0, 3600.0),
)
ANNOUNCED_SECONDS = Histogram(
    "hourglass_policy_announcement_seconds",
    "Time from the commit of a config change until Redis has it and every heartbeat uses it.",
    buckets=_CALL_SECONDS,
)
ANNOUNCEMENTS_FAILED = Counter(
    "hourglass_policy_announcements_failed", "Config changes that did not reach Redis; the sweep repeats them."
)
SCRIPT_SECONDS = Histogram(
    "hourglass_redis_script_duration_seconds",
    "Duration of a script call, including the wait for a connection.",
    ["script"],
    buckets=_CALL_SECONDS,
)
REDIS_SECONDS = Histogram(
    "hourglass_redis_round_trip_seconds",
    "Time from sending a command to its reply; of a pipeline, to the first.",
    buckets=_CALL_SECONDS,
)
REDIS_CONNECTIONS = Gauge(
    "hourglass_redis_pool_connections",
    "Connections to Redis but those of script calls, all processes summed: in_use, and the limit.",
    ["state"],
    multiprocess_mode="livesum",
)
SQL_SECONDS = Histogram(
    "hourglass_postgresql_statement_duration_seconds", "Duration of a SQL statement.", buckets=_CALL_SECONDS
)
SQL_ERRORS = Counter("hourglass_postgresql_errors", "SQL statements that failed.")
SQL_CONNECTIONS = Gauge(
    "hourglass_postgresql_pool_connections",
    "Connections to PostgreSQL, all processes summed: in_use, and the limit.",
    ["state"],
    multiprocess_mode="livesum",
)
LOCKOUTS = Counter("hourglass_lockouts", "Attempts of a PIN or password refused after too many wrong ones.", ["kind"])
for _kind in ("pin", "password"):  # 0 before the first one: an increase is seen from there
    LOCKOUTS.labels(_kind)
EVENT_STREAMS = Gauge("hourglass_event_streams", "Open event streams.", multiprocess_mode="livesum")
BUILD = Gauge(
    "hourglass_build_info",
    "1, labelled with the running version.",
    ["version", "python"],
    multiprocess_mode="mostrecent",
)
NATIVE = Gauge(
    "hourglass_native",
    "1 if the native module answers ordinary heartbeats, 0 if Python does.",
    multiprocess_mode="livemin",
)


class HotCounter:
    """A counter that costs one addition; ``count`` is what was not published yet."""

    __slots__ = ("_child", "count")

    def __init__(self, child: Counter) -> None:
        self._child = child
        self.count = 0
        _HOT.append(self)

    def publish(self) -> None:
        count, self.count = self.count, 0
        if count:
            self._child.inc(count)


class HotHistogram:
    """A histogram that costs a search among its bounds and two additions."""

    __slots__ = ("_child", "_counts", "_sum", "bounds")

    def __init__(self, child: Histogram) -> None:
        self._child: Any = child  # its buckets are private to the library, and the only way to add many at once
        self.bounds: list[float] = child._upper_bounds  # noqa: SLF001  likewise
        self._counts = [0] * len(self.bounds)
        self._sum = 0.0
        _HOT.append(self)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self.bounds, value)] += 1
        self._sum += value

    def add(self, counts: Sequence[int], total: float) -> None:
        """Add what was observed elsewhere: how many up to each bound, and their sum."""
        self._counts = [mine + more for mine, more in zip(self._counts, counts, strict=True)]
        self._sum += total

    def publish(self) -> None:
        if not any(self._counts):
            return
        counts, total = self._counts, self._sum
        self._counts, self._sum = [0] * len(counts), 0.0
        for bucket, count in zip(self._child._buckets, counts, strict=True):  # noqa: SLF001  likewise
            if count:
                bucket.inc(count)
        self._child._sum.inc(total)  # noqa: SLF001  likewise


_HOT: list[HotCounter | HotHistogram] = []
_GAUGES: list[Callable[[], None]] = []
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_requests: dict[tuple[str, str, int], HotHistogram] = {}

POLICY_AGE_AT_USE = HotHistogram(POLICY_AGE)
FOUND_IN_MEMORY = HotCounter(POLICY_LOOKUPS.labels("memory"))
LATE_BEATS = HotCounter(LATE_DECISIONS)
COUNTED_BEATS = HotCounter(BEAT_OUTCOMES.labels("counted"))
DECIDED = {name: HotCounter(BEAT_DECISIONS.labels(name)) for name in ("allowed", "warning", "blocked")}


def observe_request(method: str, route: str, status: int, seconds: float) -> None:
    """Count a request that was answered. ``route`` is a template of ours, never what the client asked for."""
    requests_of(method, route, status).observe(seconds)


def requests_of(method: str, route: str, status: int) -> HotHistogram:
    """Where requests of one kind are counted, for those who count many."""
    key = (method if method in _METHODS else "_OTHER", route, status // 100)
    found = _requests.get(key)
    if found is None:
        found = _requests[key] = HotHistogram(REQUEST_SECONDS.labels(key[0], key[1], f"{key[2]}xx"))
    return found


def count_decision(enforcement: str) -> None:
    """Count the decision on a heartbeat that was counted."""
    COUNTED_BEATS.count += 1
    DECIDED[enforcement if enforcement in DECIDED else "warning"].count += 1


def kind_of(enforcement: str | None) -> str:
    """The label of an enforcement: one for the warnings of all thresholds, ``none`` if nothing was decided."""
    if enforcement is None:
        return "none"
    return enforcement if enforcement in DECIDED else "warning"


def count_late(seconds: float) -> None:
    """Count an answer to a heartbeat that took so long, if that was too long."""
    if seconds > LATE_SECONDS:
        LATE_BEATS.count += 1


def sample(read: Callable[[], None]) -> Callable[[], None]:
    """Have a gauge read before each publication, until what is returned is called."""
    _GAUGES.append(read)
    return lambda: _GAUGES.remove(read)


def publish() -> None:
    """Hand on what was counted since the last time."""
    for read in _GAUGES:
        read()
    for hot in _HOT:
        hot.publish()


def show_build() -> None:
    """Say which version this process runs."""
    try:
        running = version("hourglass")
    except PackageNotFoundError:  # run from a tree that is not installed
        running = "unknown"
    BUILD.labels(running, platform.python_version()).set(1)


def render(*, shared: bool) -> bytes:
    """The text format; ``shared`` sums the processes of this deployment."""
    publish()
    if not shared:
        return generate_latest(OWN)
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)
