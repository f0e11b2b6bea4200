"""The same heartbeats with PostgreSQL in the path: the service without counters in memory."""

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.parts.part import BenchPart, Figures, figures_of, summary_of
from app.lab.bench.service_processes import BASELINE


def run(stage: BenchEnvironment) -> Figures:
    stage.open_sessions()
    with stage.replace_service((BASELINE, "direct"), flushes=False) as crew:
        return figures_of(stage.measure_baseline(crew, "directly to PostgreSQL"))


PART = BenchPart(name="direct", run=run, summary=summary_of)
