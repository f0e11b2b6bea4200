"""Event streams: events of a reset, keep-alive comments, and the end of a stream."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, cast

import msgspec
import pytest

from app.auth.tokens import Access, Principal, Role
from app.domain.events import Event, RecentEvents
from app.domain.viewing_day import DAY_MS, ViewingDay
from app.errors import TooManyStreams
from app.viewing.answers import adult_balance_answer
from app.viewing.events import EventStreams, StreamNotifier
from app.viewing.schemas import BalanceAnswer
from tests.virtual_time import in_virtual_time

if TYPE_CHECKING:
    from app.viewing.service import ViewingService

RESET_MS = 20_000 * DAY_MS
LEFT_MS = 100
PLAYER = Access(
    principal=Principal(account_id="family", role=Role.HOUSEHOLD, expires_s=0, device_id="phone"),
    authorization=None,
    generation=0,
)
LONG_MS = 3_600_000


class FakeService:
    """Two consecutive days of a child with a reset at ``RESET_MS``."""

    def __init__(self, at_ms: int) -> None:
        self.at_ms = at_ms

    async def running_day(self, *_: object) -> tuple[ViewingDay, int]:
        number = self.at_ms // DAY_MS
        return ViewingDay(number, number * DAY_MS, (number + 1) * DAY_MS), DAY_MS - self.at_ms % DAY_MS

    async def balance(self, *_: object) -> BalanceAnswer:
        return msgspec.structs.replace(adult_balance_answer("child", at_ms=0), day="2024-10-04")

    async def owned(self, *_: object) -> None:
        return None

    async def changes_ms(self, *_: object) -> tuple[None, bool]:
        return None, False


class FakeLog:
    """Events by id."""

    def __init__(self, *ids: str, is_complete: bool = True) -> None:
        self.ids = ids
        self.is_complete = is_complete

    async def latest_id(self, _: str) -> str:
        return self.ids[-1] if self.ids else "0-0"

    async def after(self, _: str, event_id: str) -> RecentEvents:
        events = (Event(id=later, kind="blocked", facts=b"{}") for later in self.ids if later > event_id)
        return RecentEvents(events=tuple(events), is_complete=self.is_complete)


class FakeAccess:
    """An access that lasts until an instant of the loop's clock, unless it is revoked before."""

    def __init__(self, *, lasts_ms: float = LONG_MS) -> None:
        self.ends_at = asyncio.get_running_loop().time() + lasts_ms / 1000

    def remaining_ms(self, _: Access) -> int:
        return max(0, round((self.ends_at - asyncio.get_running_loop().time()) * 1000))


async def _told(
    service: FakeService, log: FakeLog, last_event_id: str | None, *, reset_comes: bool = False
) -> list[Any]:
    """Kinds and ids of the first events of a stream."""
    streams = EventStreams(
        log=log, notifier=StreamNotifier(max_streams=1), service=cast("ViewingService", service), accesses=FakeAccess()
    )
    response = await streams.open(PLAYER, "child", last_event_id)
    told: list[Any] = []
    if reset_comes:
        asyncio.get_running_loop().call_later(LEFT_MS / 2000, setattr, service, "at_ms", RESET_MS)
    try:
        async with asyncio.timeout(3 * LEFT_MS / 1000):
            async for chunk in response.events:
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


async def test_who_may_have_missed_something_is_told_the_balance_first() -> None:
    before, later = f"{RESET_MS + 1}-0", f"{RESET_MS + 5}-0"
    told = await _told(FakeService(RESET_MS + 9), FakeLog(later, is_complete=False), before)
    assert told == [("viewing_time_updated", before), ("blocked", later)]


async def test_who_has_just_come_has_missed_nothing() -> None:
    assert await _told(FakeService(RESET_MS + 9), FakeLog(is_complete=False), None) == []


class Stream:
    """An open stream in virtual time, with the instants of its messages."""

    def __init__(self, *, lasts_ms: float = LONG_MS) -> None:
        self.notifier = StreamNotifier(max_streams=1)
        self.access = FakeAccess(lasts_ms=lasts_ms)
        self.comments: list[float] = []
        self.ended_at: float | None = None
        service = cast("ViewingService", FakeService(RESET_MS + 9))
        self._streams = EventStreams(log=FakeLog(), notifier=self.notifier, service=service, accesses=self.access)

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        response = await self._streams.open(PLAYER, "child", None)
        async for chunk in response.events:
            if chunk == b": keep-alive\n\n":
                self.comments.append(loop.time())
        self.ended_at = loop.time()


@contextlib.asynccontextmanager
async def _running(stream: Stream) -> AsyncIterator[None]:
    task = asyncio.create_task(stream.run())
    yield
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


@pytest.mark.parametrize("wakes_every_seconds", [0.4, 4, 13, 14.99, 15, 16, 1000])
@in_virtual_time
async def test_a_comment_comes_every_15_seconds_whatever_wakes_the_stream(wakes_every_seconds: float) -> None:
    stream = Stream()
    async with _running(stream):
        for _ in range(int(120 / wakes_every_seconds)):
            await asyncio.sleep(wakes_every_seconds)
            stream.notifier.wake("child")
        await asyncio.sleep(max(0.0, 120.5 - asyncio.get_running_loop().time()))
    silences = [later - earlier for earlier, later in zip([0.0, *stream.comments], stream.comments, strict=False)]
    assert len(silences) >= 8
    assert max(silences) <= 15.001


@in_virtual_time
async def test_a_stream_ends_when_its_token_expires() -> None:
    stream = Stream(lasts_ms=100_300)
    async with _running(stream):
        await asyncio.sleep(200)
    assert stream.ended_at == pytest.approx(100.3, abs=0.01)


@pytest.mark.parametrize("holder", ["family", "phone"])
@in_virtual_time
async def test_a_stream_ends_when_its_device_or_account_is_revoked(holder: str) -> None:
    stream = Stream()
    async with _running(stream):
        await asyncio.sleep(7)
        stream.access.ends_at = 0.0
        stream.notifier.wake(holder)
        await asyncio.sleep(0.01)
        assert stream.ended_at == pytest.approx(7)
    assert not stream.notifier._waiting, "nobody is waited for any more"


@in_virtual_time
async def test_one_stream_too_many_is_refused_before_it_begins() -> None:
    stream = Stream()
    async with _running(stream):
        await asyncio.sleep(1)
        with pytest.raises(TooManyStreams):
            await stream._streams.open(PLAYER, "child", None)
