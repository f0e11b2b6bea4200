"""Requests by account and token, counted for all processes together."""

from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis

from app.auth.rates import Admission, Quota, Standing
from app.redis_store.client import unavailability_named
from app.redis_store.keys import rate
from app.redis_store.scripts import Script


class RedisRates:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._admit = Script("admit")

    async def admit(self, account_id: str, quotas: Sequence[Quota], holders: Sequence[str]) -> Admission:
        """Count a request against the quota of each holder, all or none. Raises CountersUnavailable."""
        keys = [rate(account_id, quota.name, holder) for quota, holder in zip(quotas, holders, strict=True)]
        limits = [number for quota in quotas for number in (quota.most, quota.window_ms)]
        with unavailability_named():
            wait_ms, *stands = cast("list[int]", await self._admit(self._redis, keys, limits))
        standings = map(_standing, stands[::2], stands[1::2])
        return Admission(wait_ms=wait_ms, standings=tuple(standings))


def _standing(left: int, whole_in_ms: int) -> Standing:
    return Standing(left=left, whole_in_ms=whole_in_ms)
