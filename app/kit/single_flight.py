"""Single flight and stale-if-error: many callers share one load, and a stale value serves while its source is away."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, NoReturn, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class _Abandoned(Exception):
    """The caller that loaded was cancelled."""


def _raise(_: object, error: Exception) -> NoReturn:
    raise error


class SingleFlight(Generic[Key, Value]):
    """Loads values by key. Callers that ask for a key while it loads share that load, and its error.

    The first caller loads; no task is needed. If it is cancelled, another caller loads again.

    Args:
        load: loads the value of one key.
        stale_if: errors after which ``stale`` is asked.
        stale: answers a stale value for the key, or raises the error that it is given.
    """

    def __init__(
        self,
        load: Callable[[Key], Awaitable[Value]],
        *,
        stale_if: tuple[type[Exception], ...] = (),
        stale: Callable[[Key, Exception], Value] = _raise,
    ) -> None:
        self._load = load
        self._stale_if = stale_if
        self._stale = stale
        self._inflight: dict[Key, list[asyncio.Future[Value]]] = {}

    async def get(self, key: Key) -> Value:
        """The value of a key. Raises what ``load`` raises, unless a stale value may serve."""
        while (waiting := self._inflight.get(key)) is not None:
            future: asyncio.Future[Value] = asyncio.get_running_loop().create_future()
            waiting.append(future)
            try:
                return await future
            except _Abandoned:
                continue
        return await self._fly(key)

    def forget(self, key: Key) -> None:
        """Later callers do not share the load that is under way for this key."""
        self._inflight.pop(key, None)

    def forget_all(self) -> None:
        """Later callers share no load that is under way now."""
        self._inflight.clear()

    async def _fly(self, key: Key) -> Value:
        waiting = self._inflight[key] = []
        try:
            value = await self._load_or_stale(key)
        except BaseException as error:
            self._land(key, waiting)
            failure = _Abandoned() if isinstance(error, asyncio.CancelledError) else error
            for future in waiting:
                if not future.done():  # else its caller was cancelled
                    future.set_exception(failure)
            raise
        self._land(key, waiting)
        for future in waiting:
            if not future.done():
                future.set_result(value)
        return value

    def _land(self, key: Key, waiting: "list[asyncio.Future[Value]]") -> None:
        if self._inflight.get(key) is waiting:  # else it was forgotten, and another load may be under way
            del self._inflight[key]

    async def _load_or_stale(self, key: Key) -> Value:
        try:
            return await self._load(key)
        except self._stale_if as error:
            return self._stale(key, error)
