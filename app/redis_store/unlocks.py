"""Parent unlocks, known by the digests of their tokens, and word of revoked devices."""

from collections.abc import Iterable

from redis.asyncio import Redis

from app.redis_store.client import translate_errors
from app.redis_store.keys import INVALIDATE, unlocks

_CLOCKS_APART_MS = 5_000
"""Clocks of API hosts may differ so much."""


class RedisUnlocks:
    """Every call may raise CountersUnavailable.

    Args:
        redis: the server.
        life_seconds: of an unlock. One that ends later than that from now was made before the clock fell; it is void.
    """

    def __init__(self, redis: Redis, *, life_seconds: int) -> None:
        self._redis = redis
        self._longest_ms = life_seconds * 1000 + _CLOCKS_APART_MS

    async def add(self, account_id: str, digest: str, *, at_ms: int, until_ms: int) -> None:
        """Keep an unlock until an instant. All of an account lie in one key, which ends with the last of them."""
        key = unlocks(account_id)
        with translate_errors():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.zremrangebyscore(key, "-inf", at_ms)
                pipeline.zremrangebyscore(key, f"({at_ms + self._longest_ms}", "+inf")
                pipeline.zadd(key, {digest: until_ms})
                pipeline.pexpire(key, until_ms - at_ms)
                await pipeline.execute()

    async def holds(self, account_id: str, digest: str, *, at_ms: int) -> bool:
        with translate_errors():
            until_ms = await self._redis.zscore(unlocks(account_id), digest)
        return until_ms is not None and at_ms < until_ms <= at_ms + self._longest_ms

    async def end_all(self, account_id: str) -> None:
        with translate_errors():
            await self._redis.delete(unlocks(account_id))


class RedisRevocations:
    """Publishes to every process that a device was revoked or a sign-in has ended."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, device_id: str) -> None:
        """Raises CountersUnavailable."""
        with translate_errors():
            await self._redis.publish(INVALIDATE, f"device:{device_id}")

    async def announce_ended(self, *, sign_in_ids: Iterable[str], device_ids: Iterable[str]) -> None:
        """Raises CountersUnavailable."""
        pipeline = self._redis.pipeline(transaction=False)
        for sign_in_id in sign_in_ids:
            pipeline.publish(INVALIDATE, f"sign-in:{sign_in_id}")
        for device_id in device_ids:
            pipeline.publish(INVALIDATE, f"device:{device_id}")
        with translate_errors():
            await pipeline.execute()
