"""The in-memory usage store of the model tests behaves like PostgreSQL."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest_asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.counters import Counters
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import make_partitions
from app.postgres_store.usage import PostgresUsage
from tests.model.ledger import MemoryLedger

DAY_MS = 86_400_000
TODAY = 20_717
NOON_MS = TODAY * DAY_MS + DAY_MS // 2
MILLISECONDS = st.integers(0, 10_000)
FLAG = st.integers(0, 1)
PARTS = [("", 0), ("", 1), ("", 5), ("1", 5), ("2", 2), ("2", 1), ("3", 1), ("3", 0)]
"""Sessions ("" for none) and the days, counted back from today, on which they ran."""
STARTED_DAYS_AGO = {"": 0, "1": 5, "2": 2, "3": 1}


@pytest_asyncio.fixture(loop_scope="session")
async def engine(database_url: str) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(database_url, pool_size=2, timeout_seconds=5)
    await make_partitions(engine, at_ms=NOON_MS)
    yield engine
    await engine.dispose()


@st.composite
def counters_of(draw: Any) -> Counters:
    """Counters of a few versions, days and sessions, so that many tell of the same rows."""
    session, days_ago = draw(st.sampled_from(PARTS))
    day = TODAY - days_ago
    return Counters(
        version=draw(st.integers(1, 12)),
        generation=0,
        policy_version=0,
        dirty_since_ms=0,
        day_number=day,
        day_starts_ms=day * DAY_MS,
        day_ends_ms=(day + 1) * DAY_MS,
        limit_ms=draw(st.sampled_from([-1, 0, 900_000])),
        allowance_ms=draw(st.sampled_from([-1, 0, 900_000])),
        used_ms=draw(MILLISECONDS),
        educational_ms=draw(MILLISECONDS),
        overrun_ms=draw(MILLISECONDS),
        session_id=session,
        title_id="film",
        is_educational=draw(FLAG),
        device_id="sofa",
        device_type="tv",
        session_started_ms=(TODAY - STARTED_DAYS_AGO[session]) * DAY_MS + 50_000_000,
        last_beat_ms=draw(MILLISECONDS),
        paused_since_ms=draw(MILLISECONDS),
        watched_ms=draw(MILLISECONDS),
        session_used_ms=draw(MILLISECONDS),
        session_educational_ms=draw(MILLISECONDS),
        session_overrun_ms=draw(MILLISECONDS),
        session_earlier_ms=draw(MILLISECONDS),
        has_ended=draw(FLAG),
        lease_ms=draw(MILLISECONDS),
        abandoned_sessions=draw(st.integers(0, 5)),
        uncounted=draw(st.sampled_from([(), (1, 2), (50_000_000, 50_000_001, 60_000_000, 70_000_000)])),
        unbroken_ms=draw(MILLISECONDS),
        played_until_ms=draw(MILLISECONDS),
        borrowed_ms=draw(MILLISECONDS),
        owed_ms=draw(MILLISECONDS),
        finish_until_ms=draw(MILLISECONDS),
    )


@given(batches=st.lists(st.lists(counters_of(), max_size=6, unique_by=lambda counters: counters.version), max_size=5))
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_both_know_the_same_after_the_same_batches(engine: AsyncEngine, batches: list[list[Counters]]) -> None:
    child, sessions = str(uuid4()), {name: name and str(uuid4()) for name in STARTED_DAYS_AGO}
    ledger, usage = MemoryLedger(lambda: NOON_MS), PostgresUsage(engine, lambda: NOON_MS)
    for batch in batches:
        for counters in batch:
            counters.session_id = sessions[counters.session_id]
        entries = [(child, counters) for counters in batch]
        await ledger.upsert(entries)
        await usage.upsert(entries)
        assert await usage.recover([child]) == await ledger.recover([child])
    async with engine.connect() as database:
        rows = await database.exec_driver_sql(
            "SELECT day - DATE '1970-01-01', used_ms, educational_ms, overrun_ms FROM viewing_time_balances"
            " WHERE profile_id = $1::uuid ORDER BY day",
            (child,),
        )
        assert {row[0]: tuple(row[1:]) for row in rows} == ledger.sums_ms(child)
    for session_id in filter(None, sessions.values()):
        written = await usage.shares(child, session_id)
        assert sorted(written, key=lambda share: share.day_number) == await ledger.shares(child, session_id)
