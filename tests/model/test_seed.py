"""Seeding never takes back what is counted already; nor do flushed counters that are put with a policy."""

from typing import Any

from app.domain.accounting import Live, Rules, cold
from app.domain.policy import DayTerms, Policy
from app.redis_store.continuity import ANY_GENERATION
from app.redis_store.counters import RedisCounters
from app.redis_store.events import RedisEvents
from app.redis_store.keys import Keys
from app.redis_store.policies import SharedPolicies

PROFILE = "11111111-2222-3333-4444-555555555555"
NOON_MS = 1_790_000_000_000
DAY = DayTerms(20_717, NOON_MS - 43_200_000, NOON_MS + 43_200_000, 7_200_000, 7_200_000)


def counted(used_ms: int) -> Live:
    live = cold(terms=DAY, policy_version=1, at_ms=NOON_MS)
    live.used_ms = used_ms
    return live


async def test_the_first_of_racing_seeders_wins(redis_client: Any) -> None:
    counters = RedisCounters(redis_client, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    await counters.seed([(PROFILE, counted(60_000))])
    await counters.seed([(PROFILE, counted(0))])
    [(_, live)] = await counters.read([PROFILE])
    assert live is not None
    assert live.used_ms == 60_000


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


POLICY = Policy(PROFILE, "99999999-2222-3333-4444-555555555555", 7, True, 1, 120, 120, True, (15, 5), None)


class ServerCameBackOlder:
    """A server that knows less than the process thought, until it has looked."""

    def __init__(self, *, is_older: bool) -> None:
        self.watermarks = [int(is_older)] * 4
        self.generations = [ANY_GENERATION] * 4

    async def check(self) -> None:
        self.watermarks[:] = [0] * 4


async def put_flushed(redis: Any, used_ms: int, *, is_older: bool = False) -> Live | None:
    """Put a policy with flushed counters; the counters that Redis has then."""
    shared = SharedPolicies(
        redis,
        Keys(4),
        RedisEvents(redis, Keys(4)),
        ttl_seconds=3600,
        live_ttl_seconds=1800,
        weekend_days=(5, 6),
        clock=lambda: NOON_MS,
        continuity=ServerCameBackOlder(is_older=is_older),
        at_ms=NOON_MS,
    )
    await shared.put([POLICY], {PROFILE: counted(used_ms)})
    assert await shared.load([PROFILE]) == [POLICY]
    counters = RedisCounters(redis, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    [(_, live)] = await counters.read([PROFILE])
    return live


async def test_flushed_counters_are_put_with_the_policy_where_there_are_none(redis_client: Any) -> None:
    live = await put_flushed(redis_client, 60_000)
    assert live is not None
    assert (live.used_ms, live.policy_version, live.generation) == (60_000, POLICY.version, ANY_GENERATION)
    assert 0 < await redis_client.ttl(Keys(4).live(PROFILE)) <= 1800


async def test_and_never_over_those_that_are_there(redis_client: Any) -> None:
    counters = RedisCounters(redis_client, Keys(4), Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)
    await counters.seed([(PROFILE, counted(90_000))])
    live = await put_flushed(redis_client, 60_000)
    assert live is not None
    assert live.used_ms == 90_000


async def test_what_was_read_before_a_loss_is_not_put_after_it(redis_client: Any) -> None:
    assert await put_flushed(redis_client, 60_000, is_older=True) is None
