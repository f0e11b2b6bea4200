"""Watermarks and generations beside the counters they vouch for."""

from collections.abc import Mapping, Sequence
from typing import cast

from redis.asyncio import Redis

from app.clock import Clock
from app.domain.checkpoint import Checkpoint
from app.redis_store.client import translate_errors
from app.redis_store.keys import Keys
from app.redis_store.scripts import Script


class RedisCheckpoints:
    """Every call may raise CountersUnavailable. Watermarks are instants, and only rise."""

    def __init__(self, redis: Redis, keys: Keys, *, clock: Clock) -> None:
        self._redis = redis
        self._keys = keys
        self._clock = clock
        self._marks = Script("checkpoints")
        self._advance = Script("advance")

    @property
    def buckets(self) -> int:
        return self._keys.buckets

    async def read(self) -> list[Checkpoint]:
        """The mark of each bucket."""
        return await self.read_some(range(self.buckets))

    async def write(self, marks: Mapping[int, Checkpoint]) -> None:
        """Put the marks of some buckets, all at once."""
        numbers = [number for mark in marks.values() for number in (mark.watermark, mark.generation)]
        with translate_errors():
            await self._marks(self._redis, self._keys_of(list(marks)), numbers)

    async def read_some(self, buckets: Sequence[int]) -> list[Checkpoint]:
        """The marks of some buckets, in the order asked."""
        with translate_errors():
            numbers = cast("list[int]", await self._marks(self._redis, self._keys_of(buckets), ()))
        return [Checkpoint(*pair) for pair in zip(numbers[::2], numbers[1::2], strict=True)]

    async def advance(self, known: Mapping[int, Checkpoint]) -> dict[int, Checkpoint] | None:
        """Raise the watermarks of some buckets; None when it holds less than is known, or other generations."""
        numbers = [number for mark in known.values() for number in (mark.watermark, mark.generation)]
        with translate_errors():
            raised = await self._advance(self._redis, self._keys_of(list(known)), (self._clock(), *numbers))
        if raised is None:
            return None
        marks = zip(known.items(), cast("list[int]", raised), strict=True)
        return {bucket: Checkpoint(watermark, mark.generation) for (bucket, mark), watermark in marks}

    def _keys_of(self, buckets: Sequence[int]) -> list[str]:
        return [self._keys.mark(bucket) for bucket in buckets]
