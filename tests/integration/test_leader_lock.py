"""One process flushes; several of its jobs may ask for the lock at once."""

import asyncio

from sqlalchemy import text

from app.postgres_store.engine import create_engine
from app.postgres_store.lock import AdvisoryLock


async def test_jobs_that_ask_at_once_hear_the_same(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=6, timeout_seconds=5)
    lock, other = AdvisoryLock(engine), AdvisoryLock(engine)
    assert await asyncio.gather(*(lock.is_ours() for _ in range(5))) == [True] * 5
    assert await asyncio.gather(*(other.is_ours() for _ in range(5))) == [False] * 5
    async with engine.connect() as database:  # the connection that holds the lock is cut
        cut = text(
            "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND pid <> pg_backend_pid()"
        )
        assert (await database.execute(cut)).scalars().all() == [True]
    assert await asyncio.gather(*(lock.is_ours() for _ in range(5))) == [True] * 5
    await lock.release()
    assert await other.is_ours()
    await other.release()
    await engine.dispose()
