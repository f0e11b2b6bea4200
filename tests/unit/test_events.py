"""What an event stream tells of a reset, to those who were there and to those who come back."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from app.auth.tokens import Principal, Role
from app.domain.viewing_day import DAY_MS, ViewingDay
from app.viewing.answers import adult_balance_answer
from app.viewing.events import EventStreams, Wakes
from app.viewing.schemas import BalanceAnswer

if TYPE_CHECKING:
    from app.viewing.service import ViewingService

RESET_MS = 20_000 * DAY_MS
LEFT_MS = 100
PLAYER = Principal(account_id="family", role=Role.HOUSEHOLD, expires_s=0)


class FakeService:
    """A child's days that follow on each other at ``RESET_MS``."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    async def running_day(self, *_: object) -> tuple[ViewingDay, int]:
        number = self.at_ms // DAY_MS
        return ViewingDay(number, number * DAY_MS, (number + 1) * DAY_MS), DAY_MS - self.at_ms % DAY_MS

    async def balance(self, *_: object) -> BalanceAnswer:
        return msgspec.structs.replace(adult_balance_answer("child"), day="2024-10-04")

    async def owned(self, *_: object) -> None:
        return None


class FakeLog:
    """Events by id."""

    def __init__(self, *ids: str) -> None:
        self.ids = ids

    async def latest_id(self, _: str) -> str:
        return self.ids[-1] if self.ids else "0-0"

    async def after(self, _: str, event_id: str) -> list[tuple[str, str, bytes]]:
        return [(later, "blocked", b"{}") for later in self.ids if later > event_id]


async def _told(
    service: FakeService, log: FakeLog, last_event_id: str | None, *, reset_comes: bool = False
) -> list[Any]:
    """Kinds and ids of the events of a stream in its first moments."""
    streams = EventStreams(log=log, wakes=Wakes(most=1), service=cast("ViewingService", service))
    response = await streams.open(PLAYER, "child", last_event_id)
    told: list[Any] = []
    if reset_comes:
        asyncio.get_running_loop().call_later(LEFT_MS / 2000, setattr, service, "at_ms", RESET_MS)
    try:
        async with asyncio.timeout(3 * LEFT_MS / 1000):
            async for chunk in response._chunks:
                if chunk.startswith(b"id: "):
                    event_id, kind, _ = chunk.decode().split("\n", 2)
                    told.append((kind.removeprefix("event: "), event_id.removeprefix("id: ")))
    except TimeoutError:
        pass
    return told


async def test_a_reset_is_told_when_it_comes() -> None:
    told = await _told(FakeService(RESET_MS - LEFT_MS), FakeLog(), None, reset_comes=True)
    assert told == [("day_reset", f"{RESET_MS}-0")]


async def test_a_clock_that_is_behind_delays_the_news() -> None:
    assert await _told(FakeService(RESET_MS - LEFT_MS), FakeLog(), None) == []


async def test_a_reset_that_was_missed_is_told_after_what_came_before() -> None:
    before, missed = f"{RESET_MS - 9000}-0", f"{RESET_MS - 5000}-0"
    told = await _told(FakeService(RESET_MS + 1), FakeLog(before, missed), before)
    assert told == [("blocked", missed), ("day_reset", f"{RESET_MS}-0")]


@pytest.mark.parametrize("last_event_id", [None, f"{RESET_MS}-0", f"{RESET_MS + 5}-1"])
async def test_a_reset_is_not_told_twice(last_event_id: str | None) -> None:
    assert await _told(FakeService(RESET_MS + 9), FakeLog(), last_event_id) == []


async def test_what_came_after_a_missed_reset_keeps_its_place() -> None:
    before, later = f"{RESET_MS - 9000}-0", f"{RESET_MS + 5}-0"
    told = await _told(FakeService(RESET_MS + 9), FakeLog(before, later), before)
    assert told == [("blocked", later), ("day_reset", later)]
