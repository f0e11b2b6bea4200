"""What the flush reads and where it writes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.domain.accounting import Live
from app.domain.unflushed import Backlog, Unflushed
from app.domain.watermark import NO_MARKS, Mark


class UnflushedCounters(Protocol):
    """Every call may raise CountersUnavailable."""

    @property
    def buckets(self) -> int:
        """Buckets are numbered from 0."""
        ...

    def server_of(self, bucket: int) -> str:
        """Which server has a bucket, as far as is known: buckets of one server are away together."""
        ...

    async def peek(self, buckets: Sequence[int], *, older_than_ms: int, limit: int) -> dict[int, list[Unflushed]]:
        """By bucket, finished sessions and days, then the children dirty longest (at least so long); removes nothing.

        At most ``limit`` of each bucket; where fewer are found, that is all.
        """
        ...

    async def forget(self, bucket: int, entries: Sequence[Unflushed]) -> None:
        """Remove what has not changed since it was peeked; the rest stays dirty."""
        ...

    async def backlog(self) -> Backlog: ...


class Ledger(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def upsert(self, entries: Sequence[tuple[str, Live]], marks: Mapping[int, Mark] = NO_MARKS) -> None:
        """Write counters where they are newer and note the marks of their buckets, all or nothing.

        Raises RowRefused for what can never be written, RowsLocked when somebody else holds one of the rows.
        """
        ...

    async def park(self, entry: Unflushed, error: str, *, at_ms: int) -> None:
        """Set an unacceptable entry aside, visibly."""
        ...

    async def note_flush(self, buckets: Sequence[int], *, at_ms: int) -> None:
        """Note that what was due at an instant is written."""
        ...


class Continuity(Protocol):
    """Every call may raise CountersUnavailable."""

    async def check(self) -> None:
        """Notice where Redis has come back with an older state. Raises DatabaseUnavailable, too."""
        ...

    async def advance(self, buckets: Sequence[int]) -> Mapping[int, Mark]:
        """Raise the watermarks of buckets in Redis, to be noted with what was peeked before."""
        ...


class SoleFlusher(Protocol):
    async def is_ours(self) -> bool:
        """Whether this process may flush; takes the lock when it is free."""
        ...
