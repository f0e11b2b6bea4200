"""Redis and PostgreSQL, connected and watched, and the adapters that more than one flow shares."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

from redis.asyncio import Redis
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine

from app.clock import Clock
from app.domain.counters import Rules
from app.domain.markets import Markets
from app.domain.retention import RetentionPolicy
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.observability import metrics
from app.observability.loop_lag import watch_loop
from app.observability.outages import Outages
from app.postgres_store.access import connection
from app.postgres_store.checkpoints import PostgresCheckpoints
from app.postgres_store.engine import create_engine, pool_gauges, warm
from app.postgres_store.feed import FeedWriter
from app.redis_store.adults import RedisAdultSessions
from app.redis_store.beat_calls import BeatCall
from app.redis_store.checkpoints import RedisCheckpoints
from app.redis_store.client import connection_gauges, create_client
from app.redis_store.clustered import (
    ClusteredAdultSessions,
    ClusteredCheckpoints,
    ClusteredCounters,
    ClusteredPolicies,
    ClusteredPositions,
)
from app.redis_store.counters import RedisCounters
from app.redis_store.durability import Durability, HealthIssue, examine
from app.redis_store.events import RedisEvents
from app.redis_store.keys import Keys
from app.redis_store.policies import SharedPolicies
from app.redis_store.positions import RedisPositions
from app.rollback_guard.service import RollbackGuard
from app.settings.redis_url import Arrangement, parse_redis_url
from app.settings.settings import Settings, SettingsError, variable_of
from app.wiring.markets import LOOK_SECONDS, MarketsFile, markets_file
from app.wiring.process import repeat

_DURABILITY_SECONDS = 5.0
_WATCH_SECONDS = 1.0


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Both servers, connected, and the markets of the deployment."""

    engine: AsyncEngine
    redis: Redis
    keys: Keys
    is_cluster: bool  # Redis is a cluster: a call reaches one shard
    markets_file: MarketsFile
    feed: FeedWriter

    @property
    def markets(self) -> Markets:
        return self.markets_file.markets


def connect(stack: AsyncExitStack, settings: Settings, *, held_connections: int = 0) -> Stores:
    """Make the clients of both servers; they connect at their first call.

    ``held_connections`` come on top of the pool: a lock never gives its own back.
    """
    engine = create_engine(
        settings.database_url.get_secret_value(),
        pool_size=settings.database_pool + held_connections,
        timeout_seconds=settings.database_timeout_seconds,
        pgbouncer=settings.database_pgbouncer,
    )
    stack.push_async_callback(engine.dispose)
    redis = create_client(
        settings.redis_url.get_secret_value(),
        timeout_seconds=settings.redis_timeout_seconds,
        connections=settings.redis_connections,
    )
    stack.push_async_callback(redis.aclose)
    arrangement = parse_redis_url(settings.redis_url.get_secret_value()).arrangement
    return Stores(
        engine=engine,
        redis=redis,
        keys=Keys(settings.buckets),
        is_cluster=arrangement is Arrangement.CLUSTER,
        markets_file=markets_file(settings),
        feed=FeedWriter(is_on=settings.event_feed),
    )


async def open_stores(stack: AsyncExitStack, settings: Settings, *, held_connections: int = 0) -> Stores:
    """Both servers for a process that serves: measured, durable, and with warm connections."""
    stores = connect(stack, settings, held_connections=held_connections)
    stack.callback(asyncio.create_task(watch_loop(), name="loop lag").cancel)
    _publish_metrics(stack, stores)
    repeat(stack, stores.markets_file.look, every_seconds=LOOK_SECONDS)
    await _require_durable(stack, stores.redis)
    if not settings.database_pgbouncer:
        await warm(stores.engine, settings.database_pool)
    return stores


def _publish_metrics(stack: AsyncExitStack, stores: Stores) -> None:
    """Publish what this process counts every second, and once more when it ends."""
    metrics.show_build()
    stack.callback(metrics.publish)
    stack.callback(metrics.sample(pool_gauges(stores.engine)))
    stack.callback(metrics.sample(connection_gauges(stores.redis)))

    async def publish() -> None:
        metrics.publish()

    repeat(stack, publish, every_seconds=metrics.PUBLISH_SECONDS)


async def _require_durable(stack: AsyncExitStack, redis: Redis) -> None:
    """Refuse a server that throws counters away; whatever else is or becomes wrong with it is said aloud."""
    durability = Durability(redis)
    with contextlib.suppress(CountersUnavailable):
        await durability.look()
    if HealthIssue.EVICTS in durability.concerns:
        url = variable_of("redis_url")
        raise SettingsError(f"{url}: the server may throw counters away; set its maxmemory-policy to noeviction")
    repeat(stack, durability.look, every_seconds=_DURABILITY_SECONDS)


def watch_servers(stack: AsyncExitStack, stores: Stores) -> tuple[Outages, Callable[[], Awaitable[None]]]:
    """Say when a server is away and when it is back, for the life of the process; also what looks at both at once."""
    outages = Outages()

    async def look_at_postgres() -> None:
        try:
            await ping_database(stores.engine)
        except DatabaseUnavailable as error:
            cause = error.__cause__
            if not isinstance(cause, PoolTimeout):  # all connections are in use: busy, not away
                outages.away("PostgreSQL", _reason(cause or error))
        else:
            outages.back("PostgreSQL")

    async def look_at_redis() -> None:
        try:
            await examine(stores.redis)
        except CountersUnavailable as error:
            outages.away("Redis", _reason(error.__cause__ or error))
        else:
            outages.back("Redis")

    for look in (look_at_postgres, look_at_redis):
        repeat(stack, look, every_seconds=_WATCH_SECONDS)

    async def look_at_both() -> None:
        await asyncio.gather(look_at_postgres(), look_at_redis())

    return outages, look_at_both


def _reason(error: BaseException) -> str:
    """The first line of what an error says."""
    lines = str(error).splitlines()
    return lines[0] if lines else type(error).__name__


async def ping_database(engine: AsyncEngine) -> None:
    """Ask PostgreSQL for anything. Raises DatabaseUnavailable."""
    async with connection(engine) as database:
        await database.execute(text("SELECT 1"))


def rollback_guard(stores: Stores, clock: Clock) -> RollbackGuard:
    adapter = ClusteredCheckpoints if stores.is_cluster else RedisCheckpoints
    return RollbackGuard(
        marks=adapter(stores.redis, stores.keys, clock=clock), noted=PostgresCheckpoints(stores.engine)
    )


def counters(
    stores: Stores, settings: Settings, guard: RollbackGuard, *, call: type[BeatCall] = BeatCall
) -> RedisCounters:
    adapter = ClusteredCounters if stores.is_cluster else RedisCounters
    return adapter(
        stores.redis,
        stores.keys,
        rules(settings),
        live_ttl_seconds=settings.live_ttl_seconds,
        rollback_guard=guard,
        call=call,
    )


def adult_sessions(stores: Stores, settings: Settings) -> RedisAdultSessions:
    adapter = ClusteredAdultSessions if stores.is_cluster else RedisAdultSessions
    return adapter(stores.redis, stores.keys, silence_ms=settings.max_gap_seconds * 1000)


def kept_positions(stores: Stores, settings: Settings) -> RedisPositions:
    adapter = ClusteredPositions if stores.is_cluster else RedisPositions
    return adapter(stores.redis, stores.keys, silence_ms=2 * settings.max_gap_seconds * 1000)


def shared_policies(stores: Stores, settings: Settings, clock: Clock, guard: RollbackGuard) -> SharedPolicies:
    adapter = ClusteredPolicies if stores.is_cluster else SharedPolicies
    return adapter(
        stores.redis,
        stores.keys,
        RedisEvents(stores.redis, stores.keys),
        ttl_seconds=settings.shared_policy_ttl_seconds,
        live_ttl_seconds=settings.live_ttl_seconds,
        max_gap_ms=settings.max_gap_seconds * 1000,
        markets=stores.markets,
        clock=clock,
        rollback_guard=guard,
    )


def rules(settings: Settings) -> Rules:
    rate = settings.max_beats_per_second
    return Rules(
        max_gap_ms=settings.max_gap_seconds * 1000,
        pause_grace_ms=settings.pause_grace_seconds * 1000,
        beat_spacing_ms=1000 // rate if rate else 0,
        beat_burst=rate,
        lease_ms=settings.lease_seconds * 1000,
    )


def retention_policy(settings: Settings) -> RetentionPolicy:
    return RetentionPolicy(
        session_days=settings.session_days,
        balance_days=settings.balance_days,
        record_days=settings.record_days,
        feed_days=settings.event_feed_days,
    )
