"""The service with one script call per heartbeat instead of batches."""

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Figures, figures_of, summary_of
from app.lab.bench.service_processes import SERVICE

CALLS_IN_FLIGHT = 64


def run(stage: BenchEnvironment) -> Figures:
    stage.open_sessions()
    alone = {"max_batch": 1, "max_calls_in_flight": CALLS_IN_FLIGHT, "redis_connections": CALLS_IN_FLIGHT}
    with stage.replace_service(SERVICE, flushes=True, **alone) as crew:
        stage.warm(crew)
        order = Order(seconds=stage.plan.sample_seconds, span=stage.plan.everybody)
        return figures_of(stage.measure(crew, "a script call for each beat", order))


PART = BenchPart(name="one_script", run=run, summary=summary_of)
