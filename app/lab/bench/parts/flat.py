"""Cost of a heartbeat for different numbers of viewers."""

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Figures
from app.lab.bench.plan import connections_for
from app.lab.bench.service_processes import SERVICE

SIZES = (1_000, 10_000, 100_000, 500_000)


def run(stage: BenchEnvironment) -> Figures:
    stage.open_sessions()
    sizes = sorted({size for size in SIZES if size < stage.plan.viewers} | {stage.plan.viewers})
    if stage.plan.quick:
        sizes = [sizes[0], sizes[-1]]
    connections = connections_for(stage.plan.viewers)  # the same for all, otherwise batch sizes would differ
    found: list[Figures] = []
    # A thousand viewers would exceed the heartbeat limit. The worker's load grows with the viewers, but not per
    # heartbeat.
    with stage.replace_service(SERVICE, flushes=False, max_beats_per_second=0) as crew:
        stage.warm_caches(crew)
        for size in sizes:
            what = f"heartbeats of {size:,} viewers"
            measured = stage.measure(
                crew, what, Order(seconds=stage.plan.sample_seconds, span=range(size), connections=connections)
            )
            found.append(
                {
                    "viewers": size,
                    "per_second": round(measured.loaded.per_second, 1),
                    "errors": measured.loaded.errors,
                    "api_us_per_beat": measured.microseconds("api"),
                    "valkey_us_per_beat": measured.microseconds("valkey"),
                    "us_per_beat": measured.microseconds("api", "valkey"),
                }
            )
    costs = [size["us_per_beat"] for size in found]
    return {
        "sizes": found,
        "spread": round(max(costs) / min(costs) - 1, 3),
        "errors": sum(size["errors"] for size in found),
    }


def summary(figures: Figures) -> str:
    costs = ", ".join(f"{size['viewers']:,}: {size['us_per_beat']:.1f} µs" for size in figures["sizes"])
    return f"processor time of API and Valkey for a beat: {costs}; spread {figures['spread']:.0%}"


PART = BenchPart(name="flat", run=run, summary=summary)
