"""A flush may only vouch for a Redis that holds what is known of it."""

import pytest

from app.domain.watermark import Mark
from app.redis_store.keys import Keys
from app.redis_store.marks import RedisMarks
from tests.fakes import fake_redis

AT_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("known", "raised"),
    [
        (Mark(100, 1), Mark(AT_MS, 1)),
        (Mark(99, 1), Mark(AT_MS, 1)),
        (Mark(101, 1), None),  # it came back with an older state
        (Mark(100, 0), None),  # somebody has noticed that it had
        (Mark(100, 2), None),
    ],
)
async def test_a_mark_rises_where_it_is_as_it_is_known(known: Mark, raised: Mark | None) -> None:
    redis = fake_redis()
    marks = RedisMarks(redis, Keys(1), clock=lambda: AT_MS)
    await marks.write({0: Mark(100, 1)})
    assert await marks.advance({0: known}) == (raised and {0: raised})
    assert await marks.read() == [raised or Mark(100, 1)]
    await redis.aclose()


async def test_no_mark_rises_beside_one_that_is_not_as_it_is_known() -> None:
    redis = fake_redis()
    marks = RedisMarks(redis, Keys(2), clock=lambda: AT_MS)
    held = {0: Mark(100, 1), 1: Mark(100, 1)}
    await marks.write(held)
    assert await marks.advance({0: Mark(100, 1), 1: Mark(101, 1)}) is None
    assert await marks.read() == list(held.values())
    assert await marks.advance(held) == {0: Mark(AT_MS, 1), 1: Mark(AT_MS, 1)}
    await redis.aclose()
