"""Whoever asks for the same thing at the same time shares one answer."""

import asyncio
from collections.abc import Sequence

import pytest

from app.coalesce import Coalescer, Overloaded


class Source:
    """Answers each batch when its gate opens."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.is_away = False

    async def load(self, keys: Sequence[str]) -> list[str]:
        self.batches.append(list(keys))
        await self.gate.wait()
        if self.is_away:
            raise OSError("away")
        return [f"{key}{len(self.batches)}" for key in keys]

    def coalescer(self, *, max_waiting: int = 10) -> Coalescer[str, str]:
        return Coalescer(self.load, max_batch=10, max_in_flight=1, max_waiting=max_waiting)


async def test_one_that_gives_up_takes_nobody_along() -> None:
    source = Source()
    coalescer = source.coalescer()
    asking = [asyncio.ensure_future(coalescer.join("a", "a")) for _ in range(3)]
    await asyncio.sleep(0)
    asking[0].cancel()
    source.gate.set()
    assert await asyncio.gather(*asking[1:]) == ["a1", "a1"]
    assert source.batches == [["a"]]
    assert await coalescer.join("a", "a") == "a2", "what was answered is not under way"


async def test_who_parted_is_not_answered_by_what_was_under_way() -> None:
    source = Source()
    coalescer = source.coalescer()
    early = coalescer.join("a", "a")
    await asyncio.sleep(0)
    coalescer.part("a")
    late = coalescer.join("a", "a")
    source.gate.set()
    assert await early == "a1"
    assert await late == "a2"


async def test_a_failure_is_everybodys_and_passes() -> None:
    source = Source()
    coalescer = source.coalescer()
    source.is_away = True
    source.gate.set()
    for answer in await asyncio.gather(*(coalescer.join("a", "a") for _ in range(2)), return_exceptions=True):
        assert isinstance(answer, OSError)
    source.is_away = False
    assert await coalescer.join("a", "a") == "a2"


async def test_what_may_not_wait_leaves_nothing_behind() -> None:
    source = Source()
    coalescer = source.coalescer(max_waiting=1)
    first = coalescer.join("a", "a")
    with pytest.raises(Overloaded):
        coalescer.join("b", "b")
    source.gate.set()
    assert await first == "a1"
    assert await coalescer.join("b", "b") == "b2"
