"""A batcher per shard, so that the items of a shard whose server hangs delay no others."""

from collections.abc import Awaitable, Callable, Hashable, Sequence
from typing import Generic, TypeVar

from app.kit.batching import Batcher, Callback

Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ShardedBatcher(Generic[Item, Answer]):
    """One batcher per shard. A batch holds items of one shard only, so an error stays within its shard.

    Args:
        call: processes one batch of one shard, as for a Batcher.
        shard_of: the shard of an item. There are few shards.
        max_batch: most items in one call.
        max_in_flight: most calls at once per shard.
    """

    def __init__(
        self,
        call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
        *,
        shard_of: Callable[[Item], Hashable],
        max_batch: int,
        max_in_flight: int,
    ) -> None:
        self._call = call
        self._shard_of = shard_of
        self._max_batch = max_batch
        self._max_in_flight = max_in_flight
        self._batchers: dict[Hashable, Batcher[Item, Answer]] = {}

    def submit(self, item: Item) -> Awaitable[Answer]:
        """Queue an item in its shard and return a future of its answer. Raises app.kit.batching.Overloaded."""
        return self._batcher_of(item).submit(item)

    def enqueue(self, item: Item, callback: Callback[Answer]) -> None:
        """Queue an item in its shard and pass its answer or its error to ``callback``. Raises Overloaded."""
        self._batcher_of(item).enqueue(item, callback)

    async def drain(self) -> None:
        """Wait until nothing is queued or in flight."""
        for batcher in self._batchers.values():
            await batcher.drain()

    def _batcher_of(self, item: Item) -> Batcher[Item, Answer]:
        shard = self._shard_of(item)
        batcher = self._batchers.get(shard)
        if batcher is None:
            batcher = self._batchers[shard] = Batcher(
                self._call, max_batch=self._max_batch, max_in_flight=self._max_in_flight
            )
        return batcher
