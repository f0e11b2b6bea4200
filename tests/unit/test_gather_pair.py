"""Two awaitables run concurrently."""

import asyncio

import pytest

from app.reports.gather_pair import gather_pair


async def test_neither_waits_for_the_other() -> None:
    asked = asyncio.Event()

    async def needs_the_other() -> str:
        await asked.wait()
        return "answered"

    async def other() -> int:
        asked.set()
        return 1

    assert await asyncio.wait_for(gather_pair(needs_the_other(), other()), 1) == ("answered", 1)


async def test_an_error_is_told_when_the_other_has_ended() -> None:
    has_ended = False

    async def fails() -> None:
        raise ValueError("no")

    async def takes_longer() -> None:
        nonlocal has_ended
        await asyncio.sleep(0.01)
        has_ended = True

    with pytest.raises(ValueError, match="no"):
        await gather_pair(fails(), takes_longer())
    assert has_ended
