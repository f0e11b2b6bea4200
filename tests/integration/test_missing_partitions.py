"""Usage of a period without a partition: after a clock step, or after weeks without a worker."""

from collections.abc import AsyncIterator
from datetime import date

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.counters import Counters
from app.domain.policy import UNLIMITED
from app.domain.unflushed import RowRefused
from app.domain.viewing_day import DAY_MS
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import BALANCES, SESSIONS, attached, make_partitions_for
from app.postgres_store.usage import PostgresUsage
from tests.servers import Databases

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
PROFILE = "6f1d2c9e-6a51-4e7f-9f0a-0d1f5a1f7c11"


@pytest.fixture
async def engine(postgres: Databases) -> AsyncIterator[AsyncEngine]:
    """A database in which there is no partition at all."""
    engine = create_engine(postgres.fresh(), pool_size=3, timeout_seconds=5)
    yield engine
    await engine.dispose()


def watched(at_ms: int, number: int = 1) -> Counters:
    """Half an hour, counted up to an instant."""
    day = at_ms // DAY_MS
    return Counters(
        version=at_ms,
        generation=0,
        policy_version=1,
        dirty_since_ms=at_ms,
        day_number=day,
        day_starts_ms=day * DAY_MS,
        day_ends_ms=(day + 1) * DAY_MS,
        limit_ms=UNLIMITED,
        allowance_ms=UNLIMITED,
        used_ms=1_800_000,
        session_id=f"6f1d2c9e-6a51-4e7f-9f0a-{number:012}",
        title_id="film",
        device_id="tv",
        device_type="tv",
        session_started_ms=at_ms - 1_800_000,
        last_beat_ms=at_ms,
        session_used_ms=1_800_000,
    )


async def counted(engine: AsyncEngine, question: str) -> int:
    async with engine.connect() as database:
        return int((await database.execute(text(question))).scalar_one())


@pytest.mark.parametrize("days", [0, 1, 35, 300, -1, -59])
async def test_a_flush_makes_what_is_missing(engine: AsyncEngine, days: int) -> None:
    usage = PostgresUsage(engine, lambda: NOON)
    await usage.upsert([(PROFILE, watched(NOON + days * DAY_MS))])
    assert await counted(engine, "SELECT sum(used_ms) FROM viewing_time_balances") == 1_800_000
    assert await counted(engine, "SELECT sum(used_ms) FROM viewing_sessions") == 1_800_000


async def test_a_flush_of_many_days_makes_all_of_them(engine: AsyncEngine) -> None:
    usage = PostgresUsage(engine, lambda: NOON)
    await usage.upsert([(PROFILE, watched(NOON - day * DAY_MS, day)) for day in range(60)])
    assert await counted(engine, "SELECT count(*) FROM viewing_time_balances") == 60
    assert await counted(engine, "SELECT count(*) FROM viewing_sessions") == 60


async def test_a_row_of_a_day_that_no_clock_explains_is_refused(engine: AsyncEngine) -> None:
    usage = PostgresUsage(engine, lambda: NOON)
    with pytest.raises(RowRefused):
        await usage.upsert([(PROFILE, watched(NOON + 4000 * DAY_MS))])
    async with engine.connect() as database:
        assert await attached(database, BALANCES) == []


async def test_a_check_that_fails_is_still_the_row_s_fault(engine: AsyncEngine) -> None:
    """It has the same SQLSTATE as a missing partition."""
    await make_partitions_for(engine, BALANCES, [date(2026, 3, 2)])
    await make_partitions_for(engine, SESSIONS, [date(2026, 3, 2)])
    counters = watched(NOON)
    counters.used_ms = -5
    with pytest.raises(RowRefused):
        await PostgresUsage(engine, lambda: NOON).upsert([(PROFILE, counters)])
