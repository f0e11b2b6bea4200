"""Reads all usage in Redis, to compare it with PostgreSQL."""

from collections.abc import AsyncIterator, Collection
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from app.domain.counters import Counters
from app.domain.day_usage import BufferedUsage, DayUsage
from app.redis_store.client import translate_errors
from app.redis_store.keys import PROFILE_ID_LENGTH, Keys

_BATCH = 1000
_decode_counters = msgspec.msgpack.Decoder(Counters).decode


class RedisUsageScanner:
    """Counters of all children. Scans: as long as it takes, a little at a time."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def profiles(self) -> AsyncIterator[list[str]]:
        """Profiles with counters or finished sessions, in batches; some twice. Raises CountersUnavailable."""
        found: list[str] = []
        with translate_errors():
            async for key in self._redis.scan_iter(match=self._keys.any_counters(), count=_BATCH):
                found.append(cast("bytes", key)[-PROFILE_ID_LENGTH:].decode())
                if len(found) == _BATCH:
                    yield found
                    found = []
            for bucket in range(self._keys.buckets):
                async for field, _ in self._redis.hscan_iter(self._keys.closed(bucket), count=_BATCH):
                    found.append(cast("bytes", field)[:PROFILE_ID_LENGTH].decode())
                    if len(found) == _BATCH:
                        yield found
                        found = []
        if found:
            yield found

    async def buffered(self, profile_ids: Collection[str]) -> list[BufferedUsage]:
        """Running days, and finished sessions and days that wait. Raises CountersUnavailable."""
        by_bucket: dict[int, list[str]] = {}
        for profile_id in profile_ids:
            by_bucket.setdefault(self._keys.bucket(profile_id), []).append(profile_id)
        found: list[BufferedUsage] = []
        with translate_errors():
            for bucket, ids in by_bucket.items():
                found += await self._held_in(bucket, ids)
        return found

    async def _held_in(self, bucket: int, profile_ids: list[str]) -> list[BufferedUsage]:
        """One round trip for a bucket, whose keys share a slot. A child waits when the flush would find it.

        The commands are spelled out: on a cluster redis-py fails in a transaction on what its methods pass along.
        """
        pipeline: Any = self._redis.pipeline(transaction=True)
        pipeline.execute_command("MGET", *(self._keys.counters_in(bucket, profile_id) for profile_id in profile_ids))
        pipeline.execute_command("ZMSCORE", self._keys.dirty(bucket), *profile_ids)
        pipeline.execute_command("HGETALL", self._keys.closed(bucket))
        counters_of, marks, closed = await pipeline.execute()
        found = [
            BufferedUsage(DayUsage.of(profile_id, _decode_counters(raw)), waits=mark is not None)
            for profile_id, raw, mark in zip(profile_ids, counters_of, marks, strict=True)
            if raw is not None
        ]
        wanted = set(profile_ids)
        for field, raw in closed.items():
            profile_id = field[:PROFILE_ID_LENGTH].decode()
            if profile_id in wanted:
                found.append(BufferedUsage(DayUsage.of(profile_id, _decode_counters(raw)), waits=True))
        return found
