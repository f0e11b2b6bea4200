"""Sharded batches: a batch has items of one shard, and a stalled shard delays no other one."""

import asyncio
from collections.abc import Sequence

import pytest

from app.kit.sharded_batching import ShardedBatcher
from app.redis_store.clustered import by_bucket


def lane(item: int) -> int:
    return item // 10


async def test_items_of_a_lane_travel_together_and_others_apart() -> None:
    batches: list[list[int]] = []

    async def call(items: Sequence[int]) -> list[int]:
        batches.append(list(items))
        return [-item for item in items]

    lanes = ShardedBatcher(call, shard_of=lane, max_batch=10, max_in_flight=1)
    assert await asyncio.gather(*(lanes.submit(item) for item in (1, 11, 2, 12, 3))) == [-1, -11, -2, -12, -3]
    assert sorted(batches) == [[1, 2, 3], [11, 12]]


async def test_a_lane_that_stands_or_fails_does_so_alone() -> None:
    gate = asyncio.Event()

    async def call(items: Sequence[int]) -> list[int]:
        if lane(items[0]) == 0:
            await gate.wait()
            raise OSError("away")
        return list(items)

    lanes = ShardedBatcher(call, shard_of=lane, max_batch=10, max_in_flight=1)
    stuck = lanes.submit(1)
    assert await lanes.submit(11) == 11
    draining = asyncio.create_task(lanes.drain())
    gate.set()
    with pytest.raises(OSError, match="away"):
        await stuck
    await draining


async def test_answers_of_many_buckets_come_in_the_order_asked() -> None:
    async def call(items: Sequence[int]) -> list[str]:
        await asyncio.sleep(0.01 if lane(items[0]) == 0 else 0)
        return [f"{item}" for item in items]

    assert await by_bucket([1, 21, 11, 2], call, bucket_of=lane) == ["1", "21", "11", "2"]
    assert await by_bucket([], call, bucket_of=lane) == []


async def test_a_bucket_that_fails_lets_the_others_end_first() -> None:
    ended: list[int] = []

    async def call(items: Sequence[int]) -> list[int]:
        if lane(items[0]) == 0:
            raise OSError("away")
        await asyncio.sleep(0.01)
        ended.extend(items)
        return list(items)

    with pytest.raises(OSError, match="away"):
        await by_bucket([1, 11, 21], call, bucket_of=lane)
    assert sorted(ended) == [11, 21]
