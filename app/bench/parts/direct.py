"""The same heartbeats with PostgreSQL in their path: what the service would be without counters in memory."""

from app.bench.parts.part import Figures, Part, figures_of, summary_of
from app.bench.stage import Stage


def run(stage: Stage) -> Figures:
    stage.open_sessions()
    with stage.instead(("rival", "direct"), flushes=False) as crew:
        return figures_of(stage.measure_rival(crew, "directly to PostgreSQL"))


PART = Part(name="direct", run=run, summary=summary_of)
