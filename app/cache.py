"""What a process remembers for a while: bounded, with a life, loaded once for all who ask at the same time."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.clock import Clock
from app.coalesce import Coalescer
from app.errors import DatabaseUnavailable

Key = TypeVar("Key")
Value = TypeVar("Value")

_BATCH = 1000
_CALLS_IN_FLIGHT = 4
_PATIENCE_MS = 5_000
"""How long a value that serves past its life does so before loading is tried again: a database that hangs would hold up
everybody who asks."""


class TimedCache(Generic[Key, Value]):
    """Values by key, reloaded when their life is over; stale ones serve while the database is away.

    Args:
        load: one value per key, in order.
        ttl_ms: life of a value; each gets up to a tenth less, so that they do not all end together.
        stale_ms: how long a value may serve when loading fails.
        size: most values kept; the oldest leave first.
    """

    def __init__(
        self,
        load: Callable[[Sequence[Key]], Awaitable[Sequence[Value]]],
        *,
        ttl_ms: int,
        stale_ms: int,
        size: int,
        clock: Clock,
        jitter: random.Random,
    ) -> None:
        self._loader: Coalescer[Key, Value] = Coalescer(load, max_batch=_BATCH, max_in_flight=_CALLS_IN_FLIGHT)
        self._ttl_ms = ttl_ms
        self._stale_ms = stale_ms
        self._size = size
        self._clock = clock
        self._jitter = jitter
        self._entries: dict[Key, tuple[Value, int, int]] = {}
        self._changes = 0

    def peek(self, key: Key) -> Value | None:
        """The value while it is fresh, without waiting."""
        entry = self._entries.get(key)
        return entry[0] if entry is not None and self._clock() < entry[1] else None

    async def get(self, key: Key) -> Value:
        """The value, loaded when needed. Raises what ``load`` raises, when no value may serve in its place."""
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry[1]:
            return entry[0]
        changes = self._changes
        try:
            value = await self._loader.join(key, key)
        except DatabaseUnavailable:
            now_ms = self._clock()
            if entry is None or now_ms >= entry[2]:
                raise
            self._entries[key] = (entry[0], min(now_ms + _PATIENCE_MS, entry[2]), entry[2])
            return entry[0]
        if changes == self._changes:  # else something changed while it was being loaded
            self._keep(key, value)
        return value

    def forget(self, key: Key) -> None:
        """Load this one again before it serves."""
        self._changes += 1
        self._loader.part(key)
        self._entries.pop(key, None)

    def expire(self) -> None:
        """Load each again before it serves, unless the database is away."""
        self._changes += 1
        self._loader.part_all()
        now_ms = self._clock()
        self._entries = {
            key: (value, min(ends_ms, now_ms), min(serves_until_ms, now_ms + self._stale_ms))
            for key, (value, ends_ms, serves_until_ms) in self._entries.items()
        }

    def _keep(self, key: Key, value: Value) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        life_ms = self._ttl_ms - int(self._jitter.random() * self._ttl_ms / 10)
        ends_ms = self._clock() + life_ms
        self._entries[key] = (value, ends_ms, ends_ms + self._stale_ms)
