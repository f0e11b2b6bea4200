"""The sustained run: all viewers, the real mix of requests, the flusher running."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from app.lab.bench import openloop
from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Contender, Figures, Turn, figures_of, summary_of
from app.lab.bench.plan import TARGET_PER_SECOND
from app.lab.bench.samples import counted_and_calls, sample_of_worker
from app.lab.bench.service_processes import ServiceProcesses

PROBE_PER_SECOND = 250
PROBE_CONNECTIONS = 16
MAX_AT_TARGET_SECONDS = 60.0
STARTING_SECONDS = 1.0
"""Startup time of the probe while the load already runs."""
HEADROOM = 0.8
"""Latency at a rate above capacity means nothing. The rate is at most this share of full speed."""
LAG = "hourglass_flush_lag_seconds"


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    stage.warm(crew)
    counted_before, calls_before = counted_and_calls(crew.metrics)
    with _watched_lag(crew.worker_port) as lags:
        measured = stage.measure(crew, "heartbeats", Order(seconds=stage.plan.seconds, span=stage.plan.everybody))
    counted_after, calls_after = counted_and_calls(crew.metrics)
    counted, calls = counted_after - counted_before, calls_after - calls_before
    loaded = measured.loaded
    return {
        **figures_of(measured),
        "viewers": stage.plan.viewers,
        "flush_lag_s": round(max(lags, default=0.0), 1),
        "counted_share": round(counted / loaded.requests, 4),
        "beats_per_call": round(counted / max(1.0, calls), 1),
        "opening_share": round(loaded.openings / loaded.requests, 4),
        "ending_share": round(loaded.ends / loaded.requests, 4),
        "cpu_us_per_beat": measured.microseconds_each,
        "at_target": _at_target(stage, crew, loaded.per_second),
    }


def _at_target(stage: BenchEnvironment, crew: ServiceProcesses, full_speed: float) -> Figures:
    """Latency at the rate of 500,000 viewers: wrk keeps the rate, the open-loop generator measures."""
    wanted = min(TARGET_PER_SECOND, HEADROOM * full_speed)
    probed = min(PROBE_PER_SECOND, wanted / 10)
    seconds = min(MAX_AT_TARGET_SECONDS, max(stage.plan.sample_seconds, stage.plan.seconds / 5))
    order = Order(seconds=seconds + STARTING_SECONDS, span=stage.plan.everybody, per_second=wanted - probed)
    stage.warm_probes(crew)
    with (
        stage.view.doing(f"heartbeats, {wanted:,.0f} a second"),
        stage.loading(crew, order) as load,
    ):
        probe = openloop.probe(
            crew,
            stage.viewers,
            stage.plan.probe_viewers,
            per_second=probed,
            seconds=seconds,
            connections=PROBE_CONNECTIONS,
        )
        loaded = load.result()
    return {
        "wanted_per_second": round(wanted, 1),
        "per_second": round(loaded.per_second + probe["per_second"], 1),
        "errors": loaded.errors + probe["errors"],
        "error_kinds": {**{kind: count for kind, count in loaded.error_kinds.items() if count}, **probe["error_kinds"]},
        **{name: probe[name] for name in ("p50_ms", "p99_ms", "p999_ms")},
    }


@contextmanager
def _watched_lag(worker_port: int) -> Iterator[list[float]]:
    """The flush lag, read once a second."""
    seen: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(1.0):
            lag_seconds = sample_of_worker(worker_port, LAG)
            if lag_seconds is not None:
                seen.append(lag_seconds)

    thread = threading.Thread(target=watch, name="lag")
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


def summary(figures: Figures) -> str:
    target = figures["at_target"]
    return (
        f"{summary_of(figures)}; flush lag {figures['flush_lag_s']:.0f} s; "
        f"at {target['per_second']:,.0f}/s p99 {target['p99_ms']:.1f} ms"
    )


@contextmanager
def prepare(stage: BenchEnvironment) -> Iterator[Turn]:
    crew = stage.open_sessions()
    stage.warm(crew)
    yield lambda: stage.measure_with_flusher(crew, "heartbeats")


PART = BenchPart(
    name="heartbeat",
    run=run,
    summary=summary,
    contender=Contender(prepare=prepare, processes=("api", "valkey", "worker", "postgres")),
)
