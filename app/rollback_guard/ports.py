"""Where both sides keep their marks. Lists are by bucket."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from app.domain.checkpoint import Checkpoint

Settling = Callable[[Sequence[Checkpoint]], Awaitable[Sequence[Checkpoint]]]
"""From what is noted to what shall be noted."""


class CounterCheckpoints(Protocol):
    """The marks beside the counters. Every call may raise CountersUnavailable."""

    @property
    def buckets(self) -> int: ...

    async def read(self) -> list[Checkpoint]: ...

    async def write(self, marks: Mapping[int, Checkpoint]) -> None: ...

    async def advance(self, known: Mapping[int, Checkpoint]) -> Mapping[int, Checkpoint] | None:
        """Raise the watermarks of some buckets; None when a mark is not (or no longer) the one that is known."""
        ...


class DatabaseCheckpoints(Protocol):
    """The marks beside the flushed rows. Every call may raise DatabaseUnavailable."""

    async def read(self, buckets: int) -> list[Checkpoint]: ...

    async def settle(self, buckets: int, settling: Settling) -> list[Checkpoint]:
        """Decide on all checkpoints under a lock, and store the decision for buckets with flushed rows."""
        ...
