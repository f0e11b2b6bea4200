"""What a backup is made of and restored into."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from app.domain.counters import Counters
from app.domain.saved_table import SavedTable
from app.domain.unflushed import Unflushed


class Snapshot(Protocol):
    """The database as it was at one instant."""

    revision: str

    async def save(self, table: str, into: Path) -> SavedTable:
        """Write the rows of a table into a file."""
        ...


class Database(Protocol):
    """Every call may raise DatabaseUnavailable."""

    def snapshot(self) -> AbstractAsyncContextManager[Snapshot]: ...

    async def tables(self) -> list[str]:
        """All tables with rows of ours, those that others refer to first."""
        ...

    async def rows(self) -> int:
        """How many rows there are in all tables; 0 also where there is no schema."""
        ...

    async def load(self, tables: Sequence[tuple[SavedTable, Path]]) -> None:
        """Put saved rows into empty tables, all or nothing."""
        ...


class UnflushedSource(Protocol):
    """Every call may raise CountersUnavailable."""

    def everything(self) -> AsyncIterator[list[Unflushed]]:
        """All that PostgreSQL may not have, in parts; removes nothing."""
        ...

    async def is_empty(self) -> bool:
        """Whether the server has no key of ours."""
        ...


class UsageStore(Protocol):
    """Where counters are written; as for the flush."""

    async def upsert(self, entries: Sequence[tuple[str, Counters]]) -> None: ...

    async def dead_letter(self, entry: Unflushed, error: str, *, at_ms: int) -> None: ...
