"""Batching: items that are queued in the same tick of the event loop share one call.

A lone item leaves at once. Under load all permitted calls are in flight, and waiting items form the next batch. So the
size of a batch follows the load.
"""

import asyncio
import contextvars
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Generic, TypeAlias, TypeVar, cast

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Callback: TypeAlias = Callable[[Answer | None, BaseException | None], None]
"""Receives an answer and None, or None and an error."""


class Overloaded(Exception):
    """The queue is full. The caller should try again later."""


class Batcher(Generic[Item, Answer]):
    """Collects items and passes them to ``call``, which answers one value per item, in order.

    Args:
        call: processes one batch. If it raises, every item of the batch gets that error.
        max_batch: most items in one call.
        max_in_flight: most calls at once.
        max_waiting: most items in the queue. One more raises Overloaded.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        max_batch: int,
        max_in_flight: int,
        max_waiting: int = 100_000,
    ) -> None:
        self._call = call
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Item, Callback[Answer]]] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._is_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, item: Item) -> "asyncio.Future[Answer]":
        """Queue an item and return a future of its answer. A cancelled future does not cancel the batch.

        Raises:
            Overloaded: the queue is full.
        """
        future: asyncio.Future[Answer] = self._running_loop().create_future()
        self.enqueue(item, partial(_resolve, future))
        return future

    def enqueue(self, item: Item, callback: Callback[Answer]) -> None:
        """Queue an item and pass its answer or its error to ``callback``, which must not raise.

        Raises:
            Overloaded: the queue is full.
        """
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded
        self._waiting.append((item, callback))
        if not self._is_scheduled and len(self._in_flight) < self._max_in_flight:
            self._is_scheduled = True
            self._running_loop().call_soon(self._dispatch)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # this call asks the kernel for the process id
        return self._loop

    async def drain(self) -> None:
        """Wait until nothing is queued or in flight."""
        while self._waiting or self._in_flight:
            await asyncio.sleep(0)
            if self._in_flight:
                await asyncio.wait(self._in_flight)

    def _dispatch(self) -> None:
        self._is_scheduled = False
        while self._waiting and len(self._in_flight) < self._max_in_flight:
            size = min(self._max_batch, len(self._waiting))
            batch = [self._waiting.popleft() for _ in range(size)]
            # A context of its own: a batch serves many requests, and must not log or trace as one of them.
            task = asyncio.get_running_loop().create_task(self._run(batch), context=contextvars.Context())
            self._in_flight.add(task)
            task.add_done_callback(self._on_call_done)

    def _on_call_done(self, task: "asyncio.Task[None]") -> None:
        self._in_flight.discard(task)
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    async def _run(self, batch: Sequence[tuple[Item, Callback[Answer]]]) -> None:
        try:
            answers = await self._call([item for item, _ in batch])
        except BaseException as error:  # noqa: BLE001  every waiter must get an answer
            failure = RuntimeError("the batch was cancelled") if isinstance(error, asyncio.CancelledError) else error
            for _, callback in batch:
                callback(None, failure)
            return
        for (_, callback), answer in zip(batch, answers, strict=True):
            callback(answer, None)


def _resolve(future: "asyncio.Future[Answer]", answer: Answer | None, error: BaseException | None) -> None:
    """A callback that completes a future."""
    if future.done():
        return  # its caller was cancelled
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(cast("Answer", answer))
