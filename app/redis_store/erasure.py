"""Data of profiles and accounts in Redis, for exports and erasures."""

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.auth.lockout_rules import PASSWORD, PIN
from app.domain.counters import Counters
from app.domain.erasure import Erased
from app.redis_store.client import translate_errors
from app.redis_store.keys import INVALIDATE, Keys, attempts, unlocks, web_session, web_sessions

_SCANNED = 1000
_decode_counters = msgspec.msgpack.Decoder(Counters).decode


class RedisErasure:
    """Every call may raise CountersUnavailable."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def announce(self, erased: Erased, *, household: str) -> None:
        """Publish the erased profiles of a household to every process."""
        with translate_errors():
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
        with translate_errors():
            for bucket, profile_ids in by_bucket.items():
                await self._remove_profiles(bucket, profile_ids)
            for account_id in erased.account_ids:
                await self._remove_web_sessions(account_id)
                await self._redis.delete(
                    unlocks(account_id), attempts(account_id, PIN.kind), attempts(account_id, PASSWORD.kind)
                )

    async def counters(self, profile_id: str) -> list[Counters]:
        """The running counters of a profile, then finished sessions and days that wait to be flushed."""
        with translate_errors():
            raw = await self._redis.get(self._keys.counters(profile_id))
            waiting = [raw async for _, raw in self._closed(self._keys.bucket(profile_id), profile_id)]
        return [_decode_counters(found) for found in (cast("bytes | None", raw), *waiting) if found]

    async def _remove_web_sessions(self, account_id: str) -> None:
        known = web_sessions(account_id)
        for digest in cast("list[bytes]", await self._redis.zrange(known, 0, -1)):
            await self._redis.delete(web_session(digest.decode()))
        await self._redis.delete(known)

    async def _remove_profiles(self, bucket: int, profile_ids: Sequence[str]) -> None:
        keys = [
            key(profile_id)
            for key in (
                self._keys.counters,
                self._keys.policy,
                self._keys.events,
                self._keys.old_events,
                self._keys.sessions,
                self._keys.position,
            )
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
