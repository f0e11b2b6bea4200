"""A player's event stream (server-sent events): changes by other processes, as they happen.

Redis holds the recent events, bounded in bytes. A message on the invalidation channel only wakes the streams of a
profile, and each stream reads on from its last event. So a lost message delays an event until the next keep-alive. A
slow consumer is disconnected instead of buffered, and a reconnecting one resumes by ``Last-Event-ID``. If events in
between may be gone, the stream sends the balance first. A reset is not an event in Redis: each stream adds it, even if
the reset was missed. Its id is the instant at which the day began.
The balance is sent as well when a window opens or closes, and when a pause by a parent or a break ends.

A stream ends with the token that opened it: at the instant it expires, and at once when its device or sign-in has
ended or its account was erased.
"""

import asyncio
import contextlib
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, MutableMapping
from typing import Any

import msgspec
from starlette.responses import StreamingResponse

from app.auth.tokens import Access, Principal
from app.domain.viewing_day import ViewingDay
from app.errors import HourglassError, TooManyStreams
from app.observability import metrics
from app.viewing.ports import AccessCheck, EventLog
from app.viewing.service import ViewingService

KEEP_ALIVE_SECONDS = 15.0
SEND_SECONDS = 10.0
UPDATED, DAY_RESET = "viewing_time_updated", "day_reset"

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]


class StreamNotifier:
    """Wakes the event streams of this process that wait for a profile, account, device or sign-in."""

    def __init__(self, *, max_streams: int) -> None:
        self._max_streams = max_streams
        self._waiting: defaultdict[str, set[asyncio.Event]] = defaultdict(set)
        self._count = 0
        self.closing = asyncio.Event()

    def require_room(self) -> None:
        """Raises TooManyStreams."""
        if self._count >= self._max_streams:
            raise TooManyStreams

    @contextlib.contextmanager
    def waiting_for(self, *ids: str, signal: asyncio.Event | None = None) -> Iterator[asyncio.Event]:
        """A signal that is set when something may have happened to any of these. One may be given.

        Raises:
            TooManyStreams: as many wait already as may.
        """
        self.require_room()
        signal = signal or asyncio.Event()
        for waited_for in ids:
            self._waiting[waited_for].add(signal)
        self._count += 1
        metrics.EVENT_STREAMS.inc()
        try:
            yield signal
        finally:
            self._count -= 1
            metrics.EVENT_STREAMS.dec()
            for waited_for in ids:
                self._waiting[waited_for].discard(signal)
                if not self._waiting[waited_for]:
                    del self._waiting[waited_for]

    def wake(self, happened_to: str) -> None:
        """Set the signals that wait for a profile, an account, a device or a sign-in."""
        for signal in self._waiting.get(happened_to, ()):
            signal.set()

    def notify_all(self) -> None:
        """Messages may have been missed, or the process is about to end."""
        for happened_to in self._waiting:
            self.wake(happened_to)

    def close(self) -> None:
        self.closing.set()
        self.notify_all()


class EventStreams:
    """Opens event streams, each for as long as the access lasts that it was opened with."""

    def __init__(
        self, *, log: EventLog, notifier: StreamNotifier, service: ViewingService, accesses: AccessCheck
    ) -> None:
        self._log = log
        self._notifier = notifier
        self._service = service
        self._accesses = accesses

    async def open(self, access: Access, profile_id: str, last_event_id: str | None) -> "EventStreamResponse":
        """A stream from now on, or from after an event that was received.

        Raises:
            ProfileAccessDenied: not a profile of this account.
            CountersUnavailable: events cannot be read.
            TooManyStreams: this process has as many as it may.
        """
        self._notifier.require_room()
        balance = await self._service.balance(access.principal, profile_id)
        cursor = last_event_id or await self._log.latest_id(profile_id)
        has_day, is_resumed = balance.day is not None, last_event_id is not None
        return EventStreamResponse(self._chunks(access, profile_id, cursor, has_day=has_day, is_resumed=is_resumed))

    async def _chunks(
        self, access: Access, profile_id: str, cursor: str, *, has_day: bool, is_resumed: bool
    ) -> AsyncIterator[bytes]:
        principal = access.principal
        held_by = (principal.account_id, principal.device_id, principal.sign_in_id)
        holders = [holder for holder in held_by if holder is not None]
        with self._notifier.waiting_for(profile_id, *holders) as signal:
            yield b": connected\n\n"
            loop = asyncio.get_running_loop()
            keep_alive_at = loop.time() + KEEP_ALIVE_SECONDS
            day, day_ends_at = await self._running_day(principal, profile_id) if has_day else (None, math.inf)
            changes_at, is_moving = await self._changes_at(principal, profile_id, day, day_ends_at)
            is_reset_news = day is not None and is_resumed and _precedes(cursor, day)
            may_have_missed = is_resumed
            while (left_ms := self._accesses.remaining_ms(access)) and not self._notifier.closing.is_set():
                ends_at = loop.time() + left_ms / 1000
                if signal.is_set():
                    signal.clear()
                    await self._service.owned(principal, profile_id)  # an erased profile's stream ends here
                    changes_at, is_moving = await self._changes_at(principal, profile_id, day, day_ends_at)
                if loop.time() >= keep_alive_at:
                    yield b": keep-alive\n\n"
                    keep_alive_at = loop.time() + KEEP_ALIVE_SECONDS
                    if is_moving:
                        changes_at, is_moving = await self._changes_at(principal, profile_id, day, day_ends_at)
                if loop.time() >= day_ends_at:
                    ended = day
                    day, day_ends_at = await self._running_day(principal, profile_id)
                    is_reset_news = day != ended
                    changes_at, is_moving = await self._changes_at(principal, profile_id, day, day_ends_at)
                if loop.time() >= changes_at:
                    changes_at, is_moving = await self._changes_at(principal, profile_id, day, day_ends_at)
                    yield await self._event(principal, profile_id, cursor, UPDATED, b"{}")
                recent = await self._log.after(profile_id, cursor)
                if not recent.is_complete and (may_have_missed or recent.events):
                    yield await self._event(principal, profile_id, cursor, UPDATED, b"{}")
                may_have_missed = False
                for event in recent.events:
                    cursor = event.id
                    yield await self._event(principal, profile_id, event.id, event.kind, event.facts)
                if day is not None and is_reset_news:
                    is_reset_news = False
                    if _precedes(cursor, day):
                        cursor = f"{day.starts_ms}-0"
                    yield await self._event(principal, profile_id, cursor, DAY_RESET, b"{}")
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout_at(min(keep_alive_at, day_ends_at, changes_at, ends_at)):
                        await signal.wait()

    async def _running_day(self, principal: Principal, profile_id: str) -> tuple[ViewingDay, float]:
        """The running day, and when it ends by the event loop's clock: in a moment at the earliest."""
        day, left_ms = await self._service.running_day(principal, profile_id)
        return day, asyncio.get_running_loop().time() + max(0.05, left_ms / 1000)

    async def _changes_at(
        self, principal: Principal, profile_id: str, day: ViewingDay | None, day_ends_at: float
    ) -> tuple[float, bool]:
        """When playback opens or closes next, by the event loop's clock. The clock of the counters decides.

        Also whether that moves with each beat.
        """
        if day is None:
            return math.inf, False
        now = asyncio.get_running_loop().time()
        at_ms = day.ends_ms - round((day_ends_at - now) * 1000)
        changes_ms, is_moving = await self._service.changes_ms(principal, profile_id, at_ms)
        return math.inf if changes_ms is None else now + max(0.001, (changes_ms - at_ms) / 1000), is_moving

    async def _event(self, principal: Principal, profile_id: str, event_id: str, kind: str, facts: bytes) -> bytes:
        """An event as text. What changes the balance carries the new one, by the same decision as a heartbeat."""
        if kind in {UPDATED, DAY_RESET}:
            facts = msgspec.json.encode(await self._service.balance(principal, profile_id))
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), kind.encode(), facts)


def _precedes(event_id: str, day: ViewingDay) -> bool:
    """Whether an event was before a day began: ids begin with the instant in ms, by the clock of the counters."""
    return int(event_id.partition("-")[0]) < day.starts_ms


class EventStreamResponse(StreamingResponse):
    """Sends events until they end, the client leaves, or it is too slow to take them."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncIterator[bytes]) -> None:
        super().__init__(events, headers={"cache-control": "no-store", "x-accel-buffering": "no"})
        self.events = events

    async def stream_response(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        # Too slow, or nothing can be read: the player comes back with the id of the last event it got.
        with contextlib.suppress(TimeoutError, HourglassError):
            async for event in self.events:
                async with asyncio.timeout(SEND_SECONDS):
                    await send({"type": "http.response.body", "body": event, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})
