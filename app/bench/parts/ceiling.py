"""What the machine could answer at most: the same requests and answers, the same server, and nothing in between."""

from app.bench.parts.part import Figures, Part, figures_of, summary_of
from app.bench.stage import Stage


def run(stage: Stage) -> Figures:
    stage.open_sessions()
    with stage.instead(("rival", "ceiling"), flushes=False) as crew:
        return figures_of(stage.measure_rival(crew, "raw ASGI echo"))


PART = Part(name="ceiling", run=run, summary=summary_of)
