"""Flow 3 on real servers: nothing is lost or doubled, at any interruption."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from app.deployment.checkup import CheckResult, examine_postgres
from app.domain.checkpoint import NO_CHECKPOINTS, Checkpoint
from app.domain.counters import NO_CLAIM, Beat, Counters, Rules, Status, cold
from app.domain.policy import DayTerms
from app.domain.unflushed import RowRefused, Unflushed
from app.errors import DatabaseUnavailable
from app.flushing.service import Flusher
from app.observability import worker_metrics
from app.postgres_store.checkpoints import PostgresCheckpoints
from app.postgres_store.engine import create_engine
from app.postgres_store.lock import AdvisoryLock
from app.postgres_store.partitions import make_partitions
from app.postgres_store.usage import PostgresUsage
from app.redis_store.checkpoints import RedisCheckpoints
from app.redis_store.client import create_client
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys
from app.redis_store.unflushed import RedisUnflushed
from app.rollback_guard.service import RollbackGuard
from tests.builders import settings_for

DAY = DayTerms(20_717, 1_789_948_800_000, 1_790_035_200_000, 7_200_000, 7_200_000)
NOON_MS = DAY.starts_ms + 43_200_000
KEYS = Keys(8)
# In a transaction pg_stat_activity would go on showing whom it showed first.
_CUT_WAITING = "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE NOT granted"


@dataclass
class Household:
    """Counters and ledger on the same servers, at an instant of the test's."""

    engine: AsyncEngine
    counters: RedisCounters
    unflushed: RedisUnflushed
    usage: PostgresUsage
    lock: AdvisoryLock
    rollback_guard: RollbackGuard
    at_ms: int = NOON_MS

    def flusher(self, **replaced: Any) -> Flusher:
        parts: dict[str, Any] = {
            "counters": self.unflushed, "usage_store": self.usage, "lock": self.lock,
            "rollback_guard": self.rollback_guard,
        }  # fmt: skip
        return Flusher(**(parts | replaced), clock=lambda: self.at_ms, age_ms=45_000, batch=50)

    async def beat(self, profile_id: str, session_id: str, *, after_ms: int = 30_000, **fields: Any) -> None:
        """A beat some time after the last one; the first opens."""
        self.at_ms += after_ms
        self.counters.at_ms = self.at_ms
        values: dict[str, Any] = {
            "session_id": session_id, "new_session_id": "", "issued_at_ms": 0, "title_id": "t", "is_educational": 0,
            "is_exempt": 1, "is_paused": 0, "is_end": 0, "watched_ms": NO_CLAIM, "device_id": "d",
            "device_type": "tv", "policy_version": 1, "days": [DAY],
        }  # fmt: skip
        beat = Beat(**(values | fields))
        [outcome] = await self.counters.record([(profile_id, beat)])
        if outcome.status == Status.COLD:
            [recovered] = await self.usage.recover([profile_id])
            assert recovered is not None
            recovered.policy_version = 1
            await self.counters.seed([(profile_id, recovered)])
            [outcome] = await self.counters.record([(profile_id, beat)])
        assert outcome.status == Status.OK

    async def watching(self, *, inside: Collection[int] = range(KEYS.buckets)) -> tuple[str, str]:
        """A child of one of some buckets in the middle of a session of one minute."""
        profile_id, session_id = str(uuid4()), str(uuid4())
        while KEYS.bucket(profile_id) not in inside:
            profile_id = str(uuid4())
        seed = cold(terms=DAY, policy_version=1, at_ms=self.at_ms)
        await self.counters.seed([(profile_id, seed)])
        await self.beat(profile_id, "", new_session_id=session_id)
        await self.beat(profile_id, session_id)
        await self.beat(profile_id, session_id)
        return profile_id, session_id

    async def peek(self, profile_id: str) -> list[Unflushed]:
        """All that is unflushed in a child's bucket."""
        bucket = KEYS.bucket(profile_id)
        return (await self.unflushed.peek([bucket], older_than_ms=0, limit=100))[bucket]

    async def used_ms(self, profile_id: str) -> list[int]:
        async with self.engine.connect() as database:
            rows = await database.exec_driver_sql(
                "SELECT used_ms FROM viewing_time_balances WHERE profile_id = $1::uuid", (profile_id,)
            )
            return [row[0] for row in rows]

    async def sessions(self, profile_id: str) -> list[tuple[str, int, bool]]:
        async with self.engine.connect() as database:
            rows: Iterable[Any] = await database.exec_driver_sql(
                "SELECT id::text, used_ms, has_ended FROM viewing_sessions"
                " WHERE profile_id = $1::uuid ORDER BY started_at",
                (profile_id,),
            )
            return [(row[0], row[1], row[2]) for row in rows]


@pytest.fixture(params=itertools.product(["postgres", "postgres15"], ["valkey", "redis7"]), ids="-".join)
def servers(request: pytest.FixtureRequest) -> tuple[str, str]:
    """Addresses of a fresh database and of a Redis: the newest and the oldest of both, in every combination."""
    database, redis = (request.getfixturevalue(name) for name in request.param)
    return database.fresh(), redis.url


@pytest_asyncio.fixture(loop_scope="session")
async def home(servers: tuple[str, str]) -> AsyncIterator[Household]:
    database_url, redis_url = servers
    engine = create_engine(database_url, pool_size=4, timeout_seconds=5)
    await make_partitions(engine, at_ms=NOON_MS)
    redis = create_client(redis_url, timeout_seconds=5, connections=8)
    await redis.flushall()
    rollback_guard = RollbackGuard(
        marks=RedisCheckpoints(redis, KEYS, clock=lambda: household.at_ms), noted=PostgresCheckpoints(engine)
    )
    household = Household(
        engine=engine,
        counters=RedisCounters(
            redis, KEYS, Rules(), live_ttl_seconds=3600, rollback_guard=rollback_guard, at_ms=NOON_MS
        ),
        unflushed=RedisUnflushed(redis, KEYS, live_ttl_seconds=3600, clock=lambda: household.at_ms),
        usage=PostgresUsage(engine, lambda: household.at_ms),
        lock=AdvisoryLock(engine),
        rollback_guard=rollback_guard,
    )
    await rollback_guard.check()  # tests of this module share the database, not what Redis holds
    yield household
    await household.lock.release()
    await redis.aclose()
    await engine.dispose()


async def test_a_child_is_written_when_its_counters_are_old_enough(home: Household) -> None:
    child, session_id = await home.watching()
    home.at_ms += -20_000  # the first beat is 40 s old
    assert (await home.flusher().cycle()).entries == 0
    home.at_ms += 20_000
    assert (await home.flusher().cycle()).entries == 1
    assert await home.used_ms(child) == [60_000]
    assert await home.sessions(child) == [(session_id, 60_000, False)]
    assert (await home.unflushed.backlog()).is_empty


async def test_flushing_again_changes_nothing(home: Household) -> None:
    child, session_id = await home.watching()
    await home.flusher().drain()
    await home.flusher().drain()
    await home.beat(child, session_id)
    await home.flusher().drain()
    assert await home.used_ms(child) == [90_000]


async def test_a_flusher_that_dies_before_the_commit_loses_nothing(home: Household) -> None:
    class Dying(PostgresUsage):
        async def upsert(
            self, entries: Sequence[tuple[str, Counters]], marks: Mapping[int, Checkpoint] = NO_CHECKPOINTS
        ) -> None:
            raise DatabaseUnavailable

    child, _ = await home.watching()
    with pytest.raises(DatabaseUnavailable):
        await home.flusher(usage_store=Dying(home.engine, lambda: home.at_ms)).drain()
    assert await home.used_ms(child) == []
    await home.flusher().drain()
    assert await home.used_ms(child) == [60_000]


async def test_a_flusher_that_dies_after_the_commit_doubles_nothing(home: Household) -> None:
    class Forgetful(RedisUnflushed):
        async def forget(self, bucket: int, entries: Sequence[Unflushed]) -> None:
            raise asyncio.CancelledError

    child, session_id = await home.watching()
    dying = Forgetful(home.unflushed._redis, KEYS, live_ttl_seconds=3600, clock=lambda: home.at_ms)
    with pytest.raises(asyncio.CancelledError):
        await home.flusher(counters=dying).drain()
    assert await home.used_ms(child) == [60_000]
    await home.beat(child, session_id)
    await home.flusher().drain()
    assert await home.used_ms(child) == [90_000]
    assert (await home.unflushed.backlog()).is_empty


async def test_a_beat_between_peek_and_forget_stays_dirty(home: Household) -> None:
    child, session_id = await home.watching()
    bucket = KEYS.bucket(child)
    peeked = await home.peek(child)
    await home.beat(child, session_id)
    await home.usage.upsert([(entry.profile_id, entry.counters) for entry in peeked])
    await home.unflushed.forget(bucket, peeked)
    backlog = await home.unflushed.backlog()
    assert (backlog.children, backlog.oldest_ms) == (1, home.at_ms)
    await home.flusher().drain()
    assert await home.used_ms(child) == [90_000]


async def test_a_finished_session_is_written_once_with_its_end(home: Household) -> None:
    child, first = await home.watching()
    second = str(uuid4())
    await home.beat(child, "", new_session_id=second, device_id="other")
    await home.beat(child, second, is_end=1)
    await home.flusher().drain()
    assert await home.sessions(child) == [(first, 90_000, True), (second, 30_000, True)]
    assert await home.used_ms(child) == [120_000]


async def test_older_rows_never_win(home: Household) -> None:
    child, session_id = await home.watching()
    old = await home.peek(child)
    await home.beat(child, session_id)
    await home.flusher().drain()
    await home.usage.upsert([(entry.profile_id, entry.counters) for entry in old])
    assert await home.used_ms(child) == [90_000]


async def test_two_writers_in_opposite_order_do_not_deadlock(home: Household) -> None:
    children = [await home.watching() for _ in range(40)]
    found = await home.unflushed.peek(range(KEYS.buckets), older_than_ms=0, limit=100)
    entries = [(entry.profile_id, entry.counters) for some in found.values() for entry in some]
    await asyncio.gather(*(home.usage.upsert(entries[:: 1 if turn % 2 else -1]) for turn in range(20)))
    assert [await home.used_ms(child) for child, _ in children] == [[60_000]] * 40


async def test_a_row_that_can_never_be_written_is_parked_and_the_rest_goes_on(
    home: Household, servers: tuple[str, str]
) -> None:
    good = [await home.watching() for _ in range(5)]
    poisoned, _session_id = await home.watching()
    raw = await home.counters.read([poisoned])
    counters = raw[0][1]
    assert counters is not None
    counters.day_ends_ms = counters.day_starts_ms  # a day without length violates a constraint
    with pytest.raises(RowRefused):
        await home.usage.upsert([(poisoned, counters)])
    entries = [Unflushed(poisoned, counters)]
    for child, _ in good:
        [(_, counted)] = await home.counters.read([child])
        assert counted is not None
        entries.append(Unflushed(child, counted))
    assert await home.flusher()._write(entries, NO_CHECKPOINTS) == 1
    assert [await home.used_ms(child) for child, _ in good] == [[60_000]] * 5
    assert await home.used_ms(poisoned) == []
    async with home.engine.connect() as database:
        rows = await database.exec_driver_sql(
            "SELECT profile_id::text FROM parked_rows WHERE profile_id = $1::uuid", (poisoned,)
        )
        assert rows.all() == [(poisoned,)]
    findings = await examine_postgres(settings_for(database_url=servers[0], redis_url="redis://unused"))
    assert [finding.verdict for finding in findings if finding.subject == "dead letters"] == [CheckResult.FAILURE]


async def test_every_row_that_is_set_aside_is_counted_whatever_the_lanes_do(home: Household) -> None:
    """One row in each of several groups of buckets is refused, so both lanes count at the same time."""
    wide = Keys(8)
    children = [await home.watching() for _ in range(8)]
    refused = [child for child, _ in children]
    before = worker_metrics.DEAD_LETTERS._value.get(), worker_metrics.FLUSHED._value.get()

    class OneBucketAtATime(RedisUnflushed):
        """Each bucket stands for a server of its own, so that it is a group of its own."""

        def server_of(self, bucket: int) -> str:
            return str(bucket)

    counters = OneBucketAtATime(home.unflushed._redis, wide, live_ttl_seconds=60, clock=lambda: home.at_ms)
    async with home.engine.begin() as database:
        await database.exec_driver_sql(
            "ALTER TABLE viewing_time_balances ADD CONSTRAINT refused CHECK (used_ms <> 60000) NOT VALID"
        )
    try:
        flushed = await home.flusher(counters=counters).drain()
    finally:
        async with home.engine.begin() as database:
            await database.exec_driver_sql("ALTER TABLE viewing_time_balances DROP CONSTRAINT refused")
            parked = await database.exec_driver_sql("SELECT profile_id::text FROM parked_rows")
            assert {row[0] for row in parked} >= set(refused)
    assert flushed.parked == len(refused)
    assert worker_metrics.DEAD_LETTERS._value.get() - before[0] == len(refused)
    assert worker_metrics.FLUSHED._value.get() - before[1] == flushed.entries


async def test_what_another_table_refuses_is_no_fault_of_the_rows(home: Household) -> None:
    child, _ = await home.watching()
    async with home.engine.begin() as database:
        await database.exec_driver_sql("ALTER TABLE flush_state ADD CONSTRAINT stuck CHECK (watermark = 0) NOT VALID")
    try:
        with pytest.raises(IntegrityError):
            await home.flusher().drain()
    finally:
        async with home.engine.begin() as database:
            await database.exec_driver_sql("ALTER TABLE flush_state DROP CONSTRAINT stuck")
    assert await home.used_ms(child) == []
    assert not (await home.unflushed.backlog()).is_empty
    flushed = await home.flusher().drain()
    assert (flushed.entries, flushed.parked) == (1, 0)
    assert await home.used_ms(child) == [60_000]


async def test_buckets_with_little_are_written_together_and_one_with_much_goes_on_alone(home: Household) -> None:
    class BeatRecorder(PostgresUsage):
        async def upsert(
            self, entries: Sequence[tuple[str, Counters]], marks: Mapping[int, Checkpoint] = NO_CHECKPOINTS
        ) -> None:
            written.append(dict.fromkeys(marks, 0))
            for profile_id, _ in entries:
                written[-1][KEYS.bucket(profile_id)] += 1
            await super().upsert(entries, marks)

    written: list[dict[int, int]] = []
    for bucket in range(KEYS.buckets):
        await home.watching(inside={bucket})
    crowd = [await home.watching(inside={3}) for _ in range(9)]
    flushed = await home.flusher(usage_store=BeatRecorder(home.engine, lambda: home.at_ms)).drain()
    share = 50 // KEYS.buckets
    assert written == [{bucket: share if bucket == 3 else 1 for bucket in range(KEYS.buckets)}, {3: 10 - share}]
    assert flushed.entries == KEYS.buckets + len(crowd)
    assert [await home.used_ms(child) for child, _ in crowd] == [[60_000]] * len(crowd)
    assert (await home.unflushed.backlog()).is_empty


async def test_only_one_flusher_works_and_the_next_takes_over(home: Household) -> None:
    child, _ = await home.watching()
    other = AdvisoryLock(home.engine)
    assert await other.is_ours()
    assert (await home.flusher().drain()).was_ours is False
    assert await home.used_ms(child) == []
    async with home.engine.connect() as database:
        await database.exec_driver_sql(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_locks WHERE locktype = 'advisory' AND granted"
            " AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
    assert (await home.flusher().drain()).was_ours is True
    assert await home.used_ms(child) == [60_000]
    assert await other.is_ours() is False


async def test_lost_counters_come_back_from_the_database(home: Household) -> None:
    child, session_id = await home.watching()
    await home.flusher().drain()
    await home.beat(child, session_id)  # 30 s that are not flushed
    await home.counters._redis.flushall()
    await home.beat(child, session_id)  # credits since the last beat that was flushed
    await home.flusher().drain()
    assert await home.used_ms(child) == [120_000]


async def test_a_locked_row_holds_up_its_bucket_only(home: Household) -> None:
    locked, session_id = await home.watching()
    other, other_session_id = await home.watching(inside={*range(KEYS.buckets)} - {KEYS.bucket(locked)})
    await home.flusher().drain()
    await home.beat(other, other_session_id)
    await home.beat(locked, session_id, after_ms=0)
    async with home.engine.connect() as database:
        await database.exec_driver_sql(
            "SELECT 1 FROM viewing_time_balances WHERE profile_id = $1::uuid FOR UPDATE", (locked,)
        )
        flushed = await home.flusher().drain()
        assert flushed.postponed == 1
        assert await home.used_ms(locked) == [60_000]
        assert await home.used_ms(other) == [90_000]
    assert (await home.flusher().drain()).postponed == 0
    assert await home.used_ms(locked) == [180_000]  # the other's minutes passed, too
    assert (await home.unflushed.backlog()).is_empty


async def test_a_transaction_whose_connection_is_cut_is_tried_again(home: Household) -> None:
    child, session_id = await home.watching()
    await home.flusher().drain()
    await home.beat(child, session_id)
    entries = await home.peek(child)
    async with home.engine.connect() as database:
        await database.exec_driver_sql(
            "SELECT 1 FROM viewing_time_balances WHERE profile_id = $1::uuid FOR UPDATE", (child,)
        )
        writing = asyncio.create_task(home.usage.upsert([(entry.profile_id, entry.counters) for entry in entries]))
        async with asyncio.timeout(10):
            while not (await database.exec_driver_sql(_CUT_WAITING)).all():  # noqa: ASYNC110
                await asyncio.sleep(0.02)
    await writing
    assert await home.used_ms(child) == [90_000]
