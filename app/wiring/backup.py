"""What saves a deployment and brings it back."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

from app import __version__
from app.backup.service import Backup, Restore
from app.clock import now_ms
from app.postgres_store.dump import PostgresDump
from app.postgres_store.engine import create_engine
from app.postgres_store.migrate import upgrade
from app.postgres_store.usage import PostgresUsage
from app.redis_store.client import create_client
from app.redis_store.keys import Keys
from app.redis_store.unflushed import RedisUnflushed
from app.settings.settings import Settings
from app.wiring.stores import retention_policy


@asynccontextmanager
async def open_backup(settings: Settings, *, say: Callable[[str], None]) -> AsyncIterator[Backup]:
    """What saves a deployment, connected."""
    async with AsyncExitStack() as stack:
        yield Backup(
            database=PostgresDump(settings.database_url.get_secret_value()),
            counters=_unflushed(stack, settings),
            clock=now_ms,
            version=__version__,
            say=say,
        )


@asynccontextmanager
async def open_restore(settings: Settings, *, say: Callable[[str], None]) -> AsyncIterator[Restore]:
    """What brings a deployment back, connected."""
    database_url = settings.database_url.get_secret_value()

    async def migrate(revision: str) -> None:
        await asyncio.to_thread(upgrade, database_url, revision)

    async with AsyncExitStack() as stack:
        engine = create_engine(database_url, pool_size=1, timeout_seconds=60.0, pgbouncer=settings.database_pgbouncer)
        stack.push_async_callback(engine.dispose)
        yield Restore(
            database=PostgresDump(database_url),
            counters=_unflushed(stack, settings),
            usage_store=PostgresUsage(engine, now_ms, retention_policy(settings)),
            migrate=migrate,
            clock=now_ms,
            say=say,
        )


def _unflushed(stack: AsyncExitStack, settings: Settings) -> RedisUnflushed:
    redis = create_client(
        settings.redis_url.get_secret_value(), timeout_seconds=max(5.0, settings.redis_timeout_seconds), connections=2
    )
    stack.push_async_callback(redis.aclose)
    return RedisUnflushed(redis, Keys(settings.buckets), live_ttl_seconds=settings.live_ttl_seconds, clock=now_ms)
