"""Coalescers side by side: where one server of several stands still, its items wait alone."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from app.coalesce import Coalescer, Deliver

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class Lanes(Generic[Item, Answer]):
    """A Coalescer for each lane. A batch holds items of one lane only, so a failure stays within it.

    Args:
        call: does the work for a batch of one lane, as for a Coalescer.
        lane_of: the lane of an item; there are few of them.
        max_batch: items in one call.
        max_in_flight: calls at once, for each lane.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        lane_of: Callable[[Item], int],
        max_batch: int,
        max_in_flight: int,
    ) -> None:
        self._call = call
        self._lane_of = lane_of
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._lanes: dict[int, Coalescer[Item, Answer]] = {}

    def submit(self, item: Item) -> Awaitable[Answer]:
        """Queue an item in its lane. Raises app.coalesce.Overloaded."""
        return self._lane(item).submit(item)

    def enqueue(self, item: Item, deliver: Deliver[Answer]) -> None:
        """Queue an item in its lane; its answer, or error, is handed to ``deliver``. Raises app.coalesce.Overloaded."""
        self._lane(item).enqueue(item, deliver)

    async def drain(self) -> None:
        """Wait until nothing is queued or in flight."""
        for lane in self._lanes.values():
            await lane.drain()

    def _lane(self, item: Item) -> Coalescer[Item, Answer]:
        number = self._lane_of(item)
        lane = self._lanes.get(number)
        if lane is None:
            lane = self._lanes[number] = Coalescer(
                self._call, max_batch=self._max_batch, max_in_flight=self._max_in_flight
            )
        return lane
