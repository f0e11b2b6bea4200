"""An offline sync and a claim of the same silence at once: only one of them counts each moment."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import msgspec
import pytest

from app.domain.breaks import BreakTerms
from app.domain.counters import MAX_UNCOUNTED, Beat, Counters, Rules, cold
from app.domain.offline import TimeRange
from app.domain.policy import DayTerms
from app.domain.reference import record
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys
from app.timestamps import utc
from app.viewing.offline import IntervalRequest, OfflineSyncRequest
from app.viewing.policy_cache import KnownPolicy
from tests.fakes import fake_redis
from tests.model.test_state_machine import CHILD, DAY_MS, HOUR_MS, MINUTE_MS, SOMEBODY, START_MS, Home, a_loop
from tests.model.watching import Sent

KEYS = Keys(4)
NOON_MS = START_MS + HOUR_MS
TERMS = DayTerms(20_717, START_MS, START_MS + DAY_MS, -1, -1)


class Household(Home):
    """Lived through by hand: a television that watched two minutes fell silent an hour ago."""

    def fall_silent(self, *, limit: int = 480) -> None:
        self.settle_in(zone="Europe/Oslo", hour=6, starts_ms=START_MS, limit=limit)
        self.opens(device="sofa", title="film", process=0, is_paused=False)
        self.keeps_beating(device="sofa", process=0, gaps_ms=[30_000] * 4)
        self.time_passes(HOUR_MS)
        for process in self.processes:
            process.is_at(self.at_ms)

    async def claim(self) -> None:
        """The television played all along, and says so to the process that does not handle the sync."""
        player = self.players["sofa"]
        sent = Sent(
            at_ms=self.at_ms, session_id=player.session_id, issued_ms=player.issued_ms, title="film", device="sofa",
            claim_ms=player.watched_ms,
        )  # fmt: skip
        await self._count(self.processes[1], sent)

    def sync(self, minutes_ago: int, minutes: int) -> float:
        """What a pad is credited that played so long ago for so long."""
        starts_ms = self.at_ms - minutes_ago * MINUTE_MS
        played = IntervalRequest("film", utc(starts_ms), utc(starts_ms + minutes * MINUTE_MS), minutes * 60)
        request = OfflineSyncRequest(CHILD, "pad", "batch", utc(self.at_ms), utc(self.at_ms - 3 * HOUR_MS), [played])
        [credited] = self.run(self.processes[0].offline.sync(SOMEBODY, request)).credited_seconds
        return credited

    def used_seconds(self) -> float:
        counters = self._live()
        assert counters is not None
        return counters.used_ms / 1000


@pytest.fixture
def home() -> Iterator[Household]:
    with a_loop() as loop:
        redis = fake_redis()
        household: Any = type("TheHousehold", (Household,), {"redis": redis, "loop": loop})()
        household.fall_silent()
        yield household
        loop.run_until_complete(redis.aclose())


def test_a_claim_before_the_credit_is_announced_leaves_out_what_is_credited(home: Household) -> None:
    home.offline.before_commit = home.claim
    assert home.sync(50, 20) == 20 * 60
    assert home.used_seconds() == 2 * 60 + 40 * 60
    home.run(home.claim())
    assert home.used_seconds() == 2 * 60 + 40 * 60


def test_a_claim_before_the_reservation_is_left_out_of_the_credit(home: Household) -> None:
    recorder = home.processes[0].recorder
    reserve: Callable[..., Awaitable[bool]] = recorder.reserve
    rounds: list[bool] = []

    async def late(profile_id: str, known: KnownPolicy, counters: Counters, ranges: Sequence[TimeRange]) -> bool:
        if not rounds:
            await home.claim()
        rounds.append(await reserve(profile_id, known, counters, ranges))
        return rounds[-1]

    recorder.reserve = late  # type: ignore[method-assign]
    assert home.sync(50, 20) == 0
    assert (rounds, home.used_seconds()) == ([False, True], 62 * 60)


def test_a_claim_after_counters_expired_leaves_it_out_too(home: Household) -> None:
    home.flushes(0)
    home.run(home.redis.flushall())
    home.offline.before_commit = home.claim
    assert home.sync(50, 20) == 20 * 60
    assert home.used_seconds() == 2 * 60 + 40 * 60


def test_a_claim_after_everything_was_lost_leaves_it_out_too(home: Household) -> None:
    """The sync finds no session; the one that claims next was lost, and begins before the sync's time."""
    home.run(home.redis.flushall())
    home.offline.before_commit = home.claim
    assert home.sync(50, 20) == 20 * 60
    assert home.used_seconds() == 2 * 60 + 40 * 60


def test_a_claim_after_everything_was_lost_gives_each_day_its_share(home: Household) -> None:
    """The sync of a new day finds no session, and the lost one began the day before."""
    home.run(home.redis.flushall())
    home.the_reset_comes_near(-10 * MINUTE_MS)
    home.today()
    for process in home.processes:
        process.is_at(home.at_ms)
    home.offline.before_commit = home.claim
    assert home.sync(5, 4) == 4 * 60
    assert home.used_seconds() == 6 * 60


def test_a_day_that_waits_for_the_flush_takes_no_more_than_its_limit() -> None:
    """PostgreSQL knows two minutes of it, the outbox an hour more."""
    with a_loop() as loop:
        redis = fake_redis()
        home: Any = type("TheHousehold", (Household,), {"redis": redis, "loop": loop})()
        home.fall_silent(limit=70)
        home.flushes(0)
        home.run(home.claim())
        home.the_reset_comes_near(-10 * MINUTE_MS)
        home.opens(device="sofa", title="film", process=0, is_paused=False)
        assert home.sync(60, 20) == 20 * 60
        assert [(part.used_ms, part.overrun_ms) for part in home.offline.parts] == [(8 * MINUTE_MS, 12 * MINUTE_MS)]
        loop.run_until_complete(redis.aclose())


def test_a_redis_that_came_back_old_is_merged_with_what_was_flushed(home: Household) -> None:
    home.redis_is_copied()
    home.flushes(0)
    home.redis_comes_back_old()
    home.flushes(0)
    assert home.sync(50, 20) == 20 * 60


def test_a_sync_that_fails_after_its_reservation_is_repeated_and_credited(home: Household) -> None:
    async def fails() -> None:
        raise ConnectionError

    home.offline.before_commit, nothing = fails, home.offline.before_commit
    with pytest.raises(ConnectionError):
        home.sync(50, 20)
    home.offline.before_commit = nothing
    assert home.sync(50, 20) == 20 * 60


async def reserved(redis: Any, counters: Counters, ranges: Sequence[TimeRange]) -> Counters:
    """Counters after a reservation."""
    await redis.flushall()
    stored = RedisCounters(redis, KEYS, Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    assert await stored.reserve(CHILD, counters.version, ranges) is None
    await stored.seed([(CHILD, counters)])
    assert await stored.reserve(CHILD, counters.version - 1, ranges) is False
    assert await stored.read([CHILD]) == [(NOON_MS, counters)]
    assert await stored.reserve(CHILD, counters.version, ranges) is True
    [(_, after)] = await stored.read([CHILD])
    assert after is not None
    return after


def silent(**fields: Any) -> Counters:
    counters = cold(terms=TERMS, policy_version=1, at_ms=START_MS)
    return msgspec.structs.replace(
        counters, session_id="a", session_started_ms=START_MS, last_beat_ms=START_MS, **fields
    )


async def test_only_what_lies_after_the_last_beat_is_reserved(redis_client: Any) -> None:
    after = await reserved(redis_client, silent(), [(START_MS - 10, START_MS - 5), (START_MS - 3, START_MS + 7)])
    assert after.uncounted == (START_MS, START_MS + 7)
    assert after.dirty_since_ms == NOON_MS
    assert await redis_client.ttl(KEYS.counters(CHILD)) == -1
    assert await redis_client.zscore(KEYS.dirty(KEYS.bucket(CHILD)), CHILD) == NOON_MS
    untouched = silent(uncounted=(START_MS - 9, START_MS - 8))
    assert await reserved(redis_client, untouched, [(START_MS - 10, START_MS - 5)]) == untouched


async def test_reservations_of_two_syncs_are_one_list(redis_client: Any) -> None:
    counters = silent(uncounted=(START_MS + 10, START_MS + 20))
    after = await reserved(redis_client, counters, [(START_MS + 1, START_MS + 2), (START_MS + 15, START_MS + 30)])
    assert after.uncounted == (START_MS + 1, START_MS + 2, START_MS + 10, START_MS + 30)


async def test_no_day_before_the_first_session_is_flushed_with_it(redis_client: Any) -> None:
    blank = cold(terms=TERMS, policy_version=1, at_ms=START_MS)
    after = await reserved(redis_client, blank, [(NOON_MS - 7, NOON_MS)])
    tomorrow = DayTerms(TERMS.number + 1, TERMS.ends_ms, TERMS.ends_ms + DAY_MS, -1, -1)
    counters = RedisCounters(redis_client, KEYS, Rules(), live_ttl_seconds=3600, at_ms=TERMS.ends_ms + 1)
    opening = Beat(
        session_id="", new_session_id="a", issued_at_ms=0, title_id="", is_educational=0, is_exempt=0, is_paused=0,
        is_end=0, watched_ms=-1, device_id="", device_type="", policy_version=1, days=[TERMS, tomorrow],
    )  # fmt: skip
    expected = record(after, opening, at_ms=counters.at_ms, rules=Rules())
    assert await counters.record([(CHILD, opening)]) == [expected.outcome]
    assert expected.closed == []
    assert await counters.closed_shares(CHILD, "a", [TERMS.number, tomorrow.number]) == []


async def test_counters_of_an_older_generation_are_merged_before_anything_is_reserved(redis_client: Any) -> None:
    await reserved(redis_client, silent(), [])
    counters = RedisCounters(redis_client, KEYS, Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    counters.generations = [1] * KEYS.buckets
    assert await counters.reserve(CHILD, START_MS, [(START_MS, START_MS + 7)]) is None


async def test_many_time_ranges_are_reserved_as_few(redis_client: Any) -> None:
    many = [(START_MS + 10 * place, START_MS + 10 * place + 5) for place in range(1, 500)]
    after = await reserved(redis_client, silent(), many)
    assert len(after.uncounted_ranges) == MAX_UNCOUNTED
    assert (after.uncounted[0], after.uncounted[-1]) == (START_MS + 10, START_MS + 4995)


async def test_counters_of_the_version_before_are_read(redis_client: Any) -> None:
    """They lack the last fields. Beats leave them out while they say nothing, and otherwise write all."""
    new = silent(version=START_MS)
    old = msgspec.msgpack.encode(msgspec.to_builtins(new)[: Counters.__struct_fields__.index("lease_ms")])
    counters = RedisCounters(redis_client, KEYS, Rules(), live_ttl_seconds=3600, at_ms=START_MS + 30_000)

    async def length() -> int:
        return len(msgspec.msgpack.decode(await redis_client.get(KEYS.counters(CHILD))))

    await redis_client.set(KEYS.counters(CHILD), old)
    assert await counters.read([CHILD]) == [(counters.at_ms, new)]
    beat = Beat(
        session_id="a", new_session_id="", issued_at_ms=0, title_id="", is_educational=0, is_exempt=0, is_paused=0,
        is_end=1, watched_ms=-1, device_id="", device_type="", policy_version=1, days=[TERMS],
    )  # fmt: skip
    [outcome] = await counters.record([(CHILD, beat)])
    assert (outcome.status, outcome.used_ms) == (0, 30_000)
    assert await length() == Counters.__struct_fields__.index("lease_ms")
    await redis_client.set(KEYS.counters(CHILD), old)
    assert await counters.reserve(CHILD, new.version, [(START_MS, START_MS + 5)]) is True
    assert await length() == Counters.__struct_fields__.index("week"), "without a weekly limit"
    await redis_client.set(KEYS.counters(CHILD), old)
    counters.generations = [1] * KEYS.buckets
    await counters.seed([(CHILD, msgspec.structs.replace(new, abandoned_sessions=2))])
    [(_, merged)] = await counters.read([CHILD])
    assert merged is not None
    assert merged.abandoned_sessions == 2


async def test_counters_are_as_short_as_before_once_there_are_no_breaks(redis_client: Any) -> None:
    counters = RedisCounters(redis_client, KEYS, Rules(), live_ttl_seconds=3600, at_ms=START_MS)
    await counters.seed([(CHILD, silent(version=START_MS))])
    lengths = []
    for breaks in (None, BreakTerms(900_000, 300_000), None):
        counters.at_ms += 30_000
        beat = Beat(
            session_id="a", new_session_id="", issued_at_ms=0, title_id="", is_educational=0, is_exempt=0,
            is_paused=0, is_end=0, watched_ms=-1, device_id="", device_type="", policy_version=1, days=[TERMS],
            breaks=breaks,
        )  # fmt: skip
        [outcome] = await counters.record([(CHILD, beat)])
        assert outcome.status == 0
        lengths.append(len(msgspec.msgpack.decode(await redis_client.get(KEYS.counters(CHILD)))))
    fields = Counters.__struct_fields__
    assert lengths == [fields.index("lease_ms"), fields.index("borrowed_ms"), fields.index("lease_ms")]
