"""Partitions in PostgreSQL: no gap, no overlap, any earlier partitions, and no blocked statement."""

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import date
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.retention import RetentionPolicy
from app.domain.viewing_day import DAY_MS
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import BALANCES, SESSIONS, Partition, Partitioned, attached, make_partitions
from app.postgres_store.retention import PostgresRetention
from app.privacy.retention import retain
from tests.rows import Rows, start_of

if TYPE_CHECKING:
    from tests.servers import Databases

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
TODAY = date(2026, 3, 2)


@pytest.fixture(params=["postgres", "postgres15"])
async def engine(request: pytest.FixtureRequest) -> AsyncIterator[AsyncEngine]:
    """A database without partitions, on the newest and on the oldest server."""
    server: Databases = request.getfixturevalue(request.param)
    engine = create_engine(server.fresh(), pool_size=6, timeout_seconds=5)
    yield engine
    await engine.dispose()


async def _attached(engine: AsyncEngine, usage: Partitioned) -> list[Partition]:
    async with engine.connect() as database:
        return await attached(database, usage)


async def _assert_covered(engine: AsyncEngine, usage: Partitioned, *, from_ms: int, until_ms: int) -> None:
    found = await _attached(engine, usage)
    assert found[0].first_ms <= from_ms
    assert found[-1].until_ms > until_ms
    assert all(one.until_ms == following.first_ms for one, following in pairwise(found))


async def test_whatever_the_instants_there_is_no_gap(engine: AsyncEngine) -> None:
    chance, at_ms = random.Random(26), NOON  # noqa: S311  to be repeated, not to be kept secret
    for _ in range(12):
        await make_partitions(engine, at_ms=at_ms)
        assert await make_partitions(engine, at_ms=at_ms) == []
        for usage in (SESSIONS, BALANCES):
            await _assert_covered(engine, usage, from_ms=NOON - 60 * DAY_MS, until_ms=at_ms + 28 * DAY_MS)
        at_ms += chance.randrange(40 * DAY_MS)
    lengths = {(week.until_ms - week.first_ms) // DAY_MS for week in await _attached(engine, SESSIONS)}
    assert lengths == {7}


async def test_weeks_follow_months_that_were_there_before(engine: AsyncEngine) -> None:
    """As a database has them that was made when sessions lay in months, too."""
    async with engine.begin() as database:
        for month in range(5):
            first, following = date(2025, 12, 1), date(2026, 1, 1)
            if month:
                first, following = date(2026, month, 1), date(2026, month + 1, 1)
            for table in ("viewing_sessions", "viewing_time_balances"):
                await database.execute(
                    text(
                        f"CREATE TABLE {table}_{first:%Y_%m} PARTITION OF {table}"
                        f" FOR VALUES FROM ('{first}') TO ('{following}')"
                    )
                )
    assert await make_partitions(engine, at_ms=NOON) == []
    later = start_of(date(2026, 4, 20), 12)
    made = await make_partitions(engine, at_ms=later)
    assert made == [
        # May begins on a Friday.
        *(f"viewing_sessions_2026_{first}" for first in ("05_01", "05_04", "05_11", "05_18")),
        "viewing_time_balances_2026_05_01",
    ]
    for usage in (SESSIONS, BALANCES):
        await _assert_covered(engine, usage, from_ms=start_of(date(2025, 12, 1), 0), until_ms=later + 28 * DAY_MS)
    rows = Rows(engine)
    child = await rows.child(await rows.account(), at_ms=NOON)
    for day in (date(2026, 4, 30), date(2026, 5, 1), date(2026, 5, 3), date(2026, 5, 4)):
        await rows.session(child, day, started_ms=start_of(day, 0), used_ms=60_000)
        await rows.session(child, day, started_ms=start_of(day, 0) + DAY_MS - 1, used_ms=60_000)
    held = await _rows_by_partition(engine)
    assert held == {
        "viewing_sessions_2026_04": 2,
        "viewing_sessions_2026_05_01": 4,
        "viewing_sessions_2026_05_04": 2,
    }
    # December ended 90 days before the first of April, and the third of May 90 before the second of August.
    await retain(PostgresRetention(engine), retention_policy=RetentionPolicy(), at_ms=start_of(date(2026, 4, 1), 0))
    assert (await _attached(engine, SESSIONS))[0].name == "viewing_sessions_2026_01"
    await retain(PostgresRetention(engine), retention_policy=RetentionPolicy(), at_ms=start_of(date(2026, 8, 2), 0))
    assert (await _attached(engine, SESSIONS))[0].name == "viewing_sessions_2026_05_04"


async def _rows_by_partition(engine: AsyncEngine) -> dict[str, int]:
    async with engine.connect() as database:
        rows = await database.execute(
            text("SELECT tableoid::regclass::text, count(*) FROM viewing_sessions GROUP BY 1 ORDER BY 1")
        )
        return {row[0]: row[1] for row in rows}


async def test_nobody_waits_while_partitions_are_made(engine: AsyncEngine) -> None:
    await make_partitions(engine, at_ms=NOON)
    rows = Rows(engine)
    child = await rows.child(await rows.account(), at_ms=NOON)
    async with engine.begin() as writer:
        await writer.execute(
            text(
                "INSERT INTO viewing_time_balances (profile_id, day, starts_ms, ends_ms, used_ms, educational_ms,"
                " overrun_ms, version) VALUES (:child, :day, 0, 1, 0, 0, 0, 1)"
            ),
            {"child": child, "day": TODAY},
        )
        await writer.execute(text("SELECT count(*) FROM viewing_sessions"))
        made = await make_partitions(engine, at_ms=NOON + 60 * DAY_MS)
    assert {name.partition("_20")[0] for name in made} == {"viewing_sessions", "viewing_time_balances"}


async def test_several_may_make_them_at_the_same_time(engine: AsyncEngine) -> None:
    made = await asyncio.gather(*(make_partitions(engine, at_ms=NOON + days * DAY_MS) for days in (0, 3, 40, 90)))
    names = [name for some in made for name in some]
    found = [partition.name for usage in (SESSIONS, BALANCES) for partition in await _attached(engine, usage)]
    assert sorted(names) == sorted(found)


async def test_a_partition_has_the_indexes_and_room_of_its_table(engine: AsyncEngine) -> None:
    await make_partitions(engine, at_ms=NOON)
    async with engine.connect() as database:
        found = await database.execute(
            text("""
                SELECT c.reloptions, (SELECT count(*) FROM pg_index WHERE indrelid = c.oid),
                       (SELECT count(*) FROM pg_index x JOIN pg_inherits h ON h.inhrelid = x.indexrelid
                         WHERE x.indrelid = c.oid),
                       (SELECT count(*) FROM pg_constraint WHERE conrelid = c.oid AND contype = 'c' AND coninhcount = 1)
                  FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                 WHERE i.inhparent = 'viewing_sessions'::regclass
            """)
        )
        assert {tuple(map(str, row)) for row in found} == {("['fillfactor=80']", "2", "2", "1")}
