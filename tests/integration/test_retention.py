"""Retention removes old rows, blocks no writer, and late rows are refused."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import insert, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.counters import Counters, cold
from app.domain.policy import DayTerms
from app.domain.retention import RetentionPolicy
from app.domain.viewing_day import day_number_of
from app.errors import DatabaseUnavailable
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import make_partitions
from app.postgres_store.retention import PostgresRetention
from app.postgres_store.usage import PostgresUsage
from app.privacy.retention import retain
from app.timestamps import utc
from tests.rows import DAY_MS, Rows, start_of

if TYPE_CHECKING:
    from tests.servers import Databases

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
TODAY = date(2026, 3, 2)
KEEPING = RetentionPolicy()


@pytest.fixture(params=["postgres", "postgres15"])
async def rows(request: pytest.FixtureRequest) -> AsyncIterator[Rows]:
    """A database with partitions from 2025 on, on the newest and on the oldest server."""
    server: Databases = request.getfixturevalue(request.param)
    engine = create_engine(server.fresh(), pool_size=6, timeout_seconds=5)
    await make_partitions(engine, at_ms=NOON, days_back=425)
    yield Rows(engine)
    await engine.dispose()


async def _partitions(engine: AsyncEngine, parent: str) -> list[str]:
    """The tables of usage that are there at all, attached or not."""
    async with engine.connect() as database:
        found = await database.execute(
            text("SELECT relname FROM pg_class WHERE relkind = 'r' AND relname LIKE :pattern ORDER BY relname"),
            {"pattern": f"{parent}\\_2%"},
        )
        return [name.removeprefix(f"{parent}_") for name in found.scalars()]


async def test_what_is_too_old_is_dropped_by_the_week_and_the_month(rows: Rows) -> None:
    child = await rows.child(await rows.account(), at_ms=NOON)
    for day in (TODAY, date(2025, 12, 1), date(2025, 11, 30)):
        await rows.session(child, day, started_ms=start_of(day, 6), used_ms=60_000)
    for day in (TODAY, date(2025, 3, 1), date(2025, 2, 28)):
        await rows.balance(child, day, used_ms=60_000)
    await retain(PostgresRetention(rows.engine), retention_policy=KEEPING, at_ms=NOON)
    assert (await _partitions(rows.engine, "viewing_sessions"))[0] == "2025_12_01"
    assert (await _partitions(rows.engine, "viewing_time_balances"))[0] == "2025_03_01"
    assert await _count(rows.engine, "viewing_sessions") == 2
    assert await _count(rows.engine, "viewing_time_balances") == 2
    before = await _partitions(rows.engine, "viewing_sessions")
    await make_partitions(rows.engine, at_ms=NOON)
    assert await _partitions(rows.engine, "viewing_sessions") == before, "what was dropped is not made again"


async def test_no_writer_waits_while_a_partition_is_dropped(rows: Rows) -> None:
    child = await rows.child(await rows.account(), at_ms=NOON)
    retention, oldest = PostgresRetention(rows.engine), KEEPING.balances_from(NOON)
    async with rows.engine.connect() as writer:
        begun = await writer.begin()
        await writer.execute(insert(tables.viewing_time_balances).values(_balance(child, TODAY)))
        dropping = asyncio.create_task(retention.drop_partitions("balances", before=oldest))
        async with asyncio.timeout(10):
            while not await _waits_for_a_lock(rows.engine):  # noqa: ASYNC110  only the server knows
                await asyncio.sleep(0.01)
            # It waits for the first writer. The second must not have to.
            await rows.balance(child, TODAY + timedelta(days=1), used_ms=1)
            assert not dropping.done()
            with pytest.raises(DatabaseUnavailable):  # its patience ends first
                await dropping
        await begun.commit()
    assert "2025_01_01" in await _partitions(rows.engine, "viewing_time_balances")
    assert await retention.drop_partitions("balances", before=oldest) == [
        "viewing_time_balances_2025_01_01",
        "viewing_time_balances_2025_02_01",
    ]
    assert (await _partitions(rows.engine, "viewing_time_balances"))[0] == "2025_03_01"
    assert await _count(rows.engine, "viewing_time_balances") == 2


async def test_what_was_only_detached_is_dropped_by_a_later_run(rows: Rows) -> None:
    child = await rows.child(await rows.account(), at_ms=NOON)
    await rows.session(child, date(2025, 1, 19), started_ms=start_of(date(2025, 1, 19), 23), used_ms=60_000)
    async with rows.engine.begin() as database:
        for first in ("2025_01_06", "2025_01_13"):
            await database.execute(text(f"ALTER TABLE viewing_sessions DETACH PARTITION viewing_sessions_{first}"))
    retention = PostgresRetention(rows.engine)
    assert await retention.drop_partitions("sessions", before=date(2025, 1, 19)) == [
        "viewing_sessions_2025_01_06",
        "viewing_sessions_2024_12_30",
    ]
    assert "2025_01_13" in await _partitions(rows.engine, "viewing_sessions"), "not all in it is older"
    assert await retention.drop_partitions("sessions", before=date(2025, 1, 20)) == ["viewing_sessions_2025_01_13"]


async def test_other_rows_leave_one_by_one(rows: Rows) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 500 * DAY_MS)
    for age in (0, 364, 366):
        at_ms = NOON - age * DAY_MS
        await rows.grant(child, TODAY, 15, at_ms=at_ms)
        await rows.add(tables.extra_time_requests, _request(child, at_ms))
        await rows.add(
            tables.audit_log, {"account_id": account, "actor": "parent", "action": f"{age}", "at": utc(at_ms)}
        )
        await rows.add(
            tables.weekly_reports,
            {"account_id": account, "week_ending": utc(at_ms).date(), "report": {}, "changes": 0, "as_of": utc(at_ms)},
        )
    for age in (0, 89, 91):
        at_ms = NOON - age * DAY_MS
        await rows.add(tables.offline_batches, _batch(child, at_ms))
        await rows.add(tables.offline_intervals, _interval(child, at_ms))
        await rows.add(tables.parked_rows, _parked(child, at_ms))
    for hours in (0, 23, 25):
        at_ms = NOON - hours * 3_600_000
        key = {"account_id": account, "key": f"{hours}", "profile_id": child, "request_digest": b""}
        await rows.add(tables.idempotency_keys, key | {"created_at": utc(at_ms)})
        await rows.add(tables.lockouts, {"account_id": account, "kind": f"{hours}", "tried_ms": [1, at_ms]})
        died = {"tried_ms": [], "reserved_ms": {"a": 1, "b": at_ms}}  # by a process that died
        await rows.add(tables.lockouts, {"account_id": account, "kind": f"{hours} died", **died})
    for days in (-1, 1):
        at_ms = NOON - days * DAY_MS
        device = {"id": str(uuid4()), "account_id": account, "name": "phone", "created_at": utc(0)}
        await rows.add(tables.devices, device | {"expires_at": utc(at_ms)})
    for age in (395, 397):
        grave = {"subject_id": str(uuid4()), "kind": "profile", "erased_at": utc(NOON - age * DAY_MS)}
        await rows.add(tables.erasure_tombstones, grave)
    await retain(PostgresRetention(rows.engine), retention_policy=KEEPING, at_ms=NOON)
    left = {
        table.name: await _count(rows.engine, table.name)
        for table in (
            tables.time_grants, tables.extra_time_requests, tables.audit_log, tables.weekly_reports,
            tables.offline_batches, tables.offline_intervals, tables.parked_rows, tables.idempotency_keys,
            tables.lockouts, tables.devices, tables.erasure_tombstones,
        )
    }  # fmt: skip
    assert left.pop("devices") == left.pop("erasure_tombstones") == 1
    assert left.pop("lockouts") == 4
    assert set(left.values()) == {2}, left
    ages = {kind: REGISTRY.get_sample_value("hourglass_oldest_row_age_seconds", {"kind": kind}) for kind in _KINDS}
    expected = {
        "sessions": 0, "balances": 0, "grants": 364 * 86_400, "offline_batches": 89 * 86_400,
        "idempotency_keys": 23 * 3_600, "lockouts": 23 * 3_600, "devices": 0, "tombstones": 395 * 86_400,
        "weekly_reports": 364 * 86_400 + 43_200,
    }  # fmt: skip
    assert ages == pytest.approx(expected, abs=60)  # an age goes on by itself


_KINDS = (
    "sessions", "balances", "grants", "offline_batches", "idempotency_keys", "lockouts", "devices", "tombstones",
    "weekly_reports",
)  # fmt: skip


async def test_the_settings_in_force_stay_however_old(rows: Rows) -> None:
    child = await rows.child(await rows.account(), at_ms=NOON - 900 * DAY_MS)  # version 1
    for version, age in ((2, 500), (3, 100)):
        await rows.add(
            tables.viewing_time_config_history,
            {"profile_id": child, "version": version, "valid_from": utc(NOON - age * DAY_MS)},
        )
    await retain(PostgresRetention(rows.engine), retention_policy=KEEPING, at_ms=NOON)
    async with rows.engine.connect() as database:
        versions = await database.execute(select(tables.viewing_time_config_history.c.version).order_by("version"))
        assert versions.scalars().all() == [2, 3]


async def test_batches_follow_each_other_until_nothing_is_left(rows: Rows) -> None:
    child = await rows.child(await rows.account(), at_ms=NOON)
    await rows.add(tables.offline_intervals, *[_interval(child, NOON - 91 * DAY_MS) for _ in range(25)])
    retention, before_ms = PostgresRetention(rows.engine), NOON - 90 * DAY_MS
    assert [await retention.delete("offline_intervals", before_ms=before_ms, most=10) for _ in range(4)] == [
        10,
        10,
        5,
        0,
    ]


async def test_what_comes_too_late_is_refused_counted_and_not_parked(rows: Rows) -> None:
    await retain(PostgresRetention(rows.engine), retention_policy=KEEPING, at_ms=NOON)
    usage = PostgresUsage(rows.engine, lambda: NOON, KEEPING)
    before = _late()
    old, older, child = str(uuid4()), str(uuid4()), str(uuid4())
    entries = [
        (child, _live(TODAY)),
        (old, _live(TODAY - timedelta(days=120))),  # its session is too old, its balance is not
        (older, _live(TODAY - timedelta(days=500))),
    ]
    await usage.upsert(entries)
    assert _late() == {"sessions": before["sessions"] + 2, "balances": before["balances"] + 1}
    assert await _count(rows.engine, "viewing_sessions") == 1
    assert await _count(rows.engine, "viewing_time_balances") == 2
    assert await _count(rows.engine, "parked_rows") == 0


def _late() -> dict[str, float]:
    return {
        kind: REGISTRY.get_sample_value("hourglass_late_rows_total", {"kind": kind}) or 0
        for kind in ("sessions", "balances")
    }


def _live(day: date) -> Counters:
    starts_ms = start_of(day, 6)
    terms = DayTerms(day_number_of(day), starts_ms, starts_ms + DAY_MS, -1, -1)
    counters = cold(terms=terms, policy_version=1, at_ms=starts_ms)
    counters.session_id, counters.title_id, counters.device_id, counters.device_type = str(uuid4()), "film", "tv", "tv"
    counters.session_started_ms = counters.last_beat_ms = starts_ms
    return counters


async def _count(engine: AsyncEngine, table: str) -> int:
    async with engine.connect() as database:
        count: int = (await database.execute(text(f"SELECT count(*) FROM {table}"))).scalar_one()  # noqa: S608
        return count


async def _waits_for_a_lock(engine: AsyncEngine) -> bool:
    async with engine.connect() as database:
        return bool((await database.execute(text("SELECT count(*) FROM pg_locks WHERE NOT granted"))).scalar_one())


def _balance(child: str, day: date) -> dict[str, object]:
    usage = {"limit_ms": None, "allowance_ms": None, "used_ms": 0, "educational_ms": 0, "overrun_ms": 0, "version": 1}
    return {"profile_id": child, "day": day, "starts_ms": 0, "ends_ms": 1, **usage}


def _request(child: str, at_ms: int) -> dict[str, object]:
    at = utc(at_ms)
    row = {"id": str(uuid4()), "profile_id": child, "day": TODAY, "minutes": 15}
    return row | {"requested_at": at, "expires_at": at}


def _batch(child: str, at_ms: int) -> dict[str, object]:
    row = {"profile_id": child, "batch_id": str(uuid4()), "device_id": "pad", "is_tampered": False}
    return row | {"credited_ms": [], "synced_at": utc(at_ms)}


def _interval(child: str, at_ms: int) -> dict[str, object]:
    return {"profile_id": child, "title_id": "film", "starts_ms": at_ms - 1, "ends_ms": at_ms, "credited_ms": 1}


def _parked(child: str, at_ms: int) -> dict[str, object]:
    return {"profile_id": child, "source": str(uuid4()), "counters": {}, "error": "-", "parked_at": utc(at_ms)}
