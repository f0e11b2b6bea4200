"""The scan of all usage in Redis gives the same result in every topology."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest

from app.domain.counters import Counters, cold
from app.domain.day_usage import BufferedUsage, DayUsage
from app.domain.policy import DayTerms
from app.redis_store.client import create_client
from app.redis_store.keys import Keys
from app.redis_store.usage_scanner import RedisUsageScanner
from tests.rows import DAY_MS

NOON = 1_772_452_800_000
DAY_NUMBER = NOON // DAY_MS
BUCKETS = 64


@pytest.fixture(params=["valkey", "redis7", "cluster", "sentinel"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    client: Any = create_client(request.getfixturevalue(request.param).url, timeout_seconds=5, connections=8)
    yield client
    await client.aclose()


def _live(*, day_number: int, used_ms: int) -> Counters:
    terms = DayTerms(day_number, day_number * DAY_MS, (day_number + 1) * DAY_MS, -1, -1)
    return msgspec.structs.replace(cold(terms=terms, policy_version=1, at_ms=NOON), used_ms=used_ms)


async def test_everybody_is_found_with_what_waits(redis: Any) -> None:
    keys = Keys(BUCKETS)
    census = RedisUsageScanner(redis, keys)
    flushed, dirty, ended = ([str(uuid4()) for _ in range(60)] for _ in range(3))
    running = {child: _live(day_number=DAY_NUMBER, used_ms=1000 + place) for place, child in enumerate(flushed + dirty)}
    for child, counters in running.items():
        await redis.set(keys.counters(child), msgspec.msgpack.encode(counters), ex=60)
    for child in dirty:
        await redis.zadd(keys.dirty(keys.bucket(child)), {child: NOON})
    yesterday = _live(day_number=DAY_NUMBER - 1, used_ms=77)
    for child in [*ended, dirty[0]]:
        field = f"{child}|{uuid4()}|{DAY_NUMBER - 1}"
        await redis.hset(keys.closed(keys.bucket(child)), field, msgspec.msgpack.encode(yesterday))
    try:
        found = [child async for batch in census.profiles() for child in batch]
        everybody = {*flushed, *dirty, *ended}
        assert everybody <= set(found)
        held = await census.buffered(everybody)
        waiting = [BufferedUsage(DayUsage.of(child, yesterday), waits=True) for child in [*ended, dirty[0]]]
        expected = [
            BufferedUsage(DayUsage.of(child, counters), waits=child in dirty) for child, counters in running.items()
        ] + waiting
        assert sorted(held, key=repr) == sorted(expected, key=repr)
        assert await census.buffered([str(uuid4())]) == []
    finally:
        for child in [*flushed, *dirty, *ended]:
            await redis.delete(keys.counters(child), keys.dirty(keys.bucket(child)), keys.closed(keys.bucket(child)))
