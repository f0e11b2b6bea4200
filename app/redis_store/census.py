"""Everything that Redis holds of anybody's usage, for whoever compares it. Reads only."""

from collections.abc import AsyncIterator, Collection
from typing import Any, cast

import msgspec
from redis.asyncio import Redis

from app.domain.accounting import Live
from app.domain.tally import Held, Tally
from app.redis_store.client import unavailability_named
from app.redis_store.keys import PROFILE_ID_LENGTH, Keys

_BATCH = 1000
_decode_live = msgspec.msgpack.Decoder(Live).decode


class RedisCensus:
    """Counters of all children. Scans: as long as it takes, a little at a time."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def profiles(self) -> AsyncIterator[list[str]]:
        """Profiles with counters or finished sessions, in batches; some twice. Raises CountersUnavailable."""
        found: list[str] = []
        with unavailability_named():
            async for key in self._redis.scan_iter(match=self._keys.any_live(), count=_BATCH):
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

    async def held(self, profile_ids: Collection[str]) -> list[Held]:
        """Running days, and finished sessions and days that wait. Raises CountersUnavailable."""
        by_bucket: dict[int, list[str]] = {}
        for profile_id in profile_ids:
            by_bucket.setdefault(self._keys.bucket(profile_id), []).append(profile_id)
        found: list[Held] = []
        with unavailability_named():
            for bucket, ids in by_bucket.items():
                found += await self._held_in(bucket, ids)
        return found

    async def _held_in(self, bucket: int, profile_ids: list[str]) -> list[Held]:
        """One round trip for a bucket, whose keys share a slot. A child waits when the flush would find it.

        The commands are spelled out: on a cluster redis-py fails in a transaction on what its methods pass along.
        """
        pipeline: Any = self._redis.pipeline(transaction=True)
        pipeline.execute_command("MGET", *(self._keys.live_in(bucket, profile_id) for profile_id in profile_ids))
        pipeline.execute_command("ZMSCORE", self._keys.dirty(bucket), *profile_ids)
        pipeline.execute_command("HGETALL", self._keys.closed(bucket))
        lives, marks, closed = await pipeline.execute()
        found = [
            Held(Tally.of(profile_id, _decode_live(raw)), waits=mark is not None)
            for profile_id, raw, mark in zip(profile_ids, lives, marks, strict=True)
            if raw is not None
        ]
        wanted = set(profile_ids)
        for field, raw in closed.items():
            profile_id = field[:PROFILE_ID_LENGTH].decode()
            if profile_id in wanted:
                found.append(Held(Tally.of(profile_id, _decode_live(raw)), waits=True))
        return found
