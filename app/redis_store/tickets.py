"""Tickets for event streams, by their digests."""

from typing import cast

from redis.asyncio import Redis

from app.redis_store.client import translate_errors
from app.redis_store.keys import ticket


class RedisTickets:
    """Every call may raise CountersUnavailable."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def add(self, digest: str, value: bytes, *, life_ms: int) -> None:
        with translate_errors():
            await self._redis.set(ticket(digest), value, px=life_ms)

    async def take(self, digest: str) -> bytes | None:
        """The value of a ticket, once: of two calls one gets it."""
        with translate_errors():
            return cast("bytes | None", await self._redis.getdel(ticket(digest)))
