"""A beat while nothing else happens: it must not wait for company."""

from app.bench import openloop
from app.bench.parts.part import Figures, Part
from app.bench.stage import Stage

PER_SECOND = 50
LONGEST_SECONDS = 10.0


def run(stage: Stage) -> Figures:
    crew = stage.open_sessions()
    stage.warm(crew)
    stage.rest()
    stage.introduce(crew)
    with stage.view.doing("lone beats"):
        probe = openloop.probe(
            crew,
            stage.viewers,
            stage.plan.guests,
            per_second=PER_SECOND,
            seconds=min(LONGEST_SECONDS, stage.plan.sample_seconds),
            connections=1,
        )
    return {name: probe[name] for name in ("p50_ms", "p99_ms", "requests", "errors")}


def summary(figures: Figures) -> str:
    return f"p50 {figures['p50_ms']:.2f} ms, p99 {figures['p99_ms']:.2f} ms"


PART = Part(name="lone_beat", run=run, summary=summary)
