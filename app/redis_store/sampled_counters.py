"""Reads the counters of some children of a bucket, for the check of accuracy."""

from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.domain.counters import Counters
from app.redis_store.client import translate_errors
from app.redis_store.keys import Keys
from app.redis_store.scripts import Script

_decode_counters = msgspec.msgpack.Decoder(Counters).decode


class RedisSampledCounters:
    """Every call may raise CountersUnavailable.

    Args:
        at_ms: instant of the reading instead of the server's clock; tests only.
    """

    def __init__(self, redis: Redis, keys: Keys, *, at_ms: int = 0) -> None:
        self._redis = redis
        self._keys = keys
        self._sample = Script("sample")
        self.at_ms = at_ms

    async def active(self, bucket: int, *, most: int) -> list[str]:
        """Children of a bucket with something to flush, which is who watches."""
        with translate_errors():
            found = await self._redis.zrange(self._keys.dirty(bucket), 0, most - 1)
        return [profile_id.decode() for profile_id in cast("list[bytes]", found)]

    async def sample(self, bucket: int, profile_ids: Sequence[str]) -> tuple[int, list[Counters | None]]:
        """The instant (ms) by the server's clock, and the counters of children of a bucket as they are stored."""
        keys = [self._keys.counters_in(bucket, profile_id) for profile_id in profile_ids]
        with translate_errors():
            answer = await self._sample(self._redis, (self._keys.dirty(bucket), *keys), (self.at_ms,))
        at_ms, found = cast("tuple[int, list[bytes | None]]", answer)
        return at_ms, [None if raw is None else _decode_counters(raw) for raw in found]
