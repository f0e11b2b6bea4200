"""Erased data leaves the files of real servers, not only their memory."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from redis.asyncio import Redis
from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.auth.tokens import Role
from app.domain.erasure import RewriteProgress
from app.embedded.valkey import Valkey
from app.observability import metrics
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.erasure import PostgresErasure
from app.privacy.rewriting import SETTLING_MS, Rewriting
from app.redis_store.append_only import AppendOnlyFiles
from app.redis_store.client import create_client
from app.timestamps import utc
from app.wiring.worker import open_worker
from tests.builders import settings_for
from tests.scenes.api import running
from tests.scenes.households import registered_at_noon
from tests.servers import Databases, running_valkey

HOUR_MS = 3_600_000
DELAY_MS = 12 * HOUR_MS
NOON_MS = 1_772_452_800_000


def _on_disk(server: Valkey, text: str) -> bool:
    """Whether a text is in any file of a server's folder."""
    files = [path for path in Path(server.home).rglob("*") if path.is_file()]
    assert files
    return any(text.encode() in path.read_bytes() for path in files)


async def _until_idle(files: AppendOnlyFiles) -> None:
    async with asyncio.timeout(30):
        while (await files.state()).progress is RewriteProgress.RUNNING:  # noqa: ASYNC110  nobody tells us
            await asyncio.sleep(0.02)


class Clock:
    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    def __call__(self) -> int:
        return self.at_ms


async def test_what_a_child_played_leaves_the_file_after_its_erasure(postgres: Databases) -> None:
    """Over the API and the worker's own job; only the clock of that job is moved.

    A compressed file would hide text, sometimes.
    """
    with running_valkey(options={"rdbcompression": "no"}) as server:
        settings = settings_for(database_url=postgres.fresh(), redis_url=server.url)
        async with open_worker(settings) as worker:
            await worker.make_partitions()
        async with running(settings) as api:
            home = await registered_at_noon(api)
            child, other = await home.child(), await home.child()
            secret, kept = await api.add_title(), await api.add_title()
            assert (await home.beat(child, secret)).status_code == 200
            assert (await home.beat(other, kept)).status_code == 200
            erased = await api.http.delete(f"/profiles/{child}", headers=api.as_role(home.id, Role.PARENT))
            assert erased.status_code == 200, erased.text
            erased_ms = api.services.clock()
        redis = create_client(server.url, timeout_seconds=5, connections=2)
        files = AppendOnlyFiles(redis)
        await redis.waitaof(1, 0, 5000)
        assert _on_disk(server, secret), "memory has forgotten it, the file has not"

        async with open_worker(settings, clock=Clock(erased_ms + DELAY_MS - HOUR_MS)) as worker:
            await worker.remove_erased()
        assert (await files.noted()) is None, "not yet: one rewrite serves many erasures"
        clock = Clock(erased_ms + DELAY_MS + 60_000)
        async with open_worker(settings, clock=clock) as worker:
            await worker.remove_erased()
            await _until_idle(files)
            assert not _on_disk(server, secret)
            assert not _on_disk(server, child)
            assert _on_disk(server, kept), "what is not erased stays"
            clock.at_ms += 60_000
            await worker.remove_erased()
        note = await files.noted()
        assert note is not None
        assert (note.covered_ms, note.began_ms) == (erased_ms + DELAY_MS + 60_000 - SETTLING_MS, 0)
        assert metrics.ERASURE_IN_FILES._value.get() == 0
        await redis.aclose()


@asynccontextmanager
async def _erased_on(
    postgres: Databases, options: Mapping[str, str]
) -> AsyncIterator[tuple[AsyncEngine, Redis, Rewriting, Clock]]:
    """A server with options, and one erasure at noon."""
    with running_valkey(options=options) as server:
        engine = create_engine(postgres.fresh(), pool_size=2, timeout_seconds=5)
        redis, clock = create_client(server.url, timeout_seconds=5, connections=2), Clock(NOON_MS)
        files = AppendOnlyFiles(redis)
        try:
            await _erase(engine, at_ms=NOON_MS)
            yield engine, redis, Rewriting(PostgresErasure(engine), files, delay_ms=DELAY_MS, clock=clock), clock
        finally:
            await redis.aclose()
            await engine.dispose()


async def _erase(engine: AsyncEngine, *, at_ms: int) -> None:
    async with engine.begin() as database:
        grave = {"subject_id": f"00000000-0000-4000-8000-{at_ms:012}"[:36], "kind": "profile", "erased_at": utc(at_ms)}
        await database.execute(insert(tables.erasure_tombstones).values(grave))


def _asked() -> float:
    asked: float = metrics.REWRITES.labels("asked")._value.get()
    return asked


async def test_a_server_that_refuses_is_told_of_and_asked_again(postgres: Databases) -> None:
    async with _erased_on(postgres, {"rename-command": 'BGREWRITEAOF ""'}) as (_, _redis, rewriting, clock):
        refused = metrics.REWRITES.labels("refused")._value.get()
        for minute in range(3):
            clock.at_ms = NOON_MS + 25 * HOUR_MS + minute * 60_000
            await rewriting.step()
        assert metrics.REWRITES.labels("refused")._value.get() == refused + 3
        assert metrics.ERASURE_IN_FILES._value.get() == 25 * 3600 + 120, "an alert at a day fires"


async def test_a_server_without_a_file_has_nothing_to_rewrite(postgres: Databases) -> None:
    async with _erased_on(postgres, {"appendonly": "no"}) as (_, redis, rewriting, clock):
        before = _asked()
        clock.at_ms += 2 * DELAY_MS
        await rewriting.step()
        assert (_asked(), metrics.ERASURE_IN_FILES._value.get()) == (before, 0)
        assert (await AppendOnlyFiles(redis).state()).progress is RewriteProgress.NO_FILE


async def test_each_erasure_gets_a_rewrite_that_began_later_and_no_more(postgres: Databases) -> None:
    async with _erased_on(postgres, {}) as (engine, redis, rewriting, clock):
        files, before = AppendOnlyFiles(redis), _asked()

        async def steps(*, until_ms: int) -> float:
            """A step every hour; how many rewrites were asked for since the beginning."""
            while clock.at_ms < until_ms:
                clock.at_ms += HOUR_MS
                await rewriting.step()
                await _until_idle(files)
            return _asked() - before

        assert await steps(until_ms=NOON_MS + 40 * HOUR_MS) == 1
        await _erase(engine, at_ms=clock.at_ms)
        second_ms = clock.at_ms
        assert await steps(until_ms=second_ms + DELAY_MS - HOUR_MS) == 1
        assert await steps(until_ms=second_ms + 40 * HOUR_MS) == 2
        assert metrics.ERASURE_IN_FILES._value.get() == 0
        clock.at_ms -= 30 * HOUR_MS  # a clock that is set back: what is known may be of the future
        assert await steps(until_ms=second_ms + 40 * HOUR_MS) == 3


@pytest.mark.parametrize("lost", ["note", "server"])
async def test_what_was_rewritten_by_another_server_does_not_count(postgres: Databases, lost: str) -> None:
    """After a failover the file is another one; so is every note that is lost."""
    async with _erased_on(postgres, {}) as (_, redis, rewriting, clock):
        files, before = AppendOnlyFiles(redis), _asked()
        for _ in range(3):
            clock.at_ms += DELAY_MS
            await rewriting.step()
            await _until_idle(files)
        assert _asked() - before == 1
        note = await files.noted()
        assert note is not None
        if lost == "note":
            await redis.flushall()
        else:
            await files.note(type(note)(servers="another", covered_ms=note.covered_ms))
        await rewriting.step()
        assert _asked() - before == 2
