"""Pulling events: in order, at least once, by a cursor that the consumer keeps."""

import asyncio

from app.clock import Clock, monotonic_ms
from app.domain.feed import FeedPage
from app.errors import CursorExpired, EventFeedOff, InvalidInput
from app.feed.ports import KeptFeed

MAX_WAIT_SECONDS = 10
_LOOK_SECONDS = 0.25


class EventFeed:
    """Reads the feed.

    Args:
        feed: the kept events.
        is_on: whether events are written at all.
        monotonic: milliseconds that never fall.
    """

    def __init__(self, feed: KeptFeed, *, is_on: bool, monotonic: Clock = monotonic_ms) -> None:
        self._feed = feed
        self._is_on = is_on
        self._monotonic = monotonic

    async def page(self, after: str | None, *, limit: int, wait_seconds: float) -> tuple[FeedPage, str]:
        """The events after a cursor, by default from the oldest kept one, and the cursor that follows them.

        Args:
            after: the cursor of the page before.
            limit: most events.
            wait_seconds: time to wait for an event if there is none.

        Raises:
            EventFeedOff: no event is written in this deployment.
            InvalidInput: the cursor was not answered by this service.
            CursorExpired: events after the cursor were removed, or it is from a feed that a restore has replaced.
        """
        if not self._is_on:
            raise EventFeedOff
        position = None if after is None else _position(after)
        until_ms = self._monotonic() + wait_seconds * 1000
        while True:
            page = await self._read(position, limit=limit)
            left_seconds = (until_ms - self._monotonic()) / 1000
            if page.events or left_seconds <= 0:
                return page, _cursor(page, position)
            await asyncio.sleep(min(_LOOK_SECONDS, left_seconds))

    async def _read(self, position: int | None, *, limit: int) -> FeedPage:
        """The events after a position. Those without a position get one first, unless the page is full."""
        page = await self._feed.after(position, most=limit)
        if page.has_unnumbered and len(page.events) < limit and await self._feed.number():
            page = await self._feed.after(position, most=limit)
        if position is not None and not page.removed_until <= position <= page.last_position:
            raise CursorExpired
        return page


async def number_all(feed: KeptFeed) -> int:
    """Give positions to all events that have none, and return how many. Raises DatabaseUnavailable."""
    count = 0
    while some := await feed.number():
        count += some
    return count


def _position(cursor: str) -> int:
    if not (cursor.isascii() and cursor.isdecimal()) or int(cursor) >= 2**63:
        detail = "is not one that was answered"
        raise InvalidInput(errors=[{"parameter": "after", "in": "query", "detail": detail}])
    return int(cursor)


def _cursor(page: FeedPage, position: int | None) -> str:
    if page.events:
        return str(page.events[-1].position)
    return str(page.removed_until if position is None else position)
