"""Policies in PostgreSQL."""

from collections.abc import AsyncIterator
from datetime import date, timedelta
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import delete

from app.domain.counters import cold
from app.domain.policy import DayTerms, Grant, Policy
from app.domain.viewing_day import Calendar, day_number_of
from app.postgres_store import tables
from app.postgres_store.access import Query
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import make_partitions
from app.postgres_store.policies import PostgresPolicies
from app.postgres_store.usage import PostgresUsage
from tests.rows import Rows
from tests.servers import Databases

HOUR = 3_600_000
NOW = 1_772_452_800_000  # 2026-03-02 12:00 UTC
TODAY = date(2026, 3, 2)
_PROCESS_ID = Query("SELECT pg_backend_pid()")


@pytest.fixture(scope="module")
async def rows(database_url: str) -> AsyncIterator[Rows]:
    engine = create_engine(database_url, pool_size=2, timeout_seconds=5)
    yield Rows(engine)
    await engine.dispose()


@pytest.fixture
def policies(rows: Rows) -> PostgresPolicies:
    return PostgresPolicies(rows.engine, lambda: NOW)


async def test_answers_in_the_order_asked(rows: Rows, policies: PostgresPolicies) -> None:
    account = await rows.account()
    adult = await rows.adult(account)
    child = await rows.child(account, at_ms=NOW)
    found = await policies.load([child, str(uuid4()), adult, "no id", child])
    calendar = Calendar.opened(NOW, timezone="Europe/Oslo", reset_hour=6)
    of_child = Policy(child, account, 1, True, 1, 120, 180, True, (15, 5), calendar)
    of_adult = Policy(adult, account, 1, False, 0, None, None, True, (), None)
    assert found == [of_child, None, of_adult, None, of_child]


async def test_nobody_asked_for_needs_no_database() -> None:
    engine = create_engine("postgresql://nobody@/nowhere?host=/nonexistent", pool_size=1, timeout_seconds=1)
    assert await PostgresPolicies(engine, lambda: NOW).load(["", "\0", "x" * 36]) == [None, None, None]
    await engine.dispose()


async def test_holds_live_grants_of_days_that_can_still_run(rows: Rows, policies: PostgresPolicies) -> None:
    child = await rows.child(await rows.account(), at_ms=NOW)
    await rows.grant(child, TODAY, 15, at_ms=NOW)
    await rows.grant(child, TODAY - timedelta(days=3), 30, at_ms=NOW - 72 * HOUR)
    await rows.grant(child, TODAY - timedelta(days=4), 60, at_ms=NOW - 96 * HOUR)
    await rows.grant(child, TODAY, 60, at_ms=NOW, revoked_ms=NOW + 1)
    await rows.grant(child, TODAY + timedelta(days=1), None, at_ms=NOW + HOUR)
    (policy,) = await policies.load([child])
    number = day_number_of(TODAY)
    assert policy is not None
    assert policy.grants == (Grant(number - 3, 30), Grant(number, 15), Grant(number + 1, None))


@pytest.mark.parametrize("subject", ["profile", "account"])
async def test_the_erased_have_none(rows: Rows, policies: PostgresPolicies, subject: str) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOW)
    erased = child if subject == "profile" else account
    await rows.add(tables.erasure_tombstones, {"subject_id": erased, "kind": subject, "erased_at": date(2026, 3, 1)})
    assert await policies.load([child]) == [None]
    assert await policies.load_with_counters([child]) == [None]


async def test_meets_a_child_with_what_was_flushed_of_it(rows: Rows, policies: PostgresPolicies) -> None:
    account, usage = await rows.account(), PostgresUsage(rows.engine, lambda: NOW)
    watching, other, adult = (
        await rows.child(account, at_ms=NOW),
        await rows.child(account, at_ms=NOW),
        await rows.adult(account),
    )
    await make_partitions(rows.engine, at_ms=NOW)
    day = day_number_of(TODAY)
    terms = DayTerms(day, day * 24 * HOUR, (day + 1) * 24 * HOUR, -1, -1)
    counters = msgspec.structs.replace(
        cold(terms=terms, policy_version=1, at_ms=NOW),
        used_ms=60_000,
        session_used_ms=60_000,
        session_id=str(uuid4()),
        title_id="film",
        device_id="sofa",
        device_type="tv",
        session_started_ms=NOW - 60_000,
        last_beat_ms=NOW,
    )
    await usage.upsert([(watching, counters)])
    asked = [other, watching, "no id", adult]
    met = await policies.load_with_counters(asked)
    assert [found and found[0] for found in met] == await policies.load(asked)
    assert [found and found[1] for found in met] == await usage.recover(asked)
    assert met[1] is not None
    assert met[1][1] is not None
    assert (met[1][1].used_ms, met[1][1].session_id) == (60_000, counters.session_id)


async def test_changed_since_counts_from_the_instant_itself(rows: Rows, policies: PostgresPolicies) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOW + HOUR)
    ids = [policy.profile_id for policy in await policies.changed_since(NOW + HOUR)]
    assert ids == [child]
    assert await policies.changed_since(NOW + HOUR + 1) == []
    async with rows.engine.begin() as database:
        await database.execute(delete(tables.profiles).where(tables.profiles.c.id == child))


async def test_who_meets_a_child_asks_again_when_the_connection_was_cut(rows: Rows, postgres: Databases) -> None:
    child = await rows.child(await rows.account(), at_ms=NOW)
    engine = create_engine(rows.engine.url.render_as_string(hide_password=False), pool_size=1, timeout_seconds=5)
    for read, found in (
        (PostgresPolicies(engine, lambda: NOW).load, 1),
        (PostgresPolicies(engine, lambda: NOW).load_with_counters, 1),
        (PostgresUsage(engine, lambda: NOW).recover, 0),
    ):
        [[process_id]] = await _PROCESS_ID.rows(engine)
        postgres.execute(f"SELECT pg_terminate_backend({process_id})")  # the event loop has stood still since
        assert len([answer for answer in await read([child]) if answer is not None]) == found
    await engine.dispose()
