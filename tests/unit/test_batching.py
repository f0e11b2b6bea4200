"""Items that are queued together share one call."""

import asyncio
from collections.abc import Sequence

import pytest

from app.kit.batching import Batcher, Overloaded


class Source:
    """Answers each batch when its gate opens."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.is_away = False

    async def load(self, keys: Sequence[str]) -> list[str]:
        self.batches.append(list(keys))
        number = len(self.batches)
        await self.gate.wait()
        if self.is_away:
            raise OSError("away")
        return [f"{key}{number}" for key in keys]

    def batcher(self, *, max_batch: int = 10, max_waiting: int = 10) -> Batcher[str, str]:
        return Batcher(self.load, max_batch=max_batch, max_in_flight=1, max_waiting=max_waiting)


async def test_items_of_one_tick_share_a_call_and_later_ones_share_the_next() -> None:
    source = Source()
    batcher = source.batcher(max_batch=2)
    first = [batcher.submit(key) for key in "abc"]
    await asyncio.sleep(0)
    second = batcher.submit("d")
    source.gate.set()
    assert [await answer for answer in (*first, second)] == ["a1", "b1", "c2", "d2"]
    assert source.batches == [["a", "b"], ["c", "d"]]


async def test_an_item_that_is_cancelled_cancels_no_other() -> None:
    source = Source()
    batcher = source.batcher()
    cancelled, other = batcher.submit("a"), batcher.submit("b")
    cancelled.cancel()
    source.gate.set()
    assert await other == "b1"


async def test_an_error_reaches_every_item_of_its_batch() -> None:
    source = Source()
    source.is_away = True
    source.gate.set()
    batcher = source.batcher()
    for answer in await asyncio.gather(batcher.submit("a"), batcher.submit("b"), return_exceptions=True):
        assert isinstance(answer, OSError)
    source.is_away = False
    assert await batcher.submit("a") == "a2"


async def test_an_item_beyond_the_queue_leaves_nothing_behind() -> None:
    source = Source()
    batcher = source.batcher(max_waiting=1)
    first = batcher.submit("a")
    with pytest.raises(Overloaded):
        batcher.submit("b")
    source.gate.set()
    assert await first == "a1"
    await batcher.drain()
    assert source.batches == [["a"]]
