"""A single heartbeat on an idle service: it must not wait for a batch."""

from app.lab.bench import openloop
from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.parts.part import BenchPart, Figures

PER_SECOND = 50
MAX_SECONDS = 10.0


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    stage.warm(crew)
    stage.wait_until_flushed()
    stage.warm_probes(crew)
    with stage.view.doing("lone beats"):
        probe = openloop.probe(
            crew,
            stage.viewers,
            stage.plan.probe_viewers,
            per_second=PER_SECOND,
            seconds=min(MAX_SECONDS, stage.plan.sample_seconds),
            connections=1,
        )
    return {name: probe[name] for name in ("p50_ms", "p99_ms", "requests", "errors")}


def summary(figures: Figures) -> str:
    return f"p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms"


PART = BenchPart(name="lone_beat", run=run, summary=summary)
