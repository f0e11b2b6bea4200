"""A table as a backup holds it."""

import msgspec


class SavedTable(msgspec.Struct, frozen=True, kw_only=True):
    """One table. ``partitions`` are pairs of a name and its bounds, as PostgreSQL words them."""

    name: str
    columns: list[str]
    rows: int
    partitions: list[tuple[str, str]]
