"""Hears what other processes have changed.

Pub/sub loses messages silently while a connection is away, and the client reconnects without a word. The only sign is
another confirmation of the subscription; at each one everything remembered is dropped.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Self

import structlog
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.redis_store.keys import INVALIDATE

log = structlog.get_logger(__name__)
_POLL_SECONDS = 5.0
_RECONNECT_SECONDS = 0.2
_PATIENCE_SECONDS = 0.1


class Invalidations:
    """A subscription for the life of the process.

    Args:
        redis: a client of its own; it holds one connection.
        handlers: by the word before the first colon of a message; each gets the rest.
        on_gap: called whenever messages may have been missed.
    """

    def __init__(
        self, redis: Redis, *, handlers: Mapping[str, Callable[[str], None]], on_gap: Callable[[], None]
    ) -> None:
        self._redis = redis
        self._handlers = dict(handlers)
        self._on_gap = on_gap
        self._task: asyncio.Task[None] | None = None
        self.subscribed = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen_for_ever(), name="invalidations")
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._task is not None and not self._task.done():
            self._task.cancel()  # once is not enough: redis-py can swallow it while it connects
            await asyncio.wait([self._task], timeout=_PATIENCE_SECONDS)

    async def _listen_for_ever(self) -> None:
        while True:
            try:
                await self._listen()
            except (RedisError, OSError, TimeoutError) as error:
                self.subscribed.clear()
                log.warning("invalidations_lost", error=type(error).__name__)
                await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        async with self._redis.pubsub() as pubsub:
            await pubsub.subscribe(INVALIDATE)
            while True:
                message = await pubsub.get_message(timeout=_POLL_SECONDS)
                if message is None:
                    await pubsub.ping()  # a dead connection shows itself here
                elif message["type"] == "subscribe":
                    self._on_gap()
                    self.subscribed.set()
                elif message["type"] == "message":
                    self._handle(message["data"].decode(errors="replace"))

    def _handle(self, text: str) -> None:
        kind, _, rest = text.partition(":")
        handler = self._handlers.get(kind)
        if handler is None:
            log.warning("invalidation_unknown", kind=kind[:20])
            return
        handler(rest)
