"""What the flush finds in Redis: dirty children and finished sessions, bucket by bucket."""

from collections.abc import Awaitable, Sequence
from typing import TypeVar, cast

import msgspec
from redis.asyncio import Redis

from app.clock import Clock
from app.domain.accounting import Live
from app.domain.unflushed import Backlog, Unflushed
from app.redis_store.client import unavailability_named
from app.redis_store.cluster import as_cluster
from app.redis_store.keys import Keys
from app.redis_store.scripts import Script

_encode = msgspec.msgpack.Encoder().encode
_decode_live = msgspec.msgpack.Decoder(Live).decode
_Answer = TypeVar("_Answer")


class RedisUnflushed:
    """Reads without removing; forgets only what has not changed.

    Ages compare with the host's clock; a host that is off flushes a little earlier or later, nothing more.
    """

    def __init__(self, redis: Redis, keys: Keys, *, live_ttl_seconds: int, clock: Clock) -> None:
        self._redis = redis
        self._keys = keys
        self._live_ttl_seconds = live_ttl_seconds
        self._clock = clock
        self._forget = Script("forget")

    @property
    def buckets(self) -> int:
        return self._keys.buckets

    def server_of(self, bucket: int) -> str:
        """The address of a bucket's node on a cluster; one and the same name elsewhere."""
        cluster = as_cluster(self._redis)
        return cluster.owner(self._keys.dirty(bucket)) if cluster else ""

    async def peek(self, bucket: int, *, older_than_ms: int, limit: int) -> list[Unflushed]:
        """Finished sessions and days, then the children dirty longest. Raises CountersUnavailable."""
        found = await self._closed(bucket, limit)
        room = limit - len(found)
        if room > 0:
            found += await self._dirty(bucket, self._clock() - older_than_ms, room)
        return found[:limit]

    async def forget(self, bucket: int, entries: Sequence[Unflushed]) -> None:
        """Remove what PostgreSQL has; what changed since it was read stays. Raises CountersUnavailable."""
        running = [entry for entry in entries if not entry.source]
        closed = [(entry.source, entry.live.version) for entry in entries if entry.source]
        keys = [self._keys.dirty(bucket), self._keys.closed(bucket)]
        keys += [self._keys.live(entry.profile_id) for entry in running]
        call = _encode(([entry.live.version for entry in running], closed))
        await _answered(self._forget(self._redis, keys, (self._live_ttl_seconds, self._clock(), call)))

    async def backlog(self) -> Backlog:
        """How much waits, over all buckets. Raises CountersUnavailable."""
        pipeline = self._redis.pipeline(transaction=False)
        for bucket in range(self._keys.buckets):
            pipeline.zcard(self._keys.dirty(bucket))
            pipeline.hlen(self._keys.closed(bucket))
            pipeline.zrange(self._keys.dirty(bucket), 0, 0, withscores=True)
        answers = await _answered(pipeline.execute())
        oldest = [int(head[0][1]) for head in answers[2::3] if head]
        return Backlog(
            children=sum(answers[0::3]),
            closed=sum(answers[1::3]),
            oldest_ms=min(oldest, default=None),
            at_ms=self._clock(),
        )

    async def _closed(self, bucket: int, limit: int) -> list[Unflushed]:
        key = self._keys.closed(bucket)
        found: dict[str, Unflushed] = {}
        cursor = 0
        while True:
            cursor, scanned = await _answered(self._redis.hscan(key, cursor, count=limit))
            fields = cast("dict[bytes, bytes]", scanned)
            for field, raw in fields.items():
                source = field.decode()
                found[source] = Unflushed(source.partition("|")[0], _decode_live(raw), source)
            if cursor == 0 or len(found) >= limit:
                return list(found.values())[:limit]

    async def _dirty(self, bucket: int, before_ms: int, limit: int) -> list[Unflushed]:
        key = self._keys.dirty(bucket)
        members = cast(
            "list[bytes]", await _answered(self._redis.zrangebyscore(key, "-inf", before_ms, start=0, num=limit))
        )
        if not members:
            return []
        ids = [member.decode() for member in members]
        found = await _answered(self._redis.mget([self._keys.live(profile_id) for profile_id in ids]))
        raws = cast("list[bytes | None]", found)
        gone = [profile_id for profile_id, raw in zip(ids, raws, strict=True) if raw is None]
        if gone:  # erased meanwhile
            await _answered(self._redis.zrem(key, *gone))
        return [
            Unflushed(profile_id, _decode_live(raw))
            for profile_id, raw in zip(ids, raws, strict=True)
            if raw is not None
        ]


async def _answered(call: "Awaitable[_Answer]") -> _Answer:
    with unavailability_named():
        return await call
