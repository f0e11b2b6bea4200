"""Where a page of grants or requests ended: the instant and the id of its last entry."""

from typing import NamedTuple

CURSOR = r"^[0-9]{1,13}\.[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"


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
