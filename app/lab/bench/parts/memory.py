"""Memory of a viewer in Valkey and in each API process that has seen it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.failures import BenchFailed
from app.lab.bench.parts.part import BenchPart, Figures
from app.lab.bench.viewers import profile_id
from app.redis_store.keys import Keys

if TYPE_CHECKING:
    import redis
    from redis.cluster import RedisCluster

SAMPLES = 200


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    if stage.untouched is None:  # this service began with counters of other parts
        stage.begin("opening all sessions")
        crew = stage.service()
    stage.warm_caches(crew)
    before = stage.untouched
    if before is None:
        raise BenchFailed("the memory of this service was not measured before its use")
    after = stage.memory(crew)
    viewers = stage.viewers.count
    grown = [now - then for now, then in zip(after.api, before.api, strict=True)]
    with stage.redis_servers.client() as client:
        keys = Keys(stage.settings.buckets)
        ids = [profile_id(viewer) for viewer in range(0, viewers, max(1, viewers // SAMPLES))]
        parts = {
            "live": _mean_usage(client, map(keys.counters, ids)),
            "policy": _mean_usage(client, map(keys.policy, ids)),
            "dirty": _total_usage(client, map(keys.dirty, range(keys.buckets))) / viewers,
            "closed": _total_usage(client, map(keys.closed, range(keys.buckets))) / viewers,
        }
    return {
        "viewers": viewers,
        "valkey_bytes_per_viewer": round((after.valkey - before.valkey) / viewers, 1),
        "valkey_parts": {name: round(size, 1) for name, size in parts.items()},
        "api_bytes_per_viewer": round(max(grown) / viewers, 1),
        "api_base_bytes": max(before.api),
    }


def _mean_usage(client: "redis.Redis | RedisCluster", keys: Iterable[str]) -> float:
    """Bytes of a key with its value, as Valkey counts them, without its share of the key space."""
    sizes = [_usage(client, key) for key in keys]
    return sum(sizes) / len(sizes)


def _total_usage(client: "redis.Redis | RedisCluster", keys: Iterable[str]) -> float:
    return sum(_usage(client, key) for key in keys)


def _usage(client: "redis.Redis | RedisCluster", key: str) -> int:
    used: Any = client.memory_usage(key, samples=0)
    return used or 0


def summary(figures: Figures) -> str:
    parts = ", ".join(f"{name} {size:.0f}" for name, size in figures["valkey_parts"].items())
    return (
        f"Valkey {figures['valkey_bytes_per_viewer']:.0f} B a viewer ({parts}), "
        f"each API process {figures['api_bytes_per_viewer']:.0f} B a viewer"
    )


PART = BenchPart(name="memory", run=run, summary=summary)
