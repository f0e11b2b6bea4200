"""What the flush reads and where it writes."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.domain.checkpoint import NO_CHECKPOINTS, Checkpoint
from app.domain.counters import Counters
from app.domain.unflushed import Backlog, Unflushed


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


class UsageStore(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def upsert(
        self, entries: Sequence[tuple[str, Counters]], marks: Mapping[int, Checkpoint] = NO_CHECKPOINTS
    ) -> None:
        """Write newer counters and the checkpoints of their buckets, in one transaction.

        Raises RowRefused for a row that can never be written, RowsLocked if another transaction holds a row.
        """
        ...

    async def dead_letter(self, entry: Unflushed, error: str, *, at_ms: int) -> None:
        """Set an unacceptable entry aside, visibly."""
        ...

    async def note_flush(self, buckets: Sequence[int], *, at_ms: int) -> None:
        """Note that what was due at an instant is written."""
        ...


class RollbackGuard(Protocol):
    """Every call may raise CountersUnavailable."""

    async def check(self) -> None:
        """Notice where Redis has come back with an older state. Raises DatabaseUnavailable, too."""
        ...

    async def advance(self, buckets: Sequence[int]) -> Mapping[int, Checkpoint]:
        """Raise the watermarks of buckets in Redis, to be noted with what was peeked before."""
        ...


class LeaderLock(Protocol):
    async def is_ours(self) -> bool:
        """Whether this process may flush; takes the lock when it is free."""
        ...
