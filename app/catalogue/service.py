"""Store and list the titles of the platform's catalogue service."""

from collections.abc import Sequence

import structlog

from app.catalogue.ports import TitleAnnouncer, Titles
from app.clock import Clock
from app.domain.pages import cut_page
from app.domain.title import Title, UploadCounts
from app.errors import CountersUnavailable, NotFound

log = structlog.get_logger(__name__)


class Catalogue:
    def __init__(self, titles: Titles, *, announcer: TitleAnnouncer, clock: Clock) -> None:
        self._titles = titles
        self._announcer = announcer
        self._clock = clock

    async def upload(self, titles: Sequence[Title]) -> UploadCounts:
        """Store titles with distinct ids, and announce the upload if it changed a title."""
        counts = await self._titles.upsert(titles, at_ms=self._clock())
        if counts.created or counts.updated:
            await self._announce()
        return counts

    async def remove(self, title_id: str) -> None:
        """Take a title out of the catalogue. Repeating it does no harm. Raises NotFound: it never was in it."""
        if not await self._titles.remove(title_id, at_ms=self._clock()):
            raise NotFound
        await self._announce()

    async def page(self, *, after_id: str, limit: int) -> tuple[list[Title], str | None]:
        """A page of titles, and the id after which the next page begins; None on the last page."""
        return cut_page(await self._titles.page(after_id=after_id, limit=limit + 1), limit, lambda title: title.id)

    async def _announce(self) -> None:
        try:
            await self._announcer.announce_titles()
        except CountersUnavailable as error:
            log.warning("titles_not_announced", reason=error.code)
