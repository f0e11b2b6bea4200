"""A bounded cache of one process: values expire, loads are shared, stale values serve while the database is away."""

import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import msgspec

from app.clock import Clock
from app.errors import DatabaseUnavailable
from app.kit.batching import Batcher
from app.kit.single_flight import SingleFlight

Key = TypeVar("Key")
Value = TypeVar("Value")

_MAX_BATCH = 1000
_MAX_IN_FLIGHT = 4
_RETRY_MS = 5_000
"""How long a stale value serves before the next load. A hanging database would otherwise delay every caller."""


class _Entry(msgspec.Struct, Generic[Value], gc=False):
    value: Value
    fresh_until_ms: int
    serves_until_ms: int


class TtlCache(Generic[Key, Value]):
    """Values by key. A stale value is loaded again, and serves if the database cannot be reached.

    Args:
        load: one value per key, in order.
        ttl_ms: how long a value is fresh. Each value gets up to a tenth less, so that they do not all expire together.
        stale_ms: how long a value may serve after that.
        size: most values kept. The oldest one leaves first.
        clock: monotonic, in ms, so that no step of the wall clock makes a value serve for longer.
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
        self._batcher: Batcher[Key, Value] = Batcher(load, max_batch=_MAX_BATCH, max_in_flight=_MAX_IN_FLIGHT)
        self._loads: SingleFlight[Key, Value] = SingleFlight(
            self._load, stale_if=(DatabaseUnavailable,), stale=self._serve_stale
        )
        self._ttl_ms = ttl_ms
        self._stale_ms = stale_ms
        self._size = size
        self._clock = clock
        self._jitter = jitter
        self._entries: dict[Key, _Entry[Value]] = {}
        self._changes = 0

    def peek(self, key: Key) -> Value | None:
        """The value if it is fresh; None otherwise."""
        entry = self._entries.get(key)
        return entry.value if entry is not None and self._clock() < entry.fresh_until_ms else None

    def last(self, key: Key) -> Value | None:
        """The value, fresh or not: for what never changes while it is there."""
        entry = self._entries.get(key)
        return None if entry is None else entry.value

    def drop(self, key: Key) -> None:
        """Keep nothing for a key, as if it had never been asked for."""
        self._entries.pop(key, None)

    async def get(self, key: Key) -> Value:
        """The value, loaded if it is not fresh. Raises what ``load`` raises if no stale value may serve."""
        entry = self._entries.get(key)
        if entry is not None and self._clock() < entry.fresh_until_ms:
            return entry.value
        return await self._loads.get(key)

    def forget(self, key: Key) -> None:
        """Drop a value. It must be loaded again before it serves."""
        self._changes += 1
        self._loads.forget(key)
        self._entries.pop(key, None)

    def expire(self) -> None:
        """Make every value stale. Each must be loaded again before it serves, unless the database is away."""
        self._changes += 1
        self._loads.forget_all()
        now_ms = self._clock()
        for entry in self._entries.values():
            entry.fresh_until_ms = min(entry.fresh_until_ms, now_ms)
            entry.serves_until_ms = min(entry.serves_until_ms, now_ms + self._stale_ms)

    async def _load(self, key: Key) -> Value:
        changes = self._changes
        value = await self._batcher.submit(key)
        if changes == self._changes:  # else the value may have changed while it was loaded
            self._keep(key, value)
        return value

    def _serve_stale(self, key: Key, error: Exception) -> Value:
        entry, now_ms = self._entries.get(key), self._clock()
        if entry is None or now_ms >= entry.serves_until_ms:
            raise error
        entry.fresh_until_ms = min(now_ms + _RETRY_MS, entry.serves_until_ms)
        return entry.value

    def _keep(self, key: Key, value: Value) -> None:
        self._entries.pop(key, None)
        while len(self._entries) >= self._size:
            del self._entries[next(iter(self._entries))]
        fresh_until_ms = self._clock() + self._ttl_ms - int(self._jitter.random() * self._ttl_ms / 10)
        self._entries[key] = _Entry(value, fresh_until_ms, fresh_until_ms + self._stale_ms)
