"""Query plans of reports: by index, and only in the weeks and months in question.

The plans are those of the statements as they were sent and executed: auto_explain tells them to the connection that
sent them. The tables are large enough, and analysed, for the planner to have a choice.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.config import ConfigChange
from app.domain.markets import Markets
from app.domain.offline import OfflineBatch, Part, Settlement
from app.domain.policy import DayTerms, OfflineUse
from app.domain.viewing_day import day_number_of
from app.parents.service import ChildSettings
from app.postgres_store.configs import PostgresConfigs
from app.postgres_store.engine import create_engine
from app.postgres_store.offline import PostgresOffline
from app.postgres_store.partitions import BALANCES, SESSIONS, Partition, attached, make_partitions
from app.postgres_store.reports import PostgresReports
from app.postgres_store.usage import PostgresUsage
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.reports.cursors import Cursors
from app.reports.history import History
from app.reports.weekly import WeeklyReports
from tests.rows import DAY_MS, Rows, start_of
from tests.servers import Databases

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
MINUTE = 60_000
TODAY = date(2026, 3, 2)
WEEKEND = (5, 6)
DAYS_BACK, LAST = 366, date(2026, 4, 30)
CHILDREN = 3
FEW_ROWS = 500

# Strangers fill the tables: 1,000 of them over the last month, 20 over more than a year.
_STRANGERS = """
INSERT INTO viewing_time_balances
       (profile_id, day, starts_ms, ends_ms, limit_ms, allowance_ms, used_ms, educational_ms, overrun_ms, version)
SELECT md5('stranger ' || child)::uuid, day::date, starts_ms, starts_ms + 86400000, 7200000, 7200000, 3600000, 0, 0,
       starts_ms + 43200000
  FROM (SELECT child, day, extract(epoch FROM day)::bigint * 1000 + 18000000 AS starts_ms
          FROM generate_series(1, 1000) AS child,
               generate_series(DATE '2025-03-01', DATE '2026-03-02', INTERVAL '1 day') AS day
         WHERE child <= 20 OR day >= DATE '2026-02-01') days;
INSERT INTO viewing_sessions
       (id, day, started_at, profile_id, title_id, is_educational, device_id, device_type, session_started_ms,
        last_beat_ms, has_ended, paused_since_ms, watched_ms, used_ms, educational_ms, overrun_ms, earlier_ms, version)
SELECT gen_random_uuid(), day, TIMESTAMPTZ 'epoch' + starts_ms * INTERVAL '1 millisecond', profile_id, 'film', false,
       'tv-1', 'tv', starts_ms, starts_ms + used_ms, true, 0, -1, used_ms, 0, 0, 0, version
  FROM viewing_time_balances;
"""

# Families of one child each, of whom half have their report entered already.
_FAMILIES = """
INSERT INTO accounts (id, email, password_hash, timezone, created_at)
SELECT id, id || '@example.org', '', 'Etc/UTC', now()
  FROM (SELECT gen_random_uuid() AS id FROM generate_series(1, 5000)) AS families;
INSERT INTO profiles (id, account_id, name, is_kids, timezone, policy_version, policy_changed_at, created_at)
SELECT gen_random_uuid(), id, 'Ada', true, 'Etc/UTC', 1, now(), now() FROM accounts WHERE password_hash = '';
INSERT INTO weekly_reports (account_id, week_ending, changes)
SELECT id, DATE '2026-03-01', 0 FROM accounts WHERE password_hash = '' AND id < '80000000-0000-0000-0000-000000000000'
    ON CONFLICT DO NOTHING;
ANALYZE accounts, profiles, weekly_reports;
"""


@dataclass
class Plans:
    """What the connections of an engine were told about their statements."""

    engine: AsyncEngine
    rows: Rows
    partitions: dict[str, Partition]
    told: list[dict[str, Any]] = field(default_factory=list)

    def note(self, _connection: object, message: Any) -> None:
        _, found, plan = str(message.message).partition("plan:\n")
        if found:
            self.told.append(msgspec.json.decode(plan))

    def scans(self) -> list[dict[str, Any]]:
        """Nodes that read usage, except those that were pruned or left out when the statement ran."""
        return [
            node
            for plan in self.told
            for node in _nodes(plan["Plan"])
            if node.get("Relation Name") in self.partitions and node["Actual Loops"] > 0
        ]

    def read_outside(self, first: date, last: date) -> set[str]:
        """The partitions that were read although they hold none of these days (UTC)."""
        read = {node["Relation Name"]: self.partitions[node["Relation Name"]] for node in self.scans()}
        from_ms, until_ms = start_of(first, 0), start_of(last, 24)
        return {name for name, held in read.items() if held.until_ms <= from_ms or held.first_ms >= until_ms}


def _nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for below in plan.get("Plans", ()):
        yield from _nodes(below)


@pytest.fixture(scope="module")
async def filled(postgres: Databases) -> str:
    url = postgres.fresh()
    engine = create_engine(url, pool_size=1, timeout_seconds=60)
    await make_partitions(engine, at_ms=NOON, days_back=DAYS_BACK)
    async with engine.begin() as database:
        for statement in _STRANGERS.split(";")[:-1]:
            await database.exec_driver_sql(statement)
    await engine.dispose()
    name = url.rpartition("/")[2].partition("?")[0]
    postgres.execute("ANALYZE", database=name)
    return url


@pytest.fixture(scope="module", params=["custom", "generic"])
async def plans(filled: str, request: pytest.FixtureRequest) -> AsyncIterator[Plans]:
    """Plans for the values at hand, as for a statement that is new to a connection, and for any values."""
    engine = create_engine(filled, pool_size=1, timeout_seconds=60)
    async with engine.connect() as database:
        partitions = [*await attached(database, SESSIONS), *await attached(database, BALANCES)]
    await engine.dispose()
    plans = Plans(engine, Rows(engine), {partition.name: partition for partition in partitions})

    @event.listens_for(engine.sync_engine, "connect")
    def explain(connection: Any, _record: object) -> None:
        connection.driver_connection.add_log_listener(plans.note)
        cursor = connection.cursor()
        for statement in (
            "LOAD 'auto_explain'",
            "SET auto_explain.log_min_duration = 0",
            "SET auto_explain.log_analyze = on",
            "SET auto_explain.log_timing = off",
            "SET auto_explain.log_format = json",
            "SET client_min_messages = log",
            f"SET plan_cache_mode = force_{request.param}_plan",
        ):
            cursor.execute(statement)
        cursor.close()
        connection.commit()

    yield plans
    await engine.dispose()


@dataclass
class Scene:
    """Children with a year of days and three months of sessions."""

    account: str
    children: list[str]


@pytest.fixture
async def family(plans: Plans) -> Scene:
    rows = plans.rows
    account = await rows.account()
    children = [await rows.child(account, at_ms=NOON - 400 * DAY_MS) for _ in range(CHILDREN)]
    for child in children:
        for age in (0, 1, 2, 5, 9, 13, 20, 28, 60, 300):
            day = TODAY - timedelta(days=age)
            await rows.balance(child, day, used_ms=200 * MINUTE)
            await rows.session(child, day, started_ms=start_of(day, 6), used_ms=200 * MINUTE)
        await rows.grant(child, TODAY - timedelta(days=1), 15, at_ms=NOON)
    return Scene(account, children)


def _reads_many(node: dict[str, Any]) -> bool:
    """An index pays from there on; the older weeks of the strangers are a few pages each."""
    return int(node["Actual Rows"]) + int(node.get("Rows Removed by Filter", 0)) > FEW_ROWS


@contextmanager
def _read(plans: Plans, *, first: date, last: date, least: int = 1, children: int = CHILDREN) -> Iterator[None]:
    """What the block asks uses indexes and reads the partitions of these days only, in so many statements at least.

    It looks into a week of sessions once for each child at most, not once for each session.
    """
    plans.told.clear()
    yield
    assert len(plans.told) >= least, "auto_explain told nothing"
    scans = plans.scans()
    assert scans, "usage was not read"
    assert [node for node in scans if "Seq Scan" in node["Node Type"] and _reads_many(node)] == []
    assert plans.read_outside(first, last) == set()
    looked = [node["Actual Loops"] for node in scans if node["Relation Name"].startswith("viewing_sessions")]
    assert max(looked, default=0) <= children


def _weekly(plans: Plans) -> WeeklyReports:
    past = PostgresReports(plans.engine, markets=Markets())
    return WeeklyReports(past, PostgresWeeklyReports(plans.engine))


async def test_history(plans: Plans, family: Scene) -> None:
    history = History(PostgresReports(plans.engine, markets=Markets()), cursors=Cursors(b"secret"))
    asked: dict[str, Any] = {"account_id": family.account, "profile_id": family.children[0], "at_ms": NOON}
    last_days: dict[str, Any] = asked | {"first": None, "last": None, "empty_days": True}
    # Which day runs is not known before the statement; days to come have a partition as well.
    with _read(plans, first=date(2026, 1, 30), last=TODAY + timedelta(days=2), least=3):
        page = await history.page(**last_days, cursor=None, limit=3)
    assert len(page.days) == 3
    # A day without a balance owes what the day before borrowed.
    with _read(plans, first=date(2026, 1, 31), last=TODAY, least=3):
        page = await history.page(**last_days, cursor=page.next_cursor, limit=100)
    assert len(page.days) == 27
    # Nor is the zone: the last day may have ended on the second day after its date (UTC).
    with _read(plans, first=date(2025, 5, 1), last=date(2025, 6, 2), least=2):
        page = await history.page(
            **asked, first=date(2025, 5, 1), last=date(2025, 5, 31), empty_days=False, cursor=None, limit=100
        )
    assert [day.totals.day for day in page.days] == [date(2025, 5, 6)]


async def test_weekly_report(plans: Plans, family: Scene) -> None:
    with _read(plans, first=date(2026, 2, 16), last=TODAY, least=3):
        report = await _weekly(plans).report(account_id=family.account, week_ending=None, at_ms=NOON)
    assert [child.total_ms for child in report.children] == [3 * 200 * MINUTE] * CHILDREN
    assert all(child.top_titles for child in report.children)


async def test_preparing_weekly_reports(plans: Plans, family: Scene) -> None:
    with _read(plans, first=date(2026, 2, 16), last=TODAY, least=5, children=100):  # those of other tests, too
        assert await _weekly(plans).prepare(at_ms=NOON) >= 1
    assert await PostgresWeeklyReports(plans.engine).find(family.account, date(2026, 3, 1)) is not None


async def test_preview(plans: Plans, family: Scene) -> None:
    unused: Any = None  # nothing is announced
    settings = ChildSettings(
        configs=PostgresConfigs(plans.engine),
        past=PostgresReports(plans.engine, markets=Markets()),
        ended_days=unused,
        announcements=unused,
        markets=Markets(),
        pause_grace_ms=0,
    )
    with _read(plans, first=date(2026, 2, 1), last=TODAY, least=3):
        preview = await settings.preview(
            account_id=family.account,
            profile_id=family.children[0],
            change=ConfigChange(weekday_limit_minutes=30, weekend_limit_minutes=30),
            at_ms=NOON,
        )
    assert [day.at_ms is not None for day in preview.blocked] == [True] * 7


async def test_recovery_of_counters(plans: Plans, family: Scene) -> None:
    usage = PostgresUsage(plans.engine, lambda: NOON)
    with _read(plans, first=TODAY - timedelta(days=3), last=LAST):
        found = await usage.recover(family.children)
    running = [counters for counters in found if counters]
    assert [counters.used_ms for counters in running] == [200 * MINUTE] * CHILDREN
    with _read(plans, first=TODAY - timedelta(days=100), last=LAST):
        [share] = await usage.shares(family.children[0], running[0].session_id)
    assert share.credited_ms == 200 * MINUTE


async def _reserved(_: Settlement) -> bool:
    return True


async def test_offline_sync(plans: Plans, family: Scene) -> None:
    starts_ms = start_of(TODAY, 7)
    time_range = starts_ms, starts_ms + MINUTE
    batch = OfflineBatch(family.children[0], "tablet-1", str(uuid4()), False, ("film",), time_range, NOON)
    number = day_number_of(TODAY)
    terms = DayTerms(number, start_of(TODAY, 5), start_of(TODAY, 5) + DAY_MS, -1, -1)
    part = Part(place=0, starts_ms=starts_ms, ends_ms=starts_ms + MINUTE, day_number=number, used_ms=MINUTE)
    settlement = Settlement((MINUTE,), (part,), (OfflineUse(number, MINUTE),), (terms,), (0,))
    with _read(plans, first=TODAY - timedelta(days=2), last=TODAY + timedelta(days=1), least=4):
        await PostgresOffline(plans.engine, markets=Markets()).apply(
            batch, settle=lambda *_: settlement, reserve=_reserved
        )


async def test_which_reports_are_missing_is_read_from_where_the_batch_before_has_ended(plans: Plans) -> None:
    """Not from the start, which made the preparation of many accounts take the square of their number."""
    async with plans.engine.begin() as database:
        for statement in _FAMILIES.split(";")[:-1]:
            await database.exec_driver_sql(statement)
    plans.told.clear()
    after = "f0000000-0000-0000-0000-000000000000"
    missing = await PostgresWeeklyReports(plans.engine).missing(date(2026, 3, 1), after=after, most=10)
    assert len(missing) == 10
    assert sorted(missing) == missing
    assert missing[0] > after
    [plan] = plans.told
    read = {
        node["Relation Name"]: node["Actual Rows"] * node["Actual Loops"]
        for node in _nodes(plan["Plan"])
        if "Relation Name" in node
    }
    assert read.keys() == {"accounts", "profiles", "weekly_reports"}
    assert max(read.values()) <= 1_000, "a sixteenth of 5,000 or 10,000"
