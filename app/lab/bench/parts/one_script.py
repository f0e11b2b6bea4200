"""The service with one script call per heartbeat instead of batches."""

from collections.abc import Iterator
from contextlib import contextmanager

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Contender, Figures, Turn, figures_of, summary_of
from app.lab.bench.service_processes import SERVICE

CALLS_IN_FLIGHT = 64
ALONE = {"max_batch": 1, "max_calls_in_flight": CALLS_IN_FLIGHT, "redis_connections": CALLS_IN_FLIGHT}
WHAT = "a script call for each beat"


def run(stage: BenchEnvironment) -> Figures:
    stage.open_sessions()
    with stage.replace_service(SERVICE, flushes=True, **ALONE) as crew:
        stage.warm(crew)
        order = Order(seconds=stage.plan.sample_seconds, span=stage.plan.everybody)
        return figures_of(stage.measure(crew, WHAT, order))


@contextmanager
def prepare(stage: BenchEnvironment) -> Iterator[Turn]:
    stage.open_sessions()
    with stage.start_beside(SERVICE, workers=stage.plan.workers, **ALONE) as crew:
        stage.warm(crew)
        yield lambda: stage.measure_with_flusher(crew, WHAT)


PART = BenchPart(
    name="one_script",
    run=run,
    summary=summary_of,
    contender=Contender(prepare=prepare, processes=("api", "valkey", "worker", "postgres")),
)
