"""What is remembered of children whose players send positions. It is lost with Redis, and nothing depends on it."""

from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.domain.tampering import PositionWatch
from app.redis_store.client import translate_errors
from app.redis_store.keys import Keys
from app.redis_store.scripts import Script

HINTS_LIFE_MS = 26 * 3_600_000
"""Longer than a viewing day: `why` tells the hints of the running one."""

_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(PositionWatch).decode


class RedisPositions:
    """Every call takes many children at once and may raise CountersUnavailable.

    Args:
        silence_ms: how long after its last heartbeat a child without hints is remembered.
    """

    def __init__(self, redis: Redis, keys: Keys, *, silence_ms: int) -> None:
        self._redis = redis
        self._keys = keys
        self._silence_ms = silence_ms
        self._keep = Script("keep_positions")

    async def read(self, profile_ids: Sequence[str]) -> list[PositionWatch | None]:
        """What is remembered of each child."""
        with translate_errors():
            found = await self._redis.mget([self._keys.position(profile_id) for profile_id in profile_ids])
        return [None if raw is None else _watch(raw) for raw in cast("list[bytes | None]", found)]

    async def keep(self, watches: Sequence[tuple[str, PositionWatch]]) -> None:
        """Replace what is remembered of children."""
        arguments: list[bytes | int] = []
        for _, watch in watches:
            arguments += (_pack(watch), HINTS_LIFE_MS if watch.hints else self._silence_ms)
        with translate_errors():
            await self._keep(self._redis, [self._keys.position(profile_id) for profile_id, _ in watches], arguments)


def _watch(raw: bytes) -> PositionWatch | None:
    """What another version wrote may not fit; then the child is watched anew."""
    try:
        return _unpack(raw)
    except msgspec.ValidationError:
        return None
