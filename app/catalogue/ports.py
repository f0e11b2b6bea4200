"""Ports of the catalogue."""

from collections.abc import Sequence
from typing import Protocol

from app.domain.title import Title, UploadCounts


class Titles(Protocol):
    """Stores titles. Every call may raise DatabaseUnavailable."""

    async def upsert(self, titles: Sequence[Title], *, at_ms: int) -> UploadCounts:
        """Store titles with distinct ids; unchanged titles are not written."""
        ...

    async def remove(self, title_id: str, *, at_ms: int) -> bool:
        """Take a title out of the catalogue; whether it ever was in it. History goes on to show its name."""
        ...

    async def page(self, *, after_id: str, limit: int) -> list[Title]:
        """At most ``limit`` titles with ids after ``after_id``, ascending."""
        ...


class TitleAnnouncer(Protocol):
    async def announce_titles(self) -> None:
        """Tell every process to load titles again. Raises CountersUnavailable."""
        ...
