"""Pages of a list, and where a page of grants or requests ended: the instant and the id of its last entry."""

from collections.abc import Callable
from typing import NamedTuple, TypeVar

CURSOR = r"^[0-9]{1,13}\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


Entry = TypeVar("Entry")


def cut_page(found: list[Entry], limit: int, cursor_of: Callable[[Entry], str]) -> tuple[list[Entry], str | None]:
    """The first entries of those found, and the cursor of the next page; None on the last one.

    Args:
        found: at most one entry more than a page has: that one shows that there is a next page.
        limit: how many a page has.
        cursor_of: the cursor of the page after an entry.
    """
    entries = found[:limit]
    return entries, cursor_of(entries[-1]) if len(found) > limit else None


class PageEnd(NamedTuple):
    """The last entry that was shown; entries are sorted by instant, the newest first, then by id."""

    at_ms: int
    entry_id: str

    @property
    def cursor(self) -> str:
        return f"{self.at_ms}.{self.entry_id}"


def page_end(cursor: str | None) -> PageEnd | None:
    """The entry that a cursor names, which matches ``CURSOR``."""
    if cursor is None:
        return None
    at_ms, _, entry_id = cursor.partition(".")
    return PageEnd(int(at_ms), entry_id)
