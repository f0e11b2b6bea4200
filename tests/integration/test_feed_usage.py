"""Events of usage: written with the flush, each once, also for sessions that fall silent and days that just pass."""

from collections.abc import AsyncIterator
from datetime import date
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import delete, select, text, update

from app.domain.checkpoint import NO_CHECKPOINTS
from app.domain.counters import Counters, cold
from app.domain.policy import UNLIMITED, DayTerms
from app.domain.unflushed import RowRefused
from app.domain.viewing_day import day_number_of
from app.kit.recent_keys import RecentKeys
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.erasure import PostgresErasure
from app.postgres_store.feed import FeedWriter, PostgresFeed
from app.postgres_store.feed_usage import UsageFeed
from app.postgres_store.partitions import make_partitions
from app.postgres_store.usage import PostgresUsage
from tests.rows import DAY_MS, Rows, start_of

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
TODAY = date(2026, 3, 2)
STARTS_MS = start_of(TODAY, 5)
MINUTE = 60_000
SETTLING_MS = 7 * MINUTE
FEED = FeedWriter(is_on=True)


class Scene:
    """A child, and a flush whose worker may be replaced."""

    def __init__(self, rows: Rows, account: str, child: str) -> None:
        self.rows = rows
        self.account = account
        self.child = child
        self.at_ms = NOON
        self.restart()

    def restart(self) -> None:
        """A new worker, which remembers nothing."""
        self.feed = UsageFeed(self.rows.engine, FEED, settling_ms=SETTLING_MS)
        self.usage = PostgresUsage(self.rows.engine, lambda: self.at_ms, feed=self.feed)

    async def flush(self, *counters: Counters) -> None:
        await self.usage.upsert([(self.child, each) for each in counters], NO_CHECKPOINTS)

    async def close(self, at_ms: int) -> int:
        """Run the job when everything due has been flushed."""
        self.at_ms = at_ms
        await self.usage.note_flush([0, 1], at_ms=at_ms)
        return await self.feed.close(at_ms=at_ms)

    async def told(self) -> list[tuple[str, dict[str, Any]]]:
        """Kind and facts of the events of the child, in order."""
        while await PostgresFeed(self.rows.engine).number():
            pass
        events = tables.feed_events.c
        wanted = select(events.kind, events.facts).where(events.profile_id == self.child).order_by(events.position)
        async with self.rows.engine.connect() as database:
            return [(kind, facts) for kind, facts in await database.execute(wanted)]

    async def kinds(self) -> list[str]:
        return [kind for kind, _ in await self.told()]


@pytest.fixture(scope="module")
async def rows(database_url: str) -> AsyncIterator[Rows]:
    engine = create_engine(database_url, pool_size=4, timeout_seconds=20)
    await make_partitions(engine, at_ms=NOON)
    yield Rows(engine)
    await engine.dispose()


@pytest.fixture
async def scene(rows: Rows) -> Scene:
    async with rows.engine.begin() as database:
        for table in (tables.feed_open_days, tables.feed_open_sessions, tables.flush_state):
            await database.execute(delete(table))
    account = await rows.account()
    return Scene(rows, account, await rows.child(account, at_ms=NOON - DAY_MS))


def counters(session_id: str, *, version: int = 1, used_ms: int = MINUTE, **fields: Any) -> Counters:
    terms = DayTerms(day_number_of(TODAY), STARTS_MS, STARTS_MS + DAY_MS, 120 * MINUTE, 120 * MINUTE)
    live = cold(terms=terms, policy_version=1, at_ms=NOON + version)
    session: dict[str, Any] = {
        "session_id": session_id,
        "title_id": "moon-pirates",
        "device_id": "Ada's tv",
        "device_type": "tv",
        "session_started_ms": NOON,
        "last_beat_ms": NOON + used_ms,
        "used_ms": used_ms,
        "session_used_ms": used_ms,
    }
    return msgspec.structs.replace(live, **(session | fields))


async def test_an_ended_session_is_told_once_however_often_it_is_flushed(scene: Scene) -> None:
    session = str(uuid4())
    await scene.flush(counters(session))
    ended = counters(session, version=2, used_ms=2 * MINUTE, has_ended=1)
    await scene.flush(ended)
    await scene.flush(ended)
    scene.restart()
    await scene.flush(ended, counters(str(uuid4()), version=3, used_ms=2 * MINUTE, session_used_ms=0))
    assert await scene.told() == [
        (
            "session.ended",
            {
                "session_id": session,
                "day": "2026-03-02",
                "title_id": "moon-pirates",
                "device_type": "tv",
                "is_educational": False,
                "started_at": "2026-03-02T12:00:00Z",
                "ended_at": "2026-03-02T12:02:00Z",
                "total_seconds": 120.0,
                "fell_silent": False,
            },
        )
    ]
    assert await scene.close(NOON + 3 * MINUTE + SETTLING_MS) == 1  # the other session alone
    assert [facts["fell_silent"] for _, facts in await scene.told()] == [False, True]


async def test_a_silent_session_is_told_after_all_that_was_due_is_flushed(scene: Scene) -> None:
    session = str(uuid4())
    await scene.flush(counters(session, used_ms=MINUTE))
    await scene.flush(counters(session, version=2, used_ms=2 * MINUTE))
    silent_ms = NOON + 2 * MINUTE + SETTLING_MS
    assert await scene.close(silent_ms) == 0
    await scene.usage.note_flush([2], at_ms=NOON)  # a server of Redis is away
    assert await scene.close(silent_ms + 1) == 0
    await scene.usage.note_flush([2], at_ms=silent_ms + 1)
    assert await scene.close(silent_ms + 1) == 1
    assert await scene.close(silent_ms + MINUTE) == 0
    ((kind, facts),) = await scene.told()
    assert (kind, facts["session_id"], facts["total_seconds"], facts["fell_silent"]) == (
        "session.ended",
        session,
        120.0,
        True,
    )


async def test_a_revived_session_ends_again(scene: Scene) -> None:
    session = str(uuid4())
    await scene.flush(counters(session))
    assert await scene.close(NOON + MINUTE + SETTLING_MS + 1) == 1
    await scene.flush(counters(session, version=2, used_ms=20 * MINUTE))
    assert await scene.close(NOON + 20 * MINUTE + SETTLING_MS + 1) == 1
    assert [facts["total_seconds"] for _, facts in await scene.told()] == [60.0, 1200.0]


async def test_a_session_over_a_reset_is_told_with_all_its_time(scene: Scene) -> None:
    session, next_ms = str(uuid4()), STARTS_MS + DAY_MS
    before = counters(session, used_ms=MINUTE, session_started_ms=next_ms - MINUTE, last_beat_ms=next_ms)
    tomorrow = {"day_number": day_number_of(TODAY) + 1, "day_starts_ms": next_ms, "day_ends_ms": next_ms + DAY_MS}
    after = counters(
        session,
        version=2,
        used_ms=2 * MINUTE,
        session_started_ms=next_ms - MINUTE,
        last_beat_ms=next_ms + 2 * MINUTE,
        session_earlier_ms=MINUTE,
        **tomorrow,
    )
    await scene.flush(before, after)
    assert await scene.close(next_ms + 2 * MINUTE + SETTLING_MS + 1) == 2
    assert [(kind, facts["day"]) for kind, facts in await scene.told()] == [
        ("session.ended", "2026-03-03"),
        ("day.closed", "2026-03-02"),
    ]
    assert (await scene.told())[0][1]["total_seconds"] == 180.0


async def test_a_day_without_a_beat_is_told_with_what_it_owes_and_without_the_session_after_it(scene: Scene) -> None:
    opened_ms = STARTS_MS + DAY_MS + MINUTE
    skipped = counters(str(uuid4()), used_ms=0, session_started_ms=opened_ms, last_beat_ms=opened_ms)
    await scene.flush(msgspec.structs.replace(skipped, owed_ms=4 * MINUTE))
    await scene.close(opened_ms + SETTLING_MS)
    [(kind, facts)] = await scene.told()
    assert (kind, facts["used_seconds"], facts["owed_seconds"]) == ("day.closed", 0.0, 240.0)
    async with scene.rows.engine.connect() as database:
        for table in (tables.feed_open_sessions, tables.viewing_sessions):
            found = select(table.c.profile_id).where(table.c.profile_id == scene.child)
            assert (await database.execute(found)).all() == []


async def test_a_day_is_told_when_it_has_passed_even_if_the_child_never_returns(scene: Scene) -> None:
    ended = counters(str(uuid4()), used_ms=5 * MINUTE, educational_ms=MINUTE, overrun_ms=2 * MINUTE, has_ended=1)
    ended = msgspec.structs.replace(ended, borrowed_ms=3 * MINUTE, owed_ms=4 * MINUTE)
    await scene.flush(ended)
    async with scene.rows.engine.begin() as database:
        offline = update(tables.viewing_time_balances).values(offline_used_ms=MINUTE)
        await database.execute(offline.where(tables.viewing_time_balances.c.profile_id == scene.child))
    closes_ms = STARTS_MS + DAY_MS + SETTLING_MS
    assert await scene.close(closes_ms) == 0
    scene.restart()
    assert await scene.close(closes_ms + 1) == 1
    await scene.flush(ended)  # once more, after a crash
    assert await scene.close(closes_ms + MINUTE) == 1  # looked at again, and already written
    assert [(kind, facts) for kind, facts in await scene.told() if kind == "day.closed"] == [
        (
            "day.closed",
            {
                "day": "2026-03-02",
                "used_seconds": 360.0,
                "educational_seconds": 60.0,
                "overrun_seconds": 120.0,
                "limit_seconds": 7200.0,
                "borrowed_seconds": 180.0,
                "owed_seconds": 240.0,
            },
        )
    ]


async def test_each_allowance_that_is_reached_is_told_once(scene: Scene) -> None:
    session = str(uuid4())
    full = {"allowance_ms": 120 * MINUTE}
    await scene.flush(counters(session, used_ms=119 * MINUTE, **full))
    await scene.flush(counters(session, version=2, used_ms=120 * MINUTE, **full))
    await scene.flush(counters(session, version=3, used_ms=120 * MINUTE, overrun_ms=MINUTE, **full))
    scene.restart()
    await scene.flush(counters(session, version=4, used_ms=120 * MINUTE, overrun_ms=2 * MINUTE, **full))
    await scene.flush(counters(session, version=5, used_ms=120 * MINUTE, allowance_ms=135 * MINUTE))
    await scene.flush(counters(session, version=6, used_ms=135 * MINUTE, allowance_ms=135 * MINUTE))
    await scene.flush(counters(session, version=7, used_ms=136 * MINUTE, allowance_ms=UNLIMITED))
    assert await scene.told() == [
        ("limit.reached", {"day": "2026-03-02", "allowance_seconds": 7200.0}),
        ("limit.reached", {"day": "2026-03-02", "allowance_seconds": 8100.0}),
    ]


async def test_a_flush_that_fails_tells_nothing_and_is_told_when_it_is_repeated(scene: Scene) -> None:
    ended = counters(str(uuid4()), has_ended=1)
    with pytest.raises(RowRefused):
        await scene.flush(ended, counters(str(uuid4()), version=2, title_id="x" * 65))
    assert await scene.kinds() == []
    await scene.flush(ended)
    assert await scene.kinds() == ["session.ended"]


async def test_an_erased_child_is_not_told_of_again(scene: Scene) -> None:
    session = str(uuid4())
    await scene.flush(counters(session))
    await PostgresErasure(scene.rows.engine, feed=FEED).profile(scene.account, scene.child, actor="p", at_ms=NOON)
    scene.restart()
    await scene.flush(counters(session, version=2, used_ms=120 * MINUTE, has_ended=1))
    assert await scene.close(NOON + 3 * DAY_MS) == 0
    assert await scene.kinds() == ["profile.erased"]
    async with scene.rows.engine.connect() as database:
        left = "SELECT (SELECT count(*) FROM feed_open_days) + (SELECT count(*) FROM feed_open_sessions)"
        assert (await database.execute(text(left))).scalar_one() == 0


async def test_nothing_is_noted_while_the_feed_is_off(scene: Scene) -> None:
    usage = PostgresUsage(scene.rows.engine, lambda: NOON)
    await usage.upsert([(scene.child, counters(str(uuid4()), used_ms=120 * MINUTE, has_ended=1))])
    assert await scene.kinds() == []
    assert await scene.close(NOON + 3 * DAY_MS) == 0


def test_recent_keys_forget_rather_than_confuse() -> None:
    keys = RecentKeys(bits=4)
    seen = [("day", str(number), number) for number in range(1000)]
    for key in seen:
        keys.add(key)
    assert 0 < sum(key in keys for key in seen) <= 16
    assert not any(("day", str(number), -number) in keys for number in range(1, 1000))
    keys.discard(seen[-1])
    assert seen[-1] not in keys
