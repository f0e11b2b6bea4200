"""A flush may raise the watermark only on a Redis that has all known data."""

import pytest

from app.domain.checkpoint import Checkpoint
from app.redis_store.checkpoints import RedisCheckpoints
from app.redis_store.keys import Keys
from tests.fakes import fake_redis

AT_MS = 1_790_000_000_000


@pytest.mark.parametrize(
    ("known", "raised"),
    [
        (Checkpoint(100, 1), Checkpoint(AT_MS, 1)),
        (Checkpoint(99, 1), Checkpoint(AT_MS, 1)),
        (Checkpoint(101, 1), None),  # it came back with an older state
        (Checkpoint(100, 0), None),  # somebody has noticed that it had
        (Checkpoint(100, 2), None),
    ],
)
async def test_a_mark_rises_where_it_is_as_it_is_known(known: Checkpoint, raised: Checkpoint | None) -> None:
    redis = fake_redis()
    marks = RedisCheckpoints(redis, Keys(1), clock=lambda: AT_MS)
    await marks.write({0: Checkpoint(100, 1)})
    assert await marks.advance({0: known}) == (raised and {0: raised})
    assert await marks.read() == [raised or Checkpoint(100, 1)]
    await redis.aclose()


async def test_no_mark_rises_beside_one_that_is_not_as_it_is_known() -> None:
    redis = fake_redis()
    marks = RedisCheckpoints(redis, Keys(2), clock=lambda: AT_MS)
    held = {0: Checkpoint(100, 1), 1: Checkpoint(100, 1)}
    await marks.write(held)
    assert await marks.advance({0: Checkpoint(100, 1), 1: Checkpoint(101, 1)}) is None
    assert await marks.read() == list(held.values())
    assert await marks.advance(held) == {0: Checkpoint(AT_MS, 1), 1: Checkpoint(AT_MS, 1)}
    await redis.aclose()
