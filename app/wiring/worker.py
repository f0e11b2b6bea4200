"""Flow 3, Redis to PostgreSQL: what the worker does, and what compares the two stores."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from app.clock import Clock, monotonic_ms, now_ms
from app.feed.service import number_all
from app.flushing.service import Flusher
from app.observability import worker_metrics
from app.observability.outages import Outages
from app.postgres_store.erasure import PostgresErasure
from app.postgres_store.feed import PostgresFeed
from app.postgres_store.feed_usage import UsageFeed
from app.postgres_store.lock import AdvisoryLock
from app.postgres_store.partitions import make_partitions
from app.postgres_store.policies import PostgresPolicies
from app.postgres_store.retention import PostgresRetention
from app.postgres_store.usage import PostgresUsage
from app.postgres_store.usage_scanner import PostgresUsageScanner
from app.privacy.erasure import remove_again
from app.privacy.retention import retain
from app.privacy.rewriting import Rewriting
from app.reconciling.accuracy import AccuracyCheck, Observe
from app.reconciling.service import Reconciliation
from app.redis_store.append_only import AppendOnlyFiles
from app.redis_store.erasure import RedisErasure
from app.redis_store.sampled_counters import RedisSampledCounters
from app.redis_store.unflushed import RedisUnflushed
from app.redis_store.usage_scanner import RedisUsageScanner
from app.rollback_guard.service import RollbackGuard
from app.settings.settings import Settings
from app.wiring.feed_worker import open_deliverer, usage_feed
from app.wiring.parents import reports
from app.wiring.stores import (
    Stores,
    connect,
    open_stores,
    ping_database,
    retention_policy,
    rollback_guard,
    shared_policies,
    watch_servers,
)

_SWEEP_OVERLAP_MS = 60_000


@dataclass(frozen=True, kw_only=True)
class WorkerServices:
    """What the worker needs, opened."""

    flusher: Flusher
    outages: Outages
    look_at_servers: Callable[[], Awaitable[None]]
    ping_database: Callable[[], Awaitable[None]]
    sweep: Callable[[], Awaitable[object]]
    make_partitions: Callable[[], Awaitable[object]]
    prepare_reports: Callable[[], Awaitable[object]]
    retain: Callable[[], Awaitable[object]]
    remove_erased: Callable[[], Awaitable[object]]
    close_usage: Callable[[], Awaitable[object]]
    number_events: Callable[[], Awaitable[object]]
    deliver_events: Callable[[], Awaitable[object]]
    check_accuracy: Callable[[], Awaitable[object]]


@asynccontextmanager
async def open_worker(settings: Settings, *, clock: Clock = now_ms) -> AsyncIterator[WorkerServices]:
    """Everything the worker needs, connected."""
    async with AsyncExitStack() as stack:
        stores = await open_stores(stack, settings, held_connections=2 if settings.event_feed else 1)
        engine, guard = stores.engine, rollback_guard(stores, clock)
        outages, look_at_servers = watch_servers(stack, stores)
        weekly, kept = reports(stores, settings, clock).weekly, retention_policy(settings)
        from_usage, feed = usage_feed(stores, settings), PostgresFeed(engine)
        deliverer = open_deliverer(stack, stores, settings, clock) if settings.event_feed else None
        yield WorkerServices(
            flusher=_open_flusher(stack, stores, settings, clock, guard=guard, from_usage=from_usage),
            outages=outages,
            look_at_servers=look_at_servers,
            ping_database=lambda: ping_database(engine),
            sweep=_sweep(stores, settings, clock, guard),
            make_partitions=lambda: make_partitions(engine, at_ms=clock()),
            prepare_reports=lambda: weekly.prepare(at_ms=clock()),
            retain=lambda: retain(PostgresRetention(engine), retention_policy=kept, at_ms=clock()),
            remove_erased=_remove_erased(stores, settings, clock),
            close_usage=lambda: from_usage.close(at_ms=clock()),
            number_events=lambda: number_all(feed),
            deliver_events=_nothing if deliverer is None else deliverer.tick,
            check_accuracy=accuracy_check(stores, settings).look,
        )


async def _nothing() -> None:
    """The feed is off."""


def _open_flusher(
    stack: AsyncExitStack,
    stores: Stores,
    settings: Settings,
    clock: Clock,
    *,
    guard: RollbackGuard,
    from_usage: UsageFeed,
) -> Flusher:
    lock = AdvisoryLock(stores.engine)
    stack.push_async_callback(lock.release)
    return Flusher(
        counters=RedisUnflushed(stores.redis, stores.keys, live_ttl_seconds=settings.live_ttl_seconds, clock=clock),
        usage_store=PostgresUsage(stores.engine, clock, retention_policy(settings), feed=from_usage),
        lock=lock,
        rollback_guard=guard,
        clock=clock,
        age_ms=int(settings.flush_age_seconds * 1000),
        batch=settings.flush_batch,
    )


def accuracy_check(
    stores: Stores,
    settings: Settings,
    *,
    at_ms: int = 0,
    observe: Observe = worker_metrics.count_checked,
    monotonic: Clock = monotonic_ms,
) -> AccuracyCheck:
    return AccuracyCheck(
        counters=RedisSampledCounters(stores.redis, stores.keys, at_ms=at_ms),
        kept=PostgresUsageScanner(stores.engine),
        buckets=settings.buckets,
        size=settings.accuracy_sample,
        observe=observe,
        monotonic=monotonic,
    )


def _sweep(stores: Stores, settings: Settings, clock: Clock, guard: RollbackGuard) -> Callable[[], Awaitable[object]]:
    shared = shared_policies(stores, settings, clock, guard)
    policies = PostgresPolicies(stores.engine, clock)

    async def sweep() -> None:
        """Announce recent changes once more: an announcement may have been lost."""
        since_ms = clock() - int(settings.policy_sweep_seconds * 1000) - _SWEEP_OVERLAP_MS
        await shared.announce_again(await policies.changed_since(since_ms))

    return sweep


def _remove_erased(stores: Stores, settings: Settings, clock: Clock) -> Callable[[], Awaitable[object]]:
    erasures = PostgresErasure(stores.engine)
    rewriting = Rewriting(
        erasures, AppendOnlyFiles(stores.redis), delay_ms=settings.erasure_rewrite_seconds * 1000, clock=clock
    )

    async def remove_erased() -> None:
        await remove_again(erasures, RedisErasure(stores.redis, stores.keys), at_ms=clock())
        await rewriting.step()

    return remove_erased


@asynccontextmanager
async def open_reconciliation(settings: Settings) -> AsyncIterator[Reconciliation]:
    """What compares the two stores, connected."""
    async with AsyncExitStack() as stack:
        stores = connect(stack, settings)
        yield Reconciliation(
            held=RedisUsageScanner(stores.redis, stores.keys), kept=PostgresUsageScanner(stores.engine)
        )
