"""What Redis knows of profiles and accounts: shown to whom it concerns, and removed when they are erased."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.auth.lockout import PASSWORD, PIN
from app.domain.accounting import Live
from app.domain.erasure import Erased
from app.redis_store.client import unavailability_named
from app.redis_store.keys import INVALIDATE, Keys, tries, unlocks

_SCANNED = 1000
_decode_live = msgspec.msgpack.Decoder(Live).decode


class RedisTraces:
    """Every call may raise CountersUnavailable."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def announce(self, erased: Erased, *, household: str) -> None:
        """Tell every process who of a household is no more."""
        with unavailability_named():
            await self._redis.publish(INVALIDATE, f"household:{household}")
            for account_id in erased.account_ids:
                await self._redis.publish(INVALIDATE, f"account:{account_id}")
            for profile_id in erased.profile_ids:
                await self._redis.publish(INVALIDATE, f"erased:{profile_id}")

    async def remove(self, erased: Erased) -> None:
        """Remove every key, member and field of them.

        Counters go first: without them nothing of a profile is marked dirty or set aside any more.
        """
        by_bucket: dict[int, list[str]] = defaultdict(list)
        for profile_id in erased.profile_ids:
            by_bucket[self._keys.bucket(profile_id)].append(profile_id)
        with unavailability_named():
            for bucket, profile_ids in by_bucket.items():
                await self._remove_profiles(bucket, profile_ids)
            for account_id in erased.account_ids:
                await self._redis.delete(
                    unlocks(account_id), tries(account_id, PIN.kind), tries(account_id, PASSWORD.kind)
                )

    async def counters(self, profile_id: str) -> list[Live]:
        """The running counters of a profile, then finished sessions and days that wait to be flushed."""
        with unavailability_named():
            raw = await self._redis.get(self._keys.live(profile_id))
            waiting = [raw async for _, raw in self._closed(self._keys.bucket(profile_id), profile_id)]
        return [_decode_live(found) for found in (cast("bytes | None", raw), *waiting) if found]

    async def _remove_profiles(self, bucket: int, profile_ids: Sequence[str]) -> None:
        keys = [
            key(profile_id)
            for key in (self._keys.live, self._keys.policy, self._keys.events, self._keys.sessions)
            for profile_id in profile_ids
        ]
        await self._redis.delete(*keys)
        await self._redis.zrem(self._keys.dirty(bucket), *profile_ids)
        for profile_id in profile_ids:
            fields = [field async for field, _ in self._closed(bucket, profile_id)]
            if fields:
                await self._redis.hdel(self._keys.closed(bucket), *fields)

    def _closed(self, bucket: int, profile_id: str) -> AsyncIterator[tuple[bytes, bytes]]:
        fields = self._redis.hscan_iter(self._keys.closed(bucket), match=f"{profile_id}|*", count=_SCANNED)
        return cast("AsyncIterator[tuple[bytes, bytes]]", fields)
