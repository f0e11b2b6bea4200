"""The service itself, but with a script call for each beat instead of one for all of the same moment."""

from app.bench.crew import SERVICE
from app.bench.load import Order
from app.bench.parts.part import Figures, Part, figures_of, summary_of
from app.bench.stage import Stage

CALLS_IN_FLIGHT = 64


def run(stage: Stage) -> Figures:
    stage.open_sessions()
    alone = {"max_batch": 1, "max_calls_in_flight": CALLS_IN_FLIGHT, "redis_connections": CALLS_IN_FLIGHT}
    with stage.instead(SERVICE, flushes=True, **alone) as crew:
        stage.warm(crew)
        order = Order(seconds=stage.plan.sample_seconds, span=stage.plan.everybody)
        return figures_of(stage.measure(crew, "a script call for each beat", order))


PART = Part(name="one_script", run=run, summary=summary_of)
