"""The checks of `hourglass doctor` and their findings."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any

import asyncpg
from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.exceptions import RedisError, ResponseError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from app.clock import now_ms
from app.deployment.errors import CommandError, translate_connection_errors
from app.deployment.explanations import explanation_of
from app.deployment.listening import LOOPBACK_OF
from app.postgres_store.compatibility import known_revisions, read_marks, validation_problem
from app.redis_store.client import create_client
from app.redis_store.cluster import Cluster, as_cluster
from app.redis_store.durability import evicts_counters
from app.settings.settings import Settings

OLDEST_REDIS = (7, 0)
OLDEST_VALKEY = (8, 0)
OLDEST_POSTGRES = 14
CONNECT_SECONDS = 5.0
OFFSET_WARNING_MS = 1_000
OFFSET_FAILURE_MS = 30_000
"""Allowed clock difference: Redis dates usage, the host dates tokens, PostgreSQL dates rows."""
SLOTS = 16_384
MIN_SENTINELS = 3
OWN_CONNECTIONS = 3
"""Of each process beside its pool: two subscriptions, and one for script calls."""
RESERVED_CONNECTIONS = 10


class CheckResult(Enum):
    GOOD = "[green]good[/]"
    WARNING = "[yellow]warning[/]"
    FAILURE = "[red]failure[/]"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One finding: subject, state, and desired state."""

    subject: str
    found: str
    wanted: str
    verdict: CheckResult

    @property
    def is_good(self) -> bool:
        return self.verdict is CheckResult.GOOD


def judged(
    subject: str, found: object, wanted: str, *, good: bool, otherwise: CheckResult = CheckResult.FAILURE
) -> Finding:
    return Finding(subject=subject, found=str(found), wanted=wanted, verdict=CheckResult.GOOD if good else otherwise)


async def checkup(settings: Settings) -> list[Finding]:
    """Run all checks. An unreachable server is a finding."""
    findings = []
    for name, examine in (("Redis", examine_redis), ("PostgreSQL", examine_postgres)):
        try:
            findings += await examine(settings)
        except CommandError as error:
            findings.append(judged(name, error, "answers", good=False))
    if settings.worker_port:
        findings.append(await _examine_worker(settings))
    return findings


async def _examine_worker(settings: Settings) -> Finding:
    """Findings about the worker, from its own port."""
    nearby = LOOPBACK_OF.get(settings.host, settings.host)
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            reader, writer = await asyncio.open_connection(nearby, settings.worker_port)
            writer.write(b"GET /health/ready HTTP/1.0\r\nHost: worker\r\n\r\n")
            body = (await reader.read()).partition(b"\r\n\r\n")[2]
            writer.close()
        readiness = json.loads(body)
    except (OSError, TimeoutError, ValueError) as error:
        return judged("worker", f"no answer: {error}", "up", good=False)
    overdue = [name for name, job in readiness["jobs"].items() if job["status"] != "up"]
    found = ", ".join([str(readiness["status"]), *(f"{name} is overdue" for name in overdue)])
    return judged("worker", found, "up", good=readiness["status"] == "up", otherwise=CheckResult.WARNING)


def show(findings: Sequence[Finding]) -> bool:
    """Print the findings. Returns whether none is a failure."""
    table = Table("", "found", "wanted", "verdict", title="Hourglass doctor", title_justify="left")
    for finding in findings:
        table.add_row(finding.subject, escape(finding.found), finding.wanted, finding.verdict.value)
    console = Console()
    console.print(table)
    for finding in findings:
        explanation = explanation_of(finding.subject)
        if not finding.is_good and explanation is not None:
            console.print(f"{finding.verdict.value} {escape(finding.subject.strip())}: {escape(explanation.why)}")
            console.print(f"    fix: {escape(explanation.fix)}")
    return all(finding.verdict is not CheckResult.FAILURE for finding in findings)


async def examine_redis(settings: Settings) -> list[Finding]:
    """The findings about Redis. Raises CommandError when it cannot be reached."""
    async with _redis(settings) as redis:
        cluster = as_cluster(redis)
        if cluster is not None:
            return await _examine_cluster(settings, cluster)
        return [*await _examine_server(settings, redis), *await _examine_sentinels(redis)]


async def _examine_server(settings: Settings, redis: Redis) -> list[Finding]:
    info: dict[str, Any] = await redis.info()
    policy = await _setting(redis, "maxmemory-policy", info.get("maxmemory_policy"))
    fsync = await _setting(redis, "appendfsync")
    save = await _setting(redis, "save")
    clients = await _setting(redis, "maxclients", info.get("maxclients"))
    offset_ms = await _offset(lambda: _redis_time(redis))
    return [
        _redis_version(info),
        judged("append-only file", "on" if info.get("aof_enabled") else "off", "on", good=info.get("aof_enabled") == 1),
        judged(
            "  written",
            fsync,
            "everysec or always",
            good=fsync in {"everysec", "always"},
            otherwise=CheckResult.WARNING,
        ),
        judged(
            "  last write", info.get("aof_last_write_status", "?"), "ok", good=info.get("aof_last_write_status") == "ok"
        ),
        _eviction(policy),
        judged(
            "snapshots",
            save or "off",
            "off: the append-only file suffices",
            good=not save,
            otherwise=CheckResult.WARNING,
        ),
        _clock("Redis clock", offset_ms),
        _redis_clients(settings, clients),
    ]


async def _examine_cluster(settings: Settings, cluster: Cluster) -> list[Finding]:
    """The cluster as seen by one master, then each node; a healthy node takes one line."""
    masters, replicas = await cluster.nodes()
    findings = await _examine_coverage(settings, masters, replicas)
    for role, nodes in (("master", masters), ("replica", replicas)):
        for address, node in nodes.items():
            name = f"{role} {address}"
            try:
                checks = await _examine_server(settings, node)
            except (RedisError, OSError) as error:
                findings.append(judged(name, type(error).__name__, "answers", good=False))
                continue
            poor = [replace(check, subject=f"{name}: {check.subject.strip()}") for check in checks if not check.is_good]
            findings += poor or [judged(name, f"{len(checks)} checks", "all good", good=True)]
    return findings


async def _examine_coverage(
    settings: Settings, masters: Mapping[str, Redis], replicas: Mapping[str, Redis]
) -> list[Finding]:
    answering = [node for node in masters.values() if await _answers(node)]
    state = await _cluster_state(answering[0]) if answering else {}
    full_coverage = await _setting(answering[0], "cluster-require-full-coverage") if answering else "unknown"
    served = state.get("cluster_slots_ok", "?")
    return [
        judged("cluster", state.get("cluster_state", "?"), "ok", good=state.get("cluster_state") == "ok"),
        judged("slots served", served, f"{SLOTS}", good=served == str(SLOTS)),
        judged(
            "full coverage required",
            full_coverage,
            "no: a master that is away must not stop the others",
            good=full_coverage == "no",
            otherwise=CheckResult.WARNING,
        ),
        judged(
            "replicas",
            len(replicas),
            f"{len(masters)}, one for each master",
            good=len(replicas) >= len(masters),
            otherwise=CheckResult.WARNING,
        ),
        judged(
            "buckets",
            settings.buckets,
            f"{len(masters)} or more, so that each master has some",
            good=settings.buckets >= len(masters),
            otherwise=CheckResult.WARNING,
        ),
    ]


async def _examine_sentinels(redis: Redis) -> list[Finding]:
    """The Sentinels of the master; nothing without Sentinel."""
    pool = redis.connection_pool
    if not isinstance(pool, SentinelConnectionPool):
        return []
    others, replicas = await _sentinel_counts(pool)
    return [
        judged("Sentinels", others + 1, "3 or more", good=others >= MIN_SENTINELS - 1, otherwise=CheckResult.WARNING),
        judged("replicas", replicas, "1 or more", good=replicas > 0, otherwise=CheckResult.WARNING),
    ]


async def _sentinel_counts(pool: SentinelConnectionPool) -> tuple[int, int]:
    """The numbers of other Sentinels and of replicas, from the first Sentinel that answers. Raises RedisError."""
    await pool.get_master_address()  # type: ignore[no-untyped-call]  # puts one that answers first
    masters = await pool.sentinel_manager.sentinels[0].sentinel_masters()
    state = masters[pool.service_name]
    return int(state["num-other-sentinels"]), int(state["num-slaves"])


async def _answers(redis: Redis) -> bool:
    try:
        await redis.ping()
    except (RedisError, OSError):
        return False
    return True


async def _cluster_state(node: Redis) -> dict[str, str]:
    """The fields of CLUSTER INFO by name."""
    answer: bytes = await node.execute_command("CLUSTER", "INFO")  # type: ignore[no-untyped-call]
    lines = (line.partition(":") for line in answer.decode().split())
    return {name: value for name, _, value in lines}


async def examine_postgres(settings: Settings) -> list[Finding]:
    """The findings about PostgreSQL. Raises CommandError when it cannot be reached."""
    with translate_connection_errors("PostgreSQL", "DATABASE_URL"):
        connection = await asyncpg.connect(settings.database_url.get_secret_value(), timeout=CONNECT_SECONDS)
        try:
            version = str(await connection.fetchval("SHOW server_version")).split()[0]
            revision, compatible_from = await read_marks(connection)
            schema = validation_problem(revision, compatible_from)
            allowed = int(await connection.fetchval("SHOW max_connections"))
            dead_letters = await _dead_letters(connection)
            synchronous = await connection.fetchval("SHOW synchronous_commit")
            offset_ms = await _offset(lambda: _postgres_time(connection))
        finally:
            await connection.close(timeout=CONNECT_SECONDS)
    needed = (settings.workers + 1) * settings.database_pool + RESERVED_CONNECTIONS
    return [
        judged(
            "PostgreSQL version",
            version,
            f"{OLDEST_POSTGRES} or newer",
            good=int(version.split(".")[0]) >= OLDEST_POSTGRES,
        ),
        judged("schema", schema or revision, f"{known_revisions()[-1]}, or newer and compatible", good=schema is None),
        judged("dead letters", dead_letters, "0: see table parked_rows", good=dead_letters == 0),
        judged("synchronous_commit", synchronous, "on", good=synchronous != "off", otherwise=CheckResult.WARNING),
        _clock("PostgreSQL clock", offset_ms),
        judged("PostgreSQL connections", allowed, f"{needed} for this host", good=allowed >= needed),
    ]


@asynccontextmanager
async def _redis(settings: Settings) -> AsyncIterator[Redis]:
    client = create_client(settings.redis_url.get_secret_value(), timeout_seconds=CONNECT_SECONDS, connections=1)
    try:
        with translate_connection_errors("Redis", "REDIS_URL"):
            yield client
    finally:
        await client.aclose()


async def _setting(redis: Redis, name: str, otherwise: object = None) -> str:
    """A setting of the server. Managed services often forbid the question."""
    try:
        answer = await redis.config_get(name)
    except ResponseError:
        return "unknown" if otherwise is None else str(otherwise)
    return "".join(value or "" for value in answer.values())


def _redis_version(info: Mapping[str, Any]) -> Finding:
    is_valkey = "valkey_version" in info
    text = str(info["valkey_version" if is_valkey else "redis_version"])
    oldest = OLDEST_VALKEY if is_valkey else OLDEST_REDIS
    name = "Valkey" if is_valkey else "Redis"
    numbers = tuple(int(part) for part in text.split(".")[:2])
    return judged(f"{name} version", text, f"{'.'.join(map(str, oldest))} or newer", good=numbers >= oldest)


def _eviction(policy: str) -> Finding:
    otherwise = CheckResult.FAILURE if evicts_counters(policy) else CheckResult.WARNING
    return judged("eviction", policy, "noeviction: counters are data", good=policy == "noeviction", otherwise=otherwise)


def _redis_clients(settings: Settings, allowed: str) -> Finding:
    needed = (settings.workers + 1) * (settings.redis_connections + OWN_CONNECTIONS)
    wanted = f"{needed} for this host"
    if not allowed.isdigit():
        return judged("Redis connections", allowed, wanted, good=False, otherwise=CheckResult.WARNING)
    return judged("Redis connections", allowed, wanted, good=int(allowed) >= needed)


async def _offset(ask: Callable[[], Awaitable[float]]) -> float:
    """The offset of a server's clock in ms, minus half the round trip."""
    began = time.monotonic()
    ours_ms = now_ms()
    theirs_ms = await ask()
    return theirs_ms - ours_ms - (time.monotonic() - began) * 500


async def _redis_time(redis: Redis) -> float:
    seconds, microseconds = await redis.time()
    return float(seconds * 1000 + microseconds / 1000)


async def _postgres_time(connection: "asyncpg.Connection[asyncpg.Record]") -> float:
    return float(await connection.fetchval("SELECT extract(epoch FROM clock_timestamp()) * 1000"))


def _clock(subject: str, offset_ms: float) -> Finding:
    otherwise = CheckResult.FAILURE if abs(offset_ms) > OFFSET_FAILURE_MS else CheckResult.WARNING
    return judged(
        subject,
        f"{offset_ms:+.0f} ms from this host",
        f"within {OFFSET_WARNING_MS} ms",
        good=abs(offset_ms) <= OFFSET_WARNING_MS,
        otherwise=otherwise,
    )


async def _dead_letters(connection: "asyncpg.Connection[asyncpg.Record]") -> int:
    """Dead letters. Each one is missing time in a child's history."""
    if await connection.fetchval("SELECT to_regclass('parked_rows')") is None:
        return 0
    return int(await connection.fetchval("SELECT count(*) FROM parked_rows"))
