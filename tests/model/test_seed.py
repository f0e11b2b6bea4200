"""Seeding never lowers counted time; neither do flushed counters that are put with a policy."""

from typing import Any

import msgspec
import pytest

from app.domain.counters import Counters, Rules, cold
from app.domain.markets import Markets
from app.domain.policy import DayTerms, Policy
from app.redis_store.counters import RedisCounters
from app.redis_store.events import RedisEvents
from app.redis_store.keys import Keys
from app.redis_store.policies import SharedPolicies
from app.redis_store.rollback_guard import ANY_GENERATION

PROFILE = "11111111-2222-3333-4444-555555555555"
NOON_MS = 1_790_000_000_000
DAY = DayTerms(20_717, NOON_MS - 43_200_000, NOON_MS + 43_200_000, 7_200_000, 7_200_000)


def counted(used_ms: int) -> Counters:
    counters = cold(terms=DAY, policy_version=1, at_ms=NOON_MS)
    counters.used_ms = used_ms
    return counters


async def test_the_first_of_racing_seeders_wins(redis_client: Any) -> None:
    stored = RedisCounters(redis_client, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    await stored.seed([(PROFILE, counted(60_000))])
    await stored.seed([(PROFILE, counted(0))])
    [(_, counters)] = await stored.read([PROFILE])
    assert counters is not None
    assert counters.used_ms == 60_000


async def test_after_a_loss_the_larger_counter_is_right(redis_client: Any) -> None:
    counters = RedisCounters(redis_client, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    await counters.seed([(PROFILE, counted(60_000))])
    counters.generations = [1] * 4
    [(_, seen)] = await counters.read([PROFILE])
    assert seen is None
    await counters.seed([(PROFILE, counted(90_000))])
    [(_, merged)] = await counters.read([PROFILE])
    assert merged is not None
    assert (merged.used_ms, merged.generation) == (90_000, 1)


async def test_after_a_loss_what_was_borrowed_and_is_owed_stays(redis_client: Any) -> None:
    counters = RedisCounters(redis_client, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    survived, recovered = counted(60_000), counted(50_000)
    survived.borrowed_ms, recovered.borrowed_ms = 1000, 2000
    survived.owed_ms, recovered.owed_ms = 4000, 3000
    survived.finish_until_ms = NOON_MS + 1
    await counters.seed([(PROFILE, survived)])
    counters.generations = [1] * 4
    await counters.seed([(PROFILE, recovered)])
    [(_, merged)] = await counters.read([PROFILE])
    assert merged is not None
    assert (merged.borrowed_ms, merged.owed_ms, merged.finish_until_ms) == (2000, 4000, NOON_MS + 1)


@pytest.mark.parametrize(("survived", "flushed"), [(5, 7), (7, 5), (5, 5)])
async def test_after_a_loss_an_end_in_the_millisecond_of_the_last_beat_is_known(
    redis_client: Any, survived: int, flushed: int
) -> None:
    """Both know the beat; the newer one knows of the end."""

    def ended(version: int) -> Counters:
        fields = {"version": version, "session_id": "s1", "last_beat_ms": NOON_MS, "has_ended": int(version == 7)}
        return msgspec.structs.replace(counted(0), **fields)

    counters = RedisCounters(redis_client, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    await counters.seed([(PROFILE, ended(survived))])
    counters.generations = [1] * 4
    await counters.seed([(PROFILE, ended(flushed))])
    [(_, merged)] = await counters.read([PROFILE])
    assert merged is not None
    assert merged.has_ended == int(7 in {survived, flushed})


POLICY = Policy(PROFILE, "99999999-2222-3333-4444-555555555555", 7, True, 1, 120, 120, True, (15, 5), None)


class ServerCameBackOlder:
    """A server that knows less than the process thought, until it has looked."""

    def __init__(self, *, is_older: bool) -> None:
        self.watermarks = [int(is_older)] * 4
        self.generations = [ANY_GENERATION] * 4

    async def check(self) -> None:
        self.watermarks[:] = [0] * 4


async def put_flushed(redis: Any, used_ms: int, *, is_older: bool = False) -> Counters | None:
    """Put a policy with flushed stored; the stored that Redis has then."""
    shared = SharedPolicies(
        redis,
        Keys(4),
        RedisEvents(redis, Keys(4)),
        ttl_seconds=3600,
        live_ttl_seconds=1800,
        markets=Markets(),
        clock=lambda: NOON_MS,
        rollback_guard=ServerCameBackOlder(is_older=is_older),
        at_ms=NOON_MS,
    )
    await shared.put([POLICY], {PROFILE: counted(used_ms)})
    assert await shared.load([PROFILE]) == [POLICY]
    stored = RedisCounters(redis, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    [(_, counters)] = await stored.read([PROFILE])
    return counters


async def test_flushed_counters_are_put_with_the_policy_where_there_are_none(redis_client: Any) -> None:
    counters = await put_flushed(redis_client, 60_000)
    assert counters is not None
    assert (counters.used_ms, counters.policy_version, counters.generation) == (60_000, POLICY.version, ANY_GENERATION)
    assert 0 < await redis_client.ttl(Keys(4).counters(PROFILE)) <= 1800


async def test_and_never_over_those_that_are_there(redis_client: Any) -> None:
    stored = RedisCounters(redis_client, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    await stored.seed([(PROFILE, counted(90_000))])
    counters = await put_flushed(redis_client, 60_000)
    assert counters is not None
    assert counters.used_ms == 90_000


async def test_what_was_read_before_a_loss_is_not_put_after_it(redis_client: Any) -> None:
    assert await put_flushed(redis_client, 60_000, is_older=True) is None
