"""Parent unlocks, known by the digests of their tokens, and word of revoked devices."""

from redis.asyncio import Redis

from app.redis_store.client import unavailability_named
from app.redis_store.keys import INVALIDATE, unlocks


class RedisUnlocks:
    """Every call may raise CountersUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, account_id: str, digest: str, *, at_ms: int, until_ms: int) -> None:
        """Keep an unlock until an instant. All of an account lie in one key, which ends with the last of them."""
        key = unlocks(account_id)
        with unavailability_named():
            async with self._redis.pipeline(transaction=True) as pipeline:
                pipeline.zremrangebyscore(key, "-inf", at_ms)
                pipeline.zadd(key, {digest: until_ms})
                pipeline.pexpire(key, until_ms - at_ms)
                await pipeline.execute()

    async def holds(self, account_id: str, digest: str, *, at_ms: int) -> bool:
        with unavailability_named():
            until_ms = await self._redis.zscore(unlocks(account_id), digest)
        return until_ms is not None and at_ms < until_ms

    async def end_all(self, account_id: str) -> None:
        with unavailability_named():
            await self._redis.delete(unlocks(account_id))


class RedisRevocations:
    """Tells every process that a device was revoked."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def announce(self, device_id: str) -> None:
        """Raises CountersUnavailable."""
        with unavailability_named():
            await self._redis.publish(INVALIDATE, f"device:{device_id}")
