"""Requests by account and token, counted for all processes together."""

from collections.abc import Sequence
from typing import cast

from redis.asyncio import Redis

from app.auth.ports import Quota, QuotaAdmission, QuotaState
from app.redis_store.client import translate_errors
from app.redis_store.keys import rate
from app.redis_store.scripts import Script


class RedisRates:
    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._admit = Script("admit")

    async def admit(self, account_id: str, quotas: Sequence[Quota], holders: Sequence[str]) -> QuotaAdmission:
        """Count a request against the quota of each holder, all or none. Raises CountersUnavailable."""
        keys = [rate(account_id, quota.name, holder) for quota, holder in zip(quotas, holders, strict=True)]
        limits = [number for quota in quotas for number in (quota.most, quota.window_ms)]
        with translate_errors():
            wait_ms, *stands = cast("list[int]", await self._admit(self._redis, keys, limits))
        standings = map(_quota_state, stands[::2], stands[1::2])
        return QuotaAdmission(wait_ms=wait_ms, standings=tuple(standings))


def _quota_state(left: int, whole_in_ms: int) -> QuotaState:
    return QuotaState(left=left, whole_in_ms=whole_in_ms)
