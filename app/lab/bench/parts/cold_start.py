"""All viewers return at once: Valkey and all caches are empty, PostgreSQL has all data."""

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.parts.part import BenchPart, Figures


def run(stage: BenchEnvironment) -> Figures:
    stage.open_sessions()
    opening = stage.opening
    stage.stop_service()
    with stage.view.doing("writing everything to PostgreSQL"):
        stage.drain()
    returned = stage.begin("everybody comes back")
    return {
        "viewers": stage.viewers.count,
        "seconds": round(returned.seconds, 2),
        "per_second": round(stage.viewers.count / returned.seconds, 1),
        "errors": returned.errors,
        "cpu_seconds": dict(returned.cpu_seconds),
        **({"opening_seconds": round(opening.seconds, 2), "opening_errors": opening.errors} if opening else {}),
    }


def summary(figures: Figures) -> str:
    return (
        f"{figures['viewers']:,} viewers in {figures['seconds']:.1f} s ({figures['per_second']:,.0f}/s), "
        f"{figures['errors']} errors"
    )


PART = BenchPart(name="cold_start", run=run, summary=summary)
