"""Seeding never takes back what is counted already."""

from typing import Any

from app.domain.accounting import Live, Rules, cold
from app.domain.policy import DayTerms
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys

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
