"""Many callers, one call: items submitted in the same tick of the event loop travel together.

A lone item leaves at once; under load the calls in flight fill up and the items that wait form the next batch, so
batches grow exactly as far as the load demands.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Hashable, Sequence
from functools import partial
from typing import Generic, TypeAlias, TypeVar, cast

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Deliver: TypeAlias = Callable[[Answer | None, BaseException | None], None]


class Overloaded(Exception):
    """More items wait than may wait; the caller should try again later."""


class Coalescer(Generic[Item, Answer]):
    """Gathers items and hands them to ``call``, which answers one value per item, in order.

    Args:
        call: does the work for a batch. If it raises, every item of the batch gets that error.
        max_batch: items in one call.
        max_in_flight: calls at once.
        max_waiting: items that may wait; one more raises Overloaded.
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
        self._waiting: deque[tuple[Item, Deliver[Answer]]] = deque()
        self._in_flight: set[asyncio.Task[None]] = set()
        self._flying: dict[Hashable, list[asyncio.Future[Answer]]] = {}
        self._is_scheduled = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def submit(self, item: Item) -> "asyncio.Future[Answer]":
        """Queue an item; the future yields its answer. A caller that gives up leaves the batch undisturbed."""
        future: asyncio.Future[Answer] = self._running_loop().create_future()
        self.enqueue(item, partial(settle, future))
        return future

    def join(self, key: Hashable, item: Item) -> "asyncio.Future[Answer]":
        """The answer to an item; whoever asks under a key that is under way already shares that answer, or error.

        A caller that gives up takes nobody along.
        """
        future: asyncio.Future[Answer] = self._running_loop().create_future()
        sharing = self._flying.get(key)
        if sharing is not None:
            sharing.append(future)
            return future
        sharing = [future]
        self.enqueue(item, partial(self._land, key, sharing))
        self._flying[key] = sharing
        return future

    def part(self, key: Hashable) -> None:
        """Whoever asks under the key from now on is not answered by what is under way."""
        self._flying.pop(key, None)

    def part_all(self) -> None:
        """As ``part``, for every key."""
        self._flying.clear()

    def enqueue(self, item: Item, deliver: Deliver[Answer]) -> None:
        """Queue an item whose answer, or error, is handed to ``deliver``, which raises nothing."""
        if len(self._waiting) >= self._max_waiting:
            raise Overloaded
        self._waiting.append((item, deliver))
        if not self._is_scheduled and len(self._in_flight) < self._max_in_flight:
            self._is_scheduled = True
            self._running_loop().call_soon(self._dispatch)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        if self._loop is None:
            self._loop = asyncio.get_running_loop()  # asks the kernel for the process id: not once per item
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
            task = asyncio.create_task(self._run(batch))
            self._in_flight.add(task)
            task.add_done_callback(self._landed)

    def _landed(self, task: "asyncio.Task[None]") -> None:
        self._in_flight.discard(task)
        if self._waiting and not self._is_scheduled:
            self._is_scheduled = True
            asyncio.get_running_loop().call_soon(self._dispatch)

    def _land(
        self,
        key: Hashable,
        sharing: "list[asyncio.Future[Answer]]",
        answer: Answer | None,
        error: BaseException | None,
    ) -> None:
        if self._flying.get(key) is sharing:
            del self._flying[key]
        for future in sharing:
            settle(future, answer, error)

    async def _run(self, batch: Sequence[tuple[Item, Deliver[Answer]]]) -> None:
        try:
            answers = await self._call([item for item, _ in batch])
        except BaseException as error:  # noqa: BLE001  every waiter is told; none is left hanging
            failure = RuntimeError("the batch was cancelled") if isinstance(error, asyncio.CancelledError) else error
            for _, deliver in batch:
                deliver(None, failure)
            return
        for (_, deliver), answer in zip(batch, answers, strict=True):
            deliver(answer, None)


def settle(future: "asyncio.Future[Answer]", answer: Answer | None, error: BaseException | None) -> None:
    """A ``Deliver`` for a future."""
    if future.done():
        return  # whoever waited gave up
    if error is not None:
        future.set_exception(error)
    else:
        future.set_result(cast("Answer", answer))
