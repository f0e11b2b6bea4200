"""Weekly reports prepared when the week has ended."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta

import pytest
from sqlalchemy import delete, select, text

from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import make_partitions
from app.postgres_store.reports import PostgresReports
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.reports.weekly import WeeklyReports
from tests.rows import DAY_MS, Rows, start_of
from tests.statements import statements_of

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
HOUR = 3_600_000
SUNDAY = date(2026, 3, 1)


@pytest.fixture(scope="module")
async def rows(database_url: str) -> AsyncIterator[Rows]:
    engine = create_engine(database_url, pool_size=4, timeout_seconds=5)
    await make_partitions(engine, at_ms=NOON)
    yield Rows(engine)
    await engine.dispose()


@pytest.fixture(autouse=True)
async def _nobody(rows: Rows) -> None:
    async with rows.engine.begin() as database:
        await database.execute(delete(tables.accounts))


@pytest.fixture
def weekly(rows: Rows) -> WeeklyReports:
    past = PostgresReports(rows.engine, weekend_days=(5, 6))
    return WeeklyReports(past, PostgresWeeklyReports(rows.engine))


async def _prepared(rows: Rows) -> dict[str, date]:
    reports = tables.weekly_reports.c
    async with rows.engine.connect() as database:
        found = await database.execute(select(reports.account_id, reports.week_ending))
        return dict(iter(found))


async def test_every_family_gets_the_report_it_would_ask_for(rows: Rows, weekly: WeeklyReports) -> None:
    families = [await rows.account() for _ in range(3)]
    for account in families:
        for number in range(2):
            child = await rows.child(account, at_ms=NOON - (30 - number) * DAY_MS, name=f"Child {number}")
            await rows.balance(child, SUNDAY, used_ms=number * HOUR)
            await rows.session(child, SUNDAY, started_ms=start_of(SUNDAY, 6), used_ms=number * HOUR)
            await rows.grant(child, SUNDAY, 15, at_ms=NOON)
    await rows.adult(await rows.account())
    assert await weekly.prepare(at_ms=NOON) == 3
    assert await _prepared(rows) == dict.fromkeys(families, SUNDAY)
    kept = PostgresWeeklyReports(rows.engine)
    for account in families:
        asked = await weekly.report(account_id=account, week_ending=SUNDAY, at_ms=NOON)
        assert await kept.find(account, SUNDAY) == asked
    assert await weekly.prepare(at_ms=NOON + HOUR) == 0


async def test_a_hundred_families_share_their_statements(rows: Rows, weekly: WeeklyReports) -> None:
    for _ in range(101):
        await rows.child(await rows.account(), at_ms=NOON - 30 * DAY_MS)
    with statements_of(rows.engine) as sent:
        assert await weekly.prepare(at_ms=NOON) == 101
    assert len(sent) == 2 * (1 + 3 + 2) + 1


async def test_a_week_is_due_when_it_has_ended_for_every_child(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await rows.child(account, at_ms=NOON - 30 * DAY_MS, timezone="Pacific/Honolulu")
    sunday_ends = start_of(date(2026, 3, 2), 16)
    assert await weekly.prepare(at_ms=sunday_ends - 1) == 0
    assert await weekly.prepare(at_ms=sunday_ends) == 1
    assert await _prepared(rows) == {account: SUNDAY}


async def test_a_week_ends_on_sunday(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    for days, week_end in ((0, SUNDAY), (6, SUNDAY), (7, SUNDAY + timedelta(days=7))):
        await weekly.prepare(at_ms=NOON + days * DAY_MS)
        assert max((await _prepared(rows)).values()) == week_end


async def test_a_prepared_report_outlives_its_sessions(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 30 * DAY_MS, name="Ada")
    await rows.balance(child, SUNDAY, used_ms=HOUR)
    await rows.session(child, SUNDAY, started_ms=start_of(SUNDAY, 6), used_ms=HOUR)
    await weekly.prepare(at_ms=NOON)
    async with rows.engine.begin() as database:
        await database.execute(delete(tables.viewing_sessions))

    async def titles(days_later: int) -> list[str]:
        at_ms = NOON + days_later * DAY_MS
        with statements_of(rows.engine) as sent:
            report = await weekly.report(account_id=account, week_ending=SUNDAY, at_ms=at_ms)
        assert len(sent) == (1 if days_later > 82 else 3)
        assert report.children[0].total_ms == HOUR
        return [title.title_id for title in report.children[0].top_titles]

    assert await titles(82) == []
    assert await titles(83) == ["film"]
    later = NOON + 100 * DAY_MS
    stranger = await weekly.report(account_id=await rows.account(), week_ending=SUNDAY, at_ms=later)
    assert stranger.children == ()


async def test_an_erased_child_does_not_come_back_in_a_report(rows: Rows, weekly: WeeklyReports) -> None:
    """Another transaction erases the child while its report is about to be kept."""
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    report = await weekly.report(account_id=account, week_ending=SUNDAY, at_ms=NOON)
    kept = PostgresWeeklyReports(rows.engine)
    async with rows.engine.begin() as erasing:
        await erasing.execute(delete(tables.profiles).where(tables.profiles.c.id == child))
        keeping = asyncio.create_task(kept.keep({account: report}))
        await _waits_for_a_lock(rows)
    await keeping
    assert await _prepared(rows) == {}
    await kept.keep({account: report})
    assert await _prepared(rows) == {}


async def _waits_for_a_lock(rows: Rows) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(5), rows.engine.connect() as database:
        while (await database.execute(waiting)).scalar_one() == 0:
            pass


async def test_a_report_is_kept_once(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    kept = PostgresWeeklyReports(rows.engine)
    first = await weekly.report(account_id=account, week_ending=SUNDAY, at_ms=NOON)
    second = await weekly.report(account_id=account, week_ending=SUNDAY, at_ms=NOON + HOUR)
    await asyncio.gather(kept.keep({account: first}), kept.keep({account: first}))
    await kept.keep({account: second})
    assert await kept.find(account, SUNDAY) == first
