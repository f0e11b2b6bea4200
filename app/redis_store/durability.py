"""Whether a server keeps what it is given: counters are data, not a cache."""

import asyncio
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, cast

import structlog
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from app.errors import CountersUnavailable
from app.observability import metrics
from app.redis_store.client import translate_errors
from app.redis_store.cluster import Cluster, as_cluster

log = structlog.get_logger(__name__)


class HealthIssue(StrEnum):
    """What is wrong with a server, by the name it has in answers and metrics."""

    EVICTS = "evicts_counters"
    """``maxmemory-policy`` is ``allkeys-…``: unflushed counters may vanish. No process starts with that."""
    EVICTS_FLUSHED = "evicts_flushed_counters"
    """``volatile-…``: only what PostgreSQL has vanishes, and is read back; a waste, not a loss."""
    NOT_APPENDING = "no_append_only_file"
    NOT_SYNCED = "append_only_file_not_synced"
    WRITE_FAILED = "append_only_file_cannot_be_written"
    REPLICA = "is_a_replica"
    FULL = "memory_is_full"
    PARTLY = "some_masters_cannot_count"
    """Of a cluster: the children of the other masters go on."""


BLOCKING = frozenset({HealthIssue.EVICTS, HealthIssue.WRITE_FAILED, HealthIssue.REPLICA, HealthIssue.FULL})
"""With these heartbeats cannot be counted, or not safely."""

_NODE_SECONDS = 0.7
_SYNCED = frozenset({"always", "everysec", ""})
"""Values of ``appendfsync``. Managed services hide the value and are trusted."""


async def examine(redis: Redis) -> frozenset[HealthIssue]:
    """What is wrong with the server now; also in the metrics. Raises CountersUnavailable."""
    cluster = as_cluster(redis)
    concerns = await (_of_cluster(cluster) if cluster else _of_server(redis))
    for concern in HealthIssue:
        metrics.REDIS_CONCERNS.labels(concern.value).set(concern in concerns)
    return concerns


class Durability:
    """What is known to be wrong with a server; changes are logged."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self.concerns: frozenset[HealthIssue] = frozenset()

    async def look(self) -> None:
        """Raises CountersUnavailable."""
        found = await examine(self._redis)
        if found != self.concerns:
            log.warning("redis_health_issues", concerns=sorted(found))
        self.concerns = found


def evicts_counters(policy: str) -> bool:
    return policy.startswith("allkeys")


async def _of_server(redis: Redis) -> frozenset[HealthIssue]:
    with translate_errors():
        info: dict[str, Any] = await redis.info("persistence", "memory", "replication")
        return frozenset(_concerns(info, await _fsync(redis)))


async def _of_cluster(cluster: Cluster) -> frozenset[HealthIssue]:
    """What is wrong with any of its masters. What keeps some from counting is no reason to stop the others."""
    with translate_errors():
        masters, _ = await cluster.nodes()
    looks = (asyncio.wait_for(_of_server(node), _NODE_SECONDS) for node in masters.values())
    answers = await asyncio.gather(*looks, return_exceptions=True)
    found = [answer for answer in answers if not isinstance(answer, BaseException)]
    fit = [concerns for concerns in found if not concerns & BLOCKING]
    everything = frozenset[HealthIssue]().union(*found)
    if not found:
        raise CountersUnavailable
    if not fit or len(fit) == len(answers):
        return everything
    return everything - BLOCKING | everything & {HealthIssue.EVICTS} | {HealthIssue.PARTLY}


async def _fsync(redis: Redis) -> str:
    try:
        answer = cast("dict[str, str]", await redis.config_get("appendfsync"))
    except ResponseError:
        return ""
    return answer.get("appendfsync", "")


def _concerns(info: Mapping[str, Any], fsync: str) -> Iterable[HealthIssue]:
    policy = str(info["maxmemory_policy"])
    if evicts_counters(policy):
        yield HealthIssue.EVICTS
    elif policy != "noeviction":
        yield HealthIssue.EVICTS_FLUSHED
    if not info["aof_enabled"]:
        yield HealthIssue.NOT_APPENDING
    elif fsync not in _SYNCED:
        yield HealthIssue.NOT_SYNCED
    if info.get("aof_last_write_status", "ok") != "ok":
        yield HealthIssue.WRITE_FAILED
    if info["role"] != "master":
        yield HealthIssue.REPLICA
    if 0 < int(info["maxmemory"]) <= int(info["used_memory"]):
        yield HealthIssue.FULL
