"""What the flush finds in Redis: dirty children and finished sessions, bucket by bucket."""

from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from operator import itemgetter
from typing import TypeVar, cast

import msgspec
from redis.asyncio import Redis

from app.clock import Clock
from app.domain.counters import Counters
from app.domain.unflushed import Backlog, Unflushed
from app.redis_store.client import translate_errors
from app.redis_store.cluster import as_cluster
from app.redis_store.clustered import by_bucket
from app.redis_store.keys import Keys
from app.redis_store.scripts import Script, send

_READ_AT_ONCE = 1000
_FUTURE_MS = 60_000
"""Who became dirty so far ahead of now did so before a clock was set back. Nobody knows its age, so it is due."""

_encode = msgspec.msgpack.Encoder().encode
_decode_counters = msgspec.msgpack.Decoder(Counters).decode
_Answer = TypeVar("_Answer")


class RedisUnflushed:
    """Reads without removing; forgets only what has not changed.

    Ages compare with the host's clock; a host that is off flushes a little earlier or later, nothing more. After a
    clock was set back, what is dated in the future is due.
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

    async def peek(self, buckets: Sequence[int], *, older_than_ms: int, limit: int) -> dict[int, list[Unflushed]]:
        """By bucket, finished sessions and days, then the children dirty longest. Raises CountersUnavailable."""
        now_ms = self._clock()
        before_ms = now_ms - older_than_ms
        future = f"({now_ms}" if older_than_ms == 0 else str(now_ms + _FUTURE_MS)
        pipeline = self._redis.pipeline(transaction=False)
        for bucket in buckets:
            pipeline.hscan(self._keys.closed(bucket), 0, count=limit)
            pipeline.zrangebyscore(self._keys.dirty(bucket), "-inf", before_ms, start=0, num=limit)
            pipeline.zrangebyscore(self._keys.dirty(bucket), future, "+inf", start=0, num=limit)
        answers = await _answered(pipeline.execute())
        found: dict[int, list[Unflushed]] = {}
        dirty: list[tuple[int, str]] = []
        for bucket, (cursor, closed), aged, ahead in zip(
            buckets, answers[::3], answers[1::3], answers[2::3], strict=True
        ):
            found[bucket] = await self._closed(bucket, cursor, closed, limit)
            members = [*aged, *ahead][: limit - len(found[bucket])]
            dirty += [(bucket, member.decode()) for member in members]
        for (bucket, profile_id), raw in zip(dirty, await self._live(dirty), strict=True):
            if raw is not None:
                found[bucket].append(Unflushed(profile_id, _decode_counters(raw)))
        return found

    async def everything(self) -> AsyncIterator[list[Unflushed]]:
        """All that PostgreSQL may not have, bucket by bucket; removes nothing. Raises CountersUnavailable.

        Running children are read before what is finished: a session that ends in between is seen twice, never missed.
        """
        for bucket in range(self._keys.buckets):
            dirty = await _answered(self._redis.zrange(self._keys.dirty(bucket), 0, -1))
            members = cast("list[bytes]", dirty)
            found: list[Unflushed] = []
            for first in range(0, len(members), _READ_AT_ONCE):
                children = [(bucket, member.decode()) for member in members[first : first + _READ_AT_ONCE]]
                found += [
                    Unflushed(profile_id, _decode_counters(raw))
                    for (_, profile_id), raw in zip(children, await self._get(children), strict=True)
                    if raw is not None
                ]
            closed = await _answered(self._redis.hgetall(self._keys.closed(bucket)))
            for field, raw in cast("dict[bytes, bytes]", closed).items():
                source = field.decode()
                found.append(Unflushed(source.partition("|")[0], _decode_counters(raw), source))
            yield found

    async def is_empty(self) -> bool:
        """Whether no bucket has a key of ours that matters: counters, what waits, marks. Raises CountersUnavailable."""
        for bucket in range(self._keys.buckets):
            keys = (self._keys.dirty(bucket), self._keys.closed(bucket), self._keys.mark(bucket))
            if await _answered(self._redis.exists(*keys)):
                return False
        return True

    async def forget(self, bucket: int, entries: Sequence[Unflushed]) -> None:
        """Remove what PostgreSQL has; what changed since it was read stays. Raises CountersUnavailable."""
        running = [entry for entry in entries if not entry.source]
        closed = [(entry.source, entry.counters.version) for entry in entries if entry.source]
        keys = [self._keys.dirty(bucket), self._keys.closed(bucket)]
        keys += [self._keys.counters_in(bucket, entry.profile_id) for entry in running]
        call = _encode(([entry.counters.version for entry in running], closed))
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

    async def _closed(self, bucket: int, cursor: int, scanned: Mapping[bytes, bytes], limit: int) -> list[Unflushed]:
        """Finished sessions and days: what a scan began with, and what it takes to reach the limit."""
        found = dict(scanned)
        while cursor != 0 and len(found) < limit:
            cursor, more = await _answered(self._redis.hscan(self._keys.closed(bucket), cursor, count=limit))
            found |= cast("dict[bytes, bytes]", more)
        sources = [(field.decode(), raw) for field, raw in found.items()]
        return [Unflushed(source.partition("|")[0], _decode_counters(raw), source) for source, raw in sources[:limit]]

    async def _live(self, children: Sequence[tuple[int, str]]) -> list[bytes | None]:
        """Counters of children, given by bucket and profile id; None, and no longer dirty, where they were erased."""
        is_clustered = as_cluster(self._redis) is not None
        found = await (by_bucket(children, self._get, bucket_of=itemgetter(0)) if is_clustered else self._get(children))
        gone: dict[int, list[str]] = defaultdict(list)
        for (bucket, profile_id), raw in zip(children, found, strict=True):
            if raw is None:
                gone[bucket].append(profile_id)
        for bucket, profile_ids in gone.items():
            await _answered(self._redis.zrem(self._keys.dirty(bucket), *profile_ids))
        return found

    async def _get(self, children: Sequence[tuple[int, str]]) -> list[bytes | None]:
        if not children:
            return []
        keys = [self._keys.counters_in(*child) for child in children]
        found = await _answered(send(self._redis, ("MGET", *keys), key=keys[0]))
        return cast("list[bytes | None]", found)


async def _answered(call: "Awaitable[_Answer]") -> _Answer:
    with translate_errors():
        return await call
