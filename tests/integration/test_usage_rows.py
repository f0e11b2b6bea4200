"""Rows of the flush take each field of the counters to the column of its name, as PostgreSQL names them."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.counters import Counters
from app.postgres_store.engine import create_engine
from app.postgres_store.usage import _balance_rows, _Row, _session_rows
from tests.servers import Databases

_TEXTS = {"title_id", "device_id", "device_type", "previous_session_id"}
PROFILE, SESSION = UUID(int=1), UUID(int=2)
_VALUES: dict[str, Any] = {
    name: f"value {place}" if name in _TEXTS else 100 + place for place, name in enumerate(Counters.__struct_fields__)
}
_SET = {"session_id": str(SESSION), "uncounted": (1, 2), "is_educational": 1, "has_ended": 0, "day_ends_ms": 1000}
DISTINCT = Counters(**_VALUES | _SET)
"""Every field differs."""
ENTRIES = [(str(PROFILE), DISTINCT)]


@pytest.fixture
async def engine(postgres: Databases) -> AsyncIterator[AsyncEngine]:
    engine = create_engine(postgres.fresh(), pool_size=1, timeout_seconds=5)
    yield engine
    await engine.dispose()


async def columns_of(engine: AsyncEngine, rows: list[_Row], row_type: str) -> dict[str, Any]:
    async with engine.connect() as database:
        found = await database.exec_driver_sql(f"SELECT n.* FROM unnest($1::{row_type}[]) AS n", (rows,))  # noqa: S608  a type of ours
        return dict(found.mappings().one())


async def test_a_balance_is_the_running_day(engine: AsyncEngine) -> None:
    columns = await columns_of(engine, _balance_rows(ENTRIES), "flushed_balance_v3")
    renamed = {name: f"day_{name}" for name in ("starts_ms", "ends_ms")} | {"day": "day_number"}
    expected = {name: getattr(DISTINCT, renamed.get(name, name)) for name in columns if name != "profile_id"}
    assert columns == expected | {"profile_id": PROFILE}


async def test_a_session_is_its_part_of_the_day(engine: AsyncEngine) -> None:
    columns = await columns_of(engine, _session_rows(ENTRIES), "flushed_session_v2")
    renamed = {name: f"session_{name}" for name in ("used_ms", "educational_ms", "overrun_ms", "earlier_ms")}
    renamed |= {"day": "day_number", "uncounted_ms": "uncounted"}
    computed = {
        "id": SESSION,
        "profile_id": PROFILE,
        "started_ms": max(DISTINCT.session_started_ms, DISTINCT.day_starts_ms),
        "is_educational": True,
        "has_ended": False,
        "uncounted_ms": [1, 2],
    }
    assert columns == {name: getattr(DISTINCT, renamed.get(name, name)) for name in columns if name not in computed} | (
        computed
    )
