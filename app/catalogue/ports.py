"""What the catalogue needs from the outside."""

from collections.abc import Sequence
from typing import Protocol

from app.domain.title import Title, UploadCounts


class Titles(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def upsert(self, titles: Sequence[Title], *, at_ms: int) -> UploadCounts:
        """Keep titles, whose ids differ; those that say nothing new are left alone."""
        ...

    async def page(self, *, after_id: str, limit: int) -> list[Title]:
        """Up to ``limit`` titles whose ids follow ``after_id``, ascending."""
        ...


class TitleAnnouncer(Protocol):
    async def announce_titles(self) -> None:
        """Tell every process to look titles up again. Raises CountersUnavailable."""
        ...
