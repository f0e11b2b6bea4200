"""Cost of a heartbeat on a cluster of several masters, against one server.

Every variant starts with empty servers of its own, all of them on this machine and over TCP, and without the flusher.
"""

import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from redis.crc import key_slot

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Figures, figures_of
from app.lab.bench.redis_servers import RedisServers
from app.lab.bench.samples import counted_and_calls
from app.lab.bench.spread import Spread, shown
from app.lab.clusters import HOST, SLOTS, ClusterNode, ValkeyCluster, cluster_options, free_ports, started
from app.redis_store.keys import Keys

MASTERS = (1, 3, 6)
FEW_BUCKETS = 16
NODE_TIMEOUT_MS = 5_000
COSTS = ("api_us_per_beat", "redis_us_per_beat", "us_per_beat")


@dataclass(frozen=True, kw_only=True)
class Variant:
    """Servers to measure on. Without masters it is one server that is no cluster."""

    masters: int
    buckets: int

    def __str__(self) -> str:
        return f"{self.masters} masters, {self.buckets} buckets" if self.masters else "one server"

    @property
    def busiest_share(self) -> float:
        """The share of children on the master that serves most of them."""
        masters = max(1, self.masters)
        keys = Keys(self.buckets)
        slots = [key_slot(keys.dirty(bucket).encode()) for bucket in range(self.buckets)]
        return max(Counter(_master_of(slot, masters) for slot in slots).values()) / self.buckets


def run(stage: BenchEnvironment) -> Figures:
    default = stage.settings.buckets
    one_server = Variant(masters=0, buckets=default)
    variants = [
        one_server,
        *(
            Variant(masters=masters, buckets=buckets)
            for masters in MASTERS
            for buckets in sorted({default, FEW_BUCKETS})
        ),
    ]
    found: dict[Variant, list[Figures]] = defaultdict(list)
    for number in range(stage.plan.repeat):
        for variant in reversed(variants) if number % 2 else variants:
            found[variant].append(_measured(stage, variant))
    return {
        "repeat": stage.plan.repeat,
        "variants": [_summed(variant, found[variant], found[one_server]) for variant in variants],
        "errors": sum(figures["errors"] for rounds in found.values() for figures in rounds),
    }


def _measured(stage: BenchEnvironment, variant: Variant) -> Figures:
    with (
        _servers(stage, variant) as servers,
        stage.moved_to(servers, buckets=variant.buckets) as moved,
    ):
        crew = moved.open_sessions()
        with crew.worker_halted():
            moved.warm(crew)
            counted_before, calls_before = counted_and_calls(crew.metrics)
            order = Order(seconds=stage.plan.sample_seconds, span=stage.plan.everybody)
            measured = moved.measure(crew, f"heartbeats on {variant}", order)
            counted, calls = counted_and_calls(crew.metrics)
    return figures_of(measured) | {
        "beats_per_call": round((counted - counted_before) / max(1.0, calls - calls_before), 1),
        "api_us_per_beat": measured.microseconds("api"),
        "redis_us_per_beat": measured.microseconds("valkey"),
        "us_per_beat": measured.microseconds("api", "valkey"),
    }


@contextmanager
def _servers(stage: BenchEnvironment, variant: Variant) -> Iterator[RedisServers]:
    """The empty servers of a variant."""
    folder = stage.folder / "cluster"
    shutil.rmtree(folder, ignore_errors=True)
    nodes = _nodes(folder, variant)
    with ExitStack() as ending:
        with stage.view.doing(f"starting {variant}"):
            ending.enter_context(started(nodes))
            url = f"redis://{HOST}:{nodes[0].port}"
            if variant.masters:
                cluster = ValkeyCluster(nodes, variant.masters)
                cluster.form()
                url = cluster.url
        yield RedisServers(url, nodes)


def _nodes(folder: Path, variant: Variant) -> Sequence[ClusterNode]:
    number = max(1, variant.masters)
    ports = free_ports(2 * number)
    return [
        ClusterNode(
            folder / f"node-{place + 1}",
            ports[place],
            cluster_options(bus_port=ports[number + place], node_timeout_ms=NODE_TIMEOUT_MS) if variant.masters else {},
        )
        for place in range(number)
    ]


def _master_of(slot: int, masters: int) -> int:
    """The number of the master that serves a slot in `ValkeyCluster`."""
    return next(place for place in range(masters) if slot < (place + 1) * SLOTS // masters)


def _summed(variant: Variant, rounds: Sequence[Figures], one_server: Sequence[Figures]) -> Figures:
    return {
        "masters": variant.masters,
        "buckets": variant.buckets,
        "busiest_share": round(variant.busiest_share, 3),
        "per_second": Spread.of([figures["per_second"] for figures in rounds]).figures(1),
        "beats_per_call": Spread.of([figures["beats_per_call"] for figures in rounds]).figures(1),
        **{cost: Spread.of([figures[cost] for figures in rounds]).figures(2) for cost in COSTS},
        "ratio_to_one_server": {
            cost: Spread.of([one[cost] / other[cost] for one, other in zip(rounds, one_server, strict=True)]).figures()
            for cost in COSTS
        },
        "rounds": list(rounds),
    }


def summary(figures: Figures) -> str:
    lines = [f"medians of {figures['repeat']} (quartiles)"]
    for variant in figures["variants"]:
        name = Variant(masters=variant["masters"], buckets=variant["buckets"])
        cost, beats = shown(variant["us_per_beat"], ".1f"), variant["beats_per_call"]["median"]
        line = f"{name}: {cost} µs a beat, {beats:.1f} beats a call"
        if name.masters:
            api, redis, both = (shown(variant["ratio_to_one_server"][cost]) for cost in COSTS)
            line += f"; {both} of one server (API {api}, Redis {redis}); busiest master {variant['busiest_share']:.0%}"
        lines.append(line)
    return "\n".join(lines)


PART = BenchPart(name="cluster", run=run, summary=summary)
