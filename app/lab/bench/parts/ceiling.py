"""The upper bound of the machine: the same requests, answers and server without the service."""

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.parts.part import BenchPart, Figures, figures_of, summary_of
from app.lab.bench.service_processes import BASELINE


def run(stage: BenchEnvironment) -> Figures:
    stage.open_sessions()
    with stage.replace_service((BASELINE, "ceiling"), flushes=False) as crew:
        return figures_of(stage.measure_baseline(crew, "raw ASGI echo"))


PART = BenchPart(name="ceiling", run=run, summary=summary_of)
