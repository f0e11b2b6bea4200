"""Weekly reports prepared when the week has ended."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date, timedelta

import msgspec
import pytest
from sqlalchemy import delete, func, select, text

from app.domain.counters import Counters, cold
from app.domain.markets import Markets
from app.domain.offline import OfflineBatch, Part, Settlement
from app.domain.policy import DayTerms, OfflineUse
from app.domain.viewing_day import day_number_of
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.offline import PostgresOffline
from app.postgres_store.partitions import make_partitions
from app.postgres_store.reports import PostgresReports
from app.postgres_store.usage import PostgresUsage
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.reports.weekly import SETTLING_MS, WeeklyReports
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
    past = PostgresReports(rows.engine, markets=Markets())
    return WeeklyReports(past, PostgresWeeklyReports(rows.engine))


async def _prepared(rows: Rows) -> dict[str, date]:
    """The last week that each family has."""
    reports = tables.weekly_reports.c
    last = select(reports.account_id, func.max(reports.week_ending)).group_by(reports.account_id)
    async with rows.engine.connect() as database:
        found = await database.execute(last)
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
    entering, making = 1 + 1 + 1, 1 + 3 + 2
    assert len(sent) == 2 * (entering + making) + 2


async def test_a_week_is_due_when_it_has_ended_for_every_child(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await rows.child(account, at_ms=NOON - 30 * DAY_MS, timezone="Pacific/Honolulu")
    sunday_ends = start_of(date(2026, 3, 2), 16)
    assert await weekly.prepare(at_ms=sunday_ends + SETTLING_MS - 1) == 0
    assert await weekly.prepare(at_ms=sunday_ends + SETTLING_MS) == 1
    assert await _prepared(rows) == {account: SUNDAY}


async def test_a_week_ends_on_sunday(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    for days, week_end in ((0, SUNDAY), (6, SUNDAY), (7, SUNDAY + timedelta(days=7))):
        await weekly.prepare(at_ms=NOON + days * DAY_MS)
        assert await _prepared(rows) == {account: week_end}


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
    await kept.enter([account], SUNDAY)
    async with rows.engine.begin() as erasing:
        await erasing.execute(delete(tables.profiles).where(tables.profiles.c.id == child))
        retention_policy = asyncio.create_task(kept.keep(SUNDAY, {account: (1, report)}))
        await _waits_for_a_lock(rows)
    assert await retention_policy == 0
    assert await kept.keep(SUNDAY, {account: (1, report)}) == 0
    assert await kept.find(account, SUNDAY) is None


async def _waits_for_a_lock(rows: Rows) -> None:
    waiting = text("SELECT count(*) FROM pg_locks WHERE NOT granted")
    async with asyncio.timeout(5), rows.engine.connect() as database:
        while (await database.execute(waiting)).scalar_one() == 0:
            pass


async def test_a_run_that_ended_halfway_is_continued(rows: Rows, weekly: WeeklyReports) -> None:
    accounts = [await rows.account() for _ in range(2)]
    for account in accounts:
        await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await PostgresWeeklyReports(rows.engine).enter(accounts[:1], SUNDAY)  # and then the worker was killed
    assert await weekly.prepare(at_ms=NOON) == 2
    assert await weekly.prepare(at_ms=NOON) == 0


async def test_of_two_that_prepare_one_keeps_each_report(rows: Rows, weekly: WeeklyReports) -> None:
    for _ in range(150):
        await rows.child(await rows.account(), at_ms=NOON - 30 * DAY_MS)
    counts = await asyncio.gather(weekly.prepare(at_ms=NOON), weekly.prepare(at_ms=NOON))
    assert sum(counts) == 150
    assert len(await _prepared(rows)) == 150


async def test_a_late_flush_renews_the_reports_that_tell_of_its_day(rows: Rows, weekly: WeeklyReports) -> None:
    """The child's counters of Friday 27 February reach PostgreSQL on Monday a week later."""
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    other = await rows.account()
    await rows.child(other, at_ms=NOON - 30 * DAY_MS)
    next_sunday, next_monday_ms = SUNDAY + timedelta(days=7), NOON + 7 * DAY_MS
    assert await weekly.prepare(at_ms=NOON) == 2
    assert await weekly.prepare(at_ms=next_monday_ms) == 2
    usage = PostgresUsage(rows.engine, lambda: next_monday_ms)

    await usage.upsert([(child, _friday(used_ms=HOUR))])
    assert await weekly.prepare(at_ms=next_monday_ms + 1) == 2
    assert await weekly.prepare(at_ms=next_monday_ms + 2) == 0

    kept = PostgresWeeklyReports(rows.engine)
    of_its_week, of_the_next = await kept.find(account, SUNDAY), await kept.find(account, next_sunday)
    assert of_its_week is not None
    assert of_the_next is not None
    assert of_its_week.children[0].total_ms == HOUR
    assert (of_the_next.children[0].total_ms, of_the_next.children[0].previous_ms) == (0, HOUR)


async def _reserved(_: Settlement) -> bool:
    return True


async def test_offline_playback_that_is_synced_later_renews_it_too(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await weekly.prepare(at_ms=NOON)
    friday = _friday()
    time_range = (friday.day_starts_ms, friday.day_starts_ms + HOUR)
    batch = OfflineBatch(child, "tablet-1", "batch-1", False, ("film",), time_range, NOON)
    part = Part(place=0, starts_ms=time_range[0], ends_ms=time_range[1], day_number=friday.day_number, used_ms=HOUR)
    terms = DayTerms(friday.day_number, friday.day_starts_ms, friday.day_ends_ms, 2 * HOUR, 2 * HOUR)
    credited = Settlement((HOUR,), (part,), (OfflineUse(friday.day_number, HOUR),), (terms,), (0,))
    for _ in range(2):  # the second one is a repeat
        await PostgresOffline(rows.engine, markets=Markets()).apply(
            batch, settle=lambda *_: credited, reserve=_reserved
        )
    assert await weekly.prepare(at_ms=NOON) == 1
    found = await PostgresWeeklyReports(rows.engine).find(account, SUNDAY)
    assert found is not None
    assert (found.children[0].total_ms, found.children[0].top_titles[0].total_ms) == (HOUR, HOUR)


async def test_what_is_flushed_in_time_renews_nothing(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await weekly.prepare(at_ms=NOON)
    ends_ms = _friday().day_ends_ms
    await PostgresUsage(rows.engine, lambda: ends_ms + 5 * 60_000).upsert([(child, _friday(used_ms=HOUR))])
    assert await weekly.prepare(at_ms=NOON) == 0
    await PostgresUsage(rows.engine, lambda: ends_ms + 5 * 60_000 + 1).upsert([(child, _friday(used_ms=HOUR))])
    assert await weekly.prepare(at_ms=NOON) == 1


async def test_a_change_while_a_report_is_made_is_not_missed(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    kept = PostgresWeeklyReports(rows.engine)
    await kept.enter([account], SUNDAY)
    before = await weekly.report(account_id=account, week_ending=SUNDAY, at_ms=NOON)
    await PostgresUsage(rows.engine, lambda: NOON).upsert([(child, _friday(used_ms=HOUR))])
    assert await kept.keep(SUNDAY, {account: (1, before)}) == 0
    assert await weekly.prepare(at_ms=NOON) == 1
    found = await kept.find(account, SUNDAY)
    assert found is not None
    assert found.children[0].total_ms == HOUR


async def test_a_report_whose_sessions_are_gone_stays_as_it_is(rows: Rows, weekly: WeeklyReports) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await weekly.prepare(at_ms=NOON)
    await PostgresUsage(rows.engine, lambda: NOON).upsert([(child, _friday(used_ms=HOUR))])
    much_later_ms = NOON + 90 * DAY_MS
    assert await weekly.prepare(at_ms=much_later_ms) == 1  # that of the last week alone
    found = await weekly.report(account_id=account, week_ending=SUNDAY, at_ms=much_later_ms)
    assert found.children[0].total_ms == 0


def _friday(*, used_ms: int = 0) -> Counters:
    """Counters of 27 February, from 05:00 UTC on."""
    friday = date(2026, 2, 27)
    starts_ms = start_of(friday, 5)
    terms = DayTerms(day_number_of(friday), starts_ms, starts_ms + DAY_MS, 2 * HOUR, 2 * HOUR)
    counters = cold(terms=terms, policy_version=1, at_ms=starts_ms)
    return msgspec.structs.replace(counters, used_ms=used_ms, version=starts_ms + HOUR + used_ms)
