"""A player's event stream (server-sent events): what other processes did, the moment they did it.

The events lie in Redis, bounded in number; a message on the invalidation channel only wakes the streams of a profile,
and each reads on from the last event it sent. So a lost message delays an event until the next keep-alive, a consumer
that is slow is cut instead of buffered for, and a reconnecting one resumes by ``Last-Event-ID``. A reset is nobody's
act and not in Redis: each stream tells of it, also when it was missed. Its id is the instant at which the day began.
"""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any, Protocol

import msgspec
from starlette.responses import Response

from app.auth.tokens import Principal
from app.domain.viewing_day import ViewingDay
from app.errors import HourglassError, TooManyStreams
from app.viewing.service import ViewingService

KEEP_ALIVE_SECONDS = 15.0
SEND_SECONDS = 10.0
UPDATED, DAY_RESET = "viewing_time_updated", "day_reset"

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class EventLog(Protocol):
    """Every call may raise CountersUnavailable."""

    async def latest_id(self, profile_id: str) -> str: ...

    async def after(self, profile_id: str, event_id: str) -> list[tuple[str, str, bytes]]:
        """Events that follow an id: id, kind, facts as JSON."""
        ...


class Wakes:
    """Who waits for which profile, in this process."""

    def __init__(self, *, most: int) -> None:
        self._most = most
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._count = 0
        self.closing = asyncio.Event()

    @contextlib.contextmanager
    def waiting_for(self, profile_id: str) -> Iterator[asyncio.Event]:
        """A bell that rings when something may have happened. Raises TooManyStreams."""
        if self._count >= self._most:
            raise TooManyStreams
        bell = asyncio.Event()
        self._waiting[profile_id].add(bell)
        self._count += 1
        try:
            yield bell
        finally:
            self._count -= 1
            self._waiting[profile_id].discard(bell)
            if not self._waiting[profile_id]:
                del self._waiting[profile_id]

    def wake(self, profile_id: str) -> None:
        for bell in self._waiting.get(profile_id, ()):
            bell.set()

    def wake_all(self) -> None:
        """Messages may have been missed, or the process is about to end."""
        for profile_id in self._waiting:
            self.wake(profile_id)

    def close(self) -> None:
        self.closing.set()
        self.wake_all()


class EventStreams:
    """Opens event streams."""

    def __init__(self, *, log: EventLog, wakes: Wakes, service: ViewingService) -> None:
        self._log = log
        self._wakes = wakes
        self._service = service

    async def open(self, principal: Principal, profile_id: str, last_event_id: str | None) -> "EventStreamResponse":
        """A stream from now on, or from after an event that was received.

        Raises:
            ProfileAccessDenied: not a profile of this account.
            CountersUnavailable: events cannot be read.
        """
        balance = await self._service.balance(principal, profile_id)
        cursor = last_event_id or await self._log.latest_id(profile_id)
        has_day, is_resumed = balance.day is not None, last_event_id is not None
        return EventStreamResponse(self._chunks(principal, profile_id, cursor, has_day=has_day, is_resumed=is_resumed))

    async def _chunks(
        self, principal: Principal, profile_id: str, cursor: str, *, has_day: bool, is_resumed: bool
    ) -> AsyncIterator[bytes]:
        with self._wakes.waiting_for(profile_id) as bell:
            yield b": connected\n\n"
            loop = asyncio.get_running_loop()
            day, day_ends_at = await self._running_day(principal, profile_id) if has_day else (None, math.inf)
            is_reset_news = day is not None and is_resumed and _precedes(cursor, day)
            while not self._wakes.closing.is_set():
                bell.clear()
                for event_id, kind, facts in await self._log.after(profile_id, cursor):
                    cursor = event_id
                    yield await self._event(principal, profile_id, event_id, kind, facts)
                if day is not None and is_reset_news:
                    is_reset_news = False
                    if _precedes(cursor, day):
                        cursor = f"{day.starts_ms}-0"
                    yield await self._event(principal, profile_id, cursor, DAY_RESET, b"{}")
                wait_s = min(KEEP_ALIVE_SECONDS, max(0.0, day_ends_at - loop.time()))
                try:
                    async with asyncio.timeout(wait_s):
                        await bell.wait()
                    await self._service.owned(principal, profile_id)  # an erased profile's stream ends here
                except TimeoutError:
                    if loop.time() >= day_ends_at:
                        ended = day
                        day, day_ends_at = await self._running_day(principal, profile_id)
                        is_reset_news = day != ended
                    else:
                        yield b": keep-alive\n\n"

    async def _running_day(self, principal: Principal, profile_id: str) -> tuple[ViewingDay, float]:
        """The running day, and when it ends by the event loop's clock: in a moment at the earliest."""
        day, left_ms = await self._service.running_day(principal, profile_id)
        return day, asyncio.get_running_loop().time() + max(0.05, left_ms / 1000)

    async def _event(self, principal: Principal, profile_id: str, event_id: str, kind: str, facts: bytes) -> bytes:
        """An event as text. What changes the balance carries the new one, by the same decision as a heartbeat."""
        if kind in {UPDATED, DAY_RESET}:
            facts = msgspec.json.encode(await self._service.balance(principal, profile_id))
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), kind.encode(), facts)


def _precedes(event_id: str, day: ViewingDay) -> bool:
    """Whether an event was before a day began: ids begin with the instant in ms, by the clock of the counters."""
    return int(event_id.partition("-")[0]) < day.starts_ms


class EventStreamResponse(Response):
    """Sends chunks until they end, the client leaves, or it is too slow to take them."""

    media_type = "text/event-stream"

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        super().__init__(headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        del self.headers["content-length"]
        self._chunks = chunks

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:  # noqa: ARG002
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        sending = asyncio.create_task(self._send_all(send))
        leaving = asyncio.create_task(_until_gone(receive))
        try:
            await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (sending, leaving):
                task.cancel()
            await asyncio.gather(sending, leaving, return_exceptions=True)

    async def _send_all(self, send: Send) -> None:
        try:
            async for chunk in self._chunks:
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": chunk, "more_body": True})
        except (TimeoutError, HourglassError):
            # Too slow, or nothing can be read: the player comes back with the id of the last event it got.
            pass
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
