"""Cost of the flusher to heartbeats: alternating runs with and without it."""

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Figures

PAIRS = 2
QUICK_PAIRS = 1


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    stage.warm(crew)
    order = Order(seconds=stage.flush_sample_seconds, span=stage.plan.everybody)
    with_flush, without = [], []
    pairs = QUICK_PAIRS if stage.plan.quick else PAIRS
    for pair in range(pairs):
        for flushes in (True, False) if pair % 2 else (False, True):
            if flushes:
                with_flush.append(stage.measure_with_flusher(crew, "with the flusher"))
            else:
                with crew.worker_halted():
                    without.append(stage.measure(crew, "without the flusher", order))
    speed_with = sum(measured.loaded.per_second for measured in with_flush) / pairs
    speed_without = sum(measured.loaded.per_second for measured in without) / pairs
    return {
        "slowdown": round(1 - speed_with / speed_without, 4),
        "per_second_with": round(speed_with, 1),
        "per_second_without": round(speed_without, 1),
        "p99_ms_with": max(measured.loaded.p99_ms for measured in with_flush),
        "p99_ms_without": max(measured.loaded.p99_ms for measured in without),
        "errors": sum(measured.loaded.errors for measured in (*with_flush, *without)),
    }


def summary(figures: Figures) -> str:
    return (
        f"{figures['per_second_with']:,.0f}/s with, {figures['per_second_without']:,.0f}/s without: "
        f"{figures['slowdown']:.1%} slower"
    )


PART = BenchPart(name="flush_interference", run=run, summary=summary)
