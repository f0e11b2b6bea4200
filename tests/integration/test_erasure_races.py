"""An erasure beside concurrent writers: one waits for the other, and nothing is left."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from uuid import uuid4

import pytest
from sqlalchemy import Table, insert, select, text

from app.auth.lockout_rules import PASSWORD, Reservation
from app.domain.counters import Counters, cold
from app.domain.policy import DayTerms
from app.domain.unflushed import Unflushed
from app.domain.viewing_day import day_number_of
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.erasure import PostgresErasure
from app.postgres_store.lockouts import PostgresLockouts
from app.postgres_store.partitions import make_partitions
from app.postgres_store.usage import PostgresUsage
from app.timestamps import utc
from tests.rows import DAY_MS, Rows, start_of

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
TODAY = date(2026, 3, 2)


@pytest.fixture(scope="module")
async def rows(database_url: str) -> AsyncIterator[Rows]:
    engine = create_engine(database_url, pool_size=6, timeout_seconds=20)
    await make_partitions(engine, at_ms=NOON)
    yield Rows(engine)
    await engine.dispose()


@pytest.fixture
def usage(rows: Rows) -> PostgresUsage:
    return PostgresUsage(rows.engine, lambda: NOON)


@pytest.fixture
def erasure(rows: Rows) -> PostgresErasure:
    return PostgresErasure(rows.engine)


async def test_a_flush_that_comes_while_a_child_is_being_erased_writes_nothing(
    rows: Rows, usage: PostgresUsage, erasure: PostgresErasure
) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON)
    await usage.upsert([(child, _live())])
    batch = {"profile_id": child, "batch_id": "b", "device_id": "pad", "is_tampered": False, "credited_ms": []}
    await rows.add(tables.offline_batches, batch | {"synced_at": utc(NOON)})
    async with rows.engine.connect() as holder:
        await holder.execute(select(tables.offline_batches).with_for_update())
        erasing = asyncio.create_task(erasure.profile(account, child, actor="parent", at_ms=NOON))
        await _waiting(rows, 1)  # the usage is deleted, but that is not committed
        flushing = asyncio.create_task(usage.upsert([(child, _live(version=2))]))
        parking = asyncio.create_task(usage.dead_letter(Unflushed(child, _live()), "broken", at_ms=NOON))
        await _waiting(rows, 3)
    receipt = await erasing
    await asyncio.gather(flushing, parking)
    assert (receipt.counts["balances"], receipt.counts["sessions"]) == (1, 1)
    assert await _left(rows, child) == []


async def test_an_erasure_waits_for_a_flush_that_has_begun(
    rows: Rows, usage: PostgresUsage, erasure: PostgresErasure
) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON)
    await rows.balance(child, TODAY)
    async with rows.engine.connect() as holder:
        await holder.execute(select(tables.viewing_time_balances).with_for_update())
        flushing = asyncio.create_task(usage.upsert([(child, _live(version=2))]))
        await _waiting(rows, 1)
        erasing = asyncio.create_task(erasure.profile(account, child, actor="parent", at_ms=NOON))
        await _waiting(rows, 2)
    await flushing
    assert (await erasing).counts["sessions"] == 1
    assert await _left(rows, child) == []


async def test_a_wrong_password_beside_the_erasure_of_its_account_leaves_nothing(
    rows: Rows, erasure: PostgresErasure
) -> None:
    account = await rows.account()
    await rows.add(tables.lockouts, {"account_id": account, "kind": "pin", "tried_ms": [1]})
    async with rows.engine.connect() as holder:
        await holder.execute(select(tables.lockouts).with_for_update())
        erasing = asyncio.create_task(erasure.account(account, at_ms=NOON))
        await _waiting(rows, 1)
        reservation = Reservation(id="r", at_ms=NOON)
        ledger = PostgresLockouts(rows.engine)
        trying = asyncio.create_task(ledger.conclude(account, PASSWORD, reservation, is_right=False))
        await _waiting(rows, 2)
    _, erased = await erasing
    await trying
    assert erased.account_ids == (account,)
    async with rows.engine.connect() as database:
        assert (await database.execute(select(tables.lockouts))).all() == []


async def test_an_audit_entry_made_just_before_goes_with_its_account(rows: Rows, erasure: PostgresErasure) -> None:
    account = await rows.account()
    async with rows.engine.connect() as writer:
        await writer.execute(tables.accounts.update().where(tables.accounts.c.id == account).values(pin_hash="x"))
        entry = {"account_id": account, "actor": "household", "action": "pin_set", "at": utc(NOON)}
        await writer.execute(insert(tables.audit_log).values(entry))
        erasing = asyncio.create_task(erasure.account(account, at_ms=NOON))
        await _waiting(rows, 1)
        await writer.commit()
    receipt, _ = await erasing
    assert receipt.counts["audit_log"] == 1


async def test_siblings_keep_their_part_of_prepared_reports(rows: Rows, erasure: PostgresErasure) -> None:
    account = await rows.account()
    children = [await rows.child(account, at_ms=NOON) for _ in range(3)]
    report = {"children": [{"profile_id": child, "place": place} for place, child in enumerate(children)]}
    row = {"account_id": account, "week_ending": TODAY, "report": report, "as_of": utc(NOON), "changes": 0}
    await rows.add(tables.weekly_reports, row, row | {"week_ending": date(2026, 2, 1), "report": {"children": []}})
    receipt = await erasure.profile(account, children[1], actor="parent", at_ms=NOON)
    assert receipt.counts["weekly_reports"] == 1
    async with rows.engine.connect() as database:
        reports = tables.weekly_reports.c
        kept = await database.execute(select(reports.report).where(reports.week_ending == TODAY))
        assert [child["place"] for child in kept.scalar_one()["children"]] == [0, 2]


async def _waiting(rows: Rows, count: int) -> None:
    """Until so many transactions wait for a lock."""
    waiting = text("SELECT count(DISTINCT pid) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(15), rows.engine.connect() as database:
        while (await database.execute(waiting)).scalar_one() < count:  # noqa: ASYNC110  only the server knows
            await asyncio.sleep(0.01)


async def _left(rows: Rows, child: str) -> list[str]:
    """The tables that hold anything of a child."""
    owned: list[Table] = [
        table for table in tables.metadata.sorted_tables if "profile_id" in table.c or table is tables.profiles
    ]
    found = []
    async with rows.engine.connect() as database:
        for table in owned:
            owner = table.c.id if table is tables.profiles else table.c.profile_id
            if (await database.execute(select(owner).where(owner == child))).first() is not None:
                found.append(table.name)
    return found


def _live(*, version: int = 1) -> Counters:
    starts_ms = start_of(TODAY, 5)
    terms = DayTerms(day_number_of(TODAY), starts_ms, starts_ms + DAY_MS, -1, -1)
    counters = cold(terms=terms, policy_version=1, at_ms=starts_ms)
    counters.version, counters.session_id = NOON + version, str(uuid4())
    counters.session_started_ms = counters.last_beat_ms = NOON
    return counters
