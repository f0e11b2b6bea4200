"""The one event stream of an open page: fragments of it, whenever they have changed.

Each message names an element and holds its new content. A page that was away gets everything once more.
"""

import asyncio
from collections.abc import AsyncIterator

import msgspec
from starlette.responses import Response

from app.domain.profile import Profile
from app.viewing.events import KEEP_ALIVE_SECONDS, EventStreamResponse
from app.web.cards import Card, Grants, cards_of, grants_of
from app.web.visit import Visit

_RETRY_MS = 2000
_LEAST_SECONDS = 0.25
_encode = msgspec.json.encode


class _Page:
    """What was last sent to a page."""

    def __init__(self, visit: Visit, children: list[Profile], *, shows_one: bool) -> None:
        self._visit = visit
        self._shows_one = shows_one
        self._here = f"/children/{children[0].id}" if shows_one else "/"
        self._children = {child.id: child for child in children}
        self._cards: dict[str, Card] = {}
        self._grants: dict[str, Grants] = {}
        self._paused: dict[str, str | None] = {}
        self._is_any_paused: bool | None = None

    async def beaten(self, profile_ids: set[str]) -> AsyncIterator[bytes]:
        """What changed with the counters of some children."""
        children = [child for child in self._children.values() if child.id in profile_ids]
        for card in await cards_of(self._visit, children):
            async for message in self._pause_of(card):
                yield message
            if self._is_changed(card):
                yield self._message(
                    f"live-{card.profile.id}", "_live.html", card=card, shows_sentence=not self._shows_one
                )
                if self._shows_one:
                    yield self._message(f"why-{card.profile.id}", "_why.html", card=card)

    async def everything(self) -> AsyncIterator[bytes]:
        """What changed with any of them."""
        async for message in self.beaten(set(self._children)):
            yield message
        has_new_requests = False
        for card in list(self._cards.values()):
            child = card.profile
            known = self._grants.get(child.id)
            found = self._grants[child.id] = await grants_of(self._visit, child, card.why.day.date)
            if known is None or found.today != known.today:
                yield self._message(f"given-{child.id}", "_given.html", card=card, grants=found)
            has_new_requests |= known is None or found.open != known.open
        if has_new_requests:
            asked = [(self._children[child_id], grants.open) for child_id, grants in self._grants.items()]
            yield self._message("requests", "_requests.html", asked=asked)

    async def _pause_of(self, card: Card) -> AsyncIterator[bytes]:
        """The pause of a child, if it began, changed or ended."""
        child_id = card.profile.id
        if child_id in self._paused and self._paused[child_id] == card.paused_until:
            return
        self._paused[child_id] = card.paused_until
        yield self._message(f"pause-{child_id}", "_pause.html", card=card)
        is_any_paused = any(self._paused.values())
        if not self._shows_one and len(self._children) > 1 and is_any_paused != self._is_any_paused:
            self._is_any_paused = is_any_paused
            yield self._message("pause-all", "_pause_all.html", is_any_paused=is_any_paused)

    @property
    def quiet_seconds(self) -> float:
        """How long nothing changes by itself: until a child may play again, or the next keep-alive."""
        changes = [card.changes_at for card in self._cards.values() if card.changes_at is not None]
        if not changes:
            return KEEP_ALIVE_SECONDS
        return min(KEEP_ALIVE_SECONDS, max(_LEAST_SECONDS, (min(changes) - self._visit.now).total_seconds()))

    def _is_changed(self, card: Card) -> bool:
        """That time passes is no news by itself: the page counts down alone."""
        known, self._cards[card.profile.id] = self._cards.get(card.profile.id), card
        if known is None:
            return True
        now = card.why
        why = msgspec.structs.replace(
            known.why, decided_at=now.decided_at, server_time=now.server_time, stop_at=now.stop_at
        )
        return card != msgspec.structs.replace(known, why=why)

    def _message(self, element: str, template: str, **values: object) -> bytes:
        html = self._visit.text(template, here=self._here, **values)
        return b"event: fragment\ndata: " + _encode({"id": element, "html": html}) + b"\n\n"


async def open_stream(visit: Visit) -> Response:
    """The stream of the page's household, or of the one child that the page is about.

    Raises:
        DatabaseUnavailable, ProfileAccessDenied
    """
    only = visit.request.query_params.get("child")
    profiles = await visit.profiles() if only is None else [await visit.profile(only)]
    children = [profile for profile in profiles if profile.is_kids]
    page = _Page(visit, children, shows_one=bool(children) and only is not None)
    return EventStreamResponse(_chunks(visit, page, [child.id for child in children]))


async def _chunks(visit: Visit, page: _Page, profile_ids: list[str]) -> AsyncIterator[bytes]:
    live = visit.services.console.live
    with live.watching(profile_ids) as watch:
        yield b"retry: %d\n\n" % _RETRY_MS
        watch.set()
        is_idle = False
        while not live.closing.is_set():
            has_news, beaten = watch.take()
            if (has_news or is_idle) and not await visit.sessions.is_open(visit.token, visit.signed_in):
                yield b"event: signed-out\ndata: {}\n\n"
                return
            async for message in page.everything() if has_news else page.beaten(beaten):
                yield message
            if is_idle:
                yield b": keep-alive\n\n"
            try:
                async with asyncio.timeout(page.quiet_seconds):
                    is_idle = not await watch.wait()
            except TimeoutError:
                is_idle = True
                watch.beat_all(profile_ids)
