"""The sustained run: every viewer, the real mix, the flusher at work."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from app.bench import openloop
from app.bench.crew import Crew
from app.bench.load import Order
from app.bench.parts.part import Figures, Part, figures_of, summary_of
from app.bench.plan import TARGET_PER_SECOND
from app.bench.samples import sample
from app.bench.stage import Stage

PROBE_PER_SECOND = 250
PROBE_CONNECTIONS = 16
LONGEST_AT_TARGET_SECONDS = 60.0
STARTING_SECONDS = 1.0
"""What the probe takes to start, while the load runs already."""
HEADROOM = 0.8
"""A rate that the machine cannot keep says nothing about latency: at most this part of full speed is asked for."""
LAG = "hourglass_flush_lag_seconds"
COUNTED = "hourglass_heartbeats_total"
CALLS = "hourglass_record_calls_total"


def run(stage: Stage) -> Figures:
    crew = stage.open_sessions()
    stage.warm(crew)
    counted, calls = sample(crew.metrics, COUNTED), sample(crew.metrics, CALLS)
    with _watched_lag(crew.metrics) as lags:
        measured = stage.measure(crew, "heartbeats", Order(seconds=stage.plan.seconds, span=stage.plan.everybody))
    counted, calls = sample(crew.metrics, COUNTED) - counted, sample(crew.metrics, CALLS) - calls
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


def _at_target(stage: Stage, crew: Crew, full_speed: float) -> Figures:
    """Latency at the rate that 500,000 viewers cause: wrk keeps the rate, a probe of ours measures."""
    wanted = min(TARGET_PER_SECOND, HEADROOM * full_speed)
    probed = min(PROBE_PER_SECOND, wanted / 10)
    seconds = min(LONGEST_AT_TARGET_SECONDS, max(stage.plan.sample_seconds, stage.plan.seconds / 5))
    order = Order(seconds=seconds + STARTING_SECONDS, span=stage.plan.everybody, per_second=wanted - probed)
    stage.introduce(crew)
    with (
        stage.view.doing(f"heartbeats, {wanted:,.0f} a second"),
        stage.loading(crew, order) as load,
    ):
        probe = openloop.probe(
            crew, stage.viewers, stage.plan.guests, per_second=probed, seconds=seconds, connections=PROBE_CONNECTIONS
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
def _watched_lag(metrics: Path) -> Iterator[list[float]]:
    """The flush lag, read once a second."""
    seen: list[float] = []
    stop = threading.Event()

    def watch() -> None:
        while not stop.wait(1.0):
            seen.append(sample(metrics, LAG))

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


PART = Part(name="heartbeat", run=run, summary=summary)
