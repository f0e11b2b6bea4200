"""Events of a child's devices: a short stream per profile, and a word on the channel that something is in it."""

from collections.abc import Mapping
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.redis_store.client import unavailability_named
from app.redis_store.keys import INVALIDATE, Keys

_LIFE_SECONDS = 86_400
_KEPT = 64
_PAGE = 100


class RedisEvents:
    """Events by profile, resumable by id, bounded in number and age."""

    def __init__(self, redis: Redis, keys: Keys) -> None:
        self._redis = redis
        self._keys = keys

    async def add(self, profile_id: str, kind: str, facts: Mapping[str, object], *, at_ms: int) -> None:
        """Append an event and wake those who wait for it. Raises CountersUnavailable."""
        key = self._keys.events(profile_id)
        entry: dict[str | bytes, str | bytes | int] = {
            "kind": kind,
            "facts": msgspec.json.encode(facts),
            "at_ms": at_ms,
        }
        with unavailability_named():
            pipeline = self._redis.pipeline(transaction=False)
            pipeline.xadd(key, entry, maxlen=_KEPT, approximate=True)  # type: ignore[arg-type]
            pipeline.expire(key, _LIFE_SECONDS)
            await pipeline.execute()
            await self._redis.publish(INVALIDATE, f"event:{profile_id}")  # not in a pipeline: a cluster refuses that

    async def latest_id(self, profile_id: str) -> str:
        """The id after which events are yet to come. Raises CountersUnavailable."""
        with unavailability_named():
            newest = await self._redis.xrevrange(self._keys.events(profile_id), count=1)
        return cast("list[tuple[bytes, object]]", newest)[0][0].decode() if newest else "0-0"

    async def after(self, profile_id: str, event_id: str) -> list[tuple[str, str, bytes]]:
        """Events that follow an id, oldest first: id, kind, facts as JSON. Raises CountersUnavailable."""
        with unavailability_named():
            found = await self._redis.xrange(self._keys.events(profile_id), min=f"({event_id}", count=_PAGE)
        return [
            (name.decode(), entry[b"kind"].decode(), entry[b"facts"])
            for name, entry in cast("list[tuple[bytes, dict[bytes, bytes]]]", found)
        ]
