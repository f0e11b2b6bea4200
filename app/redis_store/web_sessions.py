"""Sessions of the console and of the caregivers' page, and which of their forms were sent already."""

from typing import cast

from redis.asyncio import Redis

from app.redis_store.client import translate_errors
from app.redis_store.keys import web_once, web_session, web_sessions

_MAX_SESSIONS = 50
"""Of one account; the oldest ends when there is another."""
_LISTED_SECONDS = 181 * 86_400
"""Longer than any session without a request."""


class RedisWebSessions:
    """Every call may raise CountersUnavailable. Each command touches one key, so a cluster takes them, too."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def read(self, digest: str, *, life_seconds: int) -> bytes | None:
        """A session, whose life begins anew; None when it has ended."""
        with translate_errors():
            return cast("bytes | None", await self._redis.getex(web_session(digest), ex=life_seconds))

    async def exists(self, digest: str) -> bool:
        with translate_errors():
            return bool(await self._redis.exists(web_session(digest)))

    async def add(self, account_id: str, digest: str, session: bytes, *, at_ms: int, life_seconds: int) -> None:
        """Keep a new session. It is listed for its account first, so that no session can escape ``end_all``."""
        known = web_sessions(account_id)
        with translate_errors():
            await self._redis.zadd(known, {digest: at_ms})
            await self._redis.expire(known, _LISTED_SECONDS)
            await self._redis.set(web_session(digest), session, ex=life_seconds)
            oldest = cast("list[bytes]", await self._redis.zrange(known, 0, -_MAX_SESSIONS - 1))
            for older in oldest:
                await self._redis.delete(web_session(older.decode()))
            if oldest:
                await self._redis.zrem(known, *oldest)

    async def replace(self, digest: str, session: bytes, *, life_seconds: int) -> None:
        with translate_errors():
            await self._redis.set(web_session(digest), session, ex=life_seconds, xx=True)

    async def end(self, account_id: str, digest: str) -> None:
        with translate_errors():
            await self._redis.delete(web_session(digest))
            await self._redis.zrem(web_sessions(account_id), digest)

    async def end_all(self, account_id: str) -> None:
        known = web_sessions(account_id)
        with translate_errors():
            for digest in cast("list[bytes]", await self._redis.zrange(known, 0, -1)):
                await self._redis.delete(web_session(digest.decode()))
                await self._redis.zrem(known, digest)

    async def claim(self, digest: str, key: str, *, life_seconds: int) -> str | None:
        """Claim a form's key; None: it is ours, else the stored outcome."""
        name = web_once(digest, key)
        with translate_errors():
            if await self._redis.set(name, b"", ex=life_seconds, nx=True):
                return None
            return cast("bytes", await self._redis.get(name) or b"").decode()

    async def store_outcome(self, digest: str, key: str, outcome: str, *, life_seconds: int) -> None:
        with translate_errors():
            await self._redis.set(web_once(digest, key), outcome.encode(), ex=life_seconds)

    async def release(self, digest: str, key: str) -> None:
        with translate_errors():
            await self._redis.delete(web_once(digest, key))
