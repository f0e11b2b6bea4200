"""The platform's titles, as its catalogue service tells them."""

from collections.abc import Sequence

import structlog

from app.catalogue.ports import TitleAnnouncer, Titles
from app.clock import Clock
from app.domain.title import Title, UploadCounts
from app.errors import CountersUnavailable

log = structlog.get_logger(__name__)


class Catalogue:
    def __init__(self, titles: Titles, *, announcer: TitleAnnouncer, clock: Clock) -> None:
        self._titles = titles
        self._announcer = announcer
        self._clock = clock

    async def upload(self, titles: Sequence[Title]) -> UploadCounts:
        """Keep titles whose ids differ, and tell every process if anything is new."""
        counts = await self._titles.upsert(titles, at_ms=self._clock())
        if counts.created or counts.updated:
            try:
                await self._announcer.announce_titles()
            except CountersUnavailable as error:
                log.warning("titles_not_announced", reason=error.code)
        return counts

    async def page(self, *, after_id: str, limit: int) -> tuple[list[Title], str | None]:
        """Titles by id, and the id to go on after; None when these are the last."""
        titles = await self._titles.page(after_id=after_id, limit=limit + 1)
        return titles[:limit], (titles[limit - 1].id if len(titles) > limit else None)
