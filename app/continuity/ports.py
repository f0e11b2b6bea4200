"""Where both sides keep their marks. Lists are by bucket."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from app.domain.watermark import Mark

Settling = Callable[[Sequence[Mark]], Awaitable[Sequence[Mark]]]
"""From what is noted to what shall be noted."""


class Marks(Protocol):
    """The marks beside the counters. Every call may raise CountersUnavailable."""

    @property
    def buckets(self) -> int: ...

    async def read(self) -> list[Mark]: ...

    async def write(self, marks: Mapping[int, Mark]) -> None: ...

    async def advance(self, known: Mapping[int, Mark]) -> Mapping[int, Mark] | None:
        """Raise the watermarks of some buckets; None when a mark is not (or no longer) the one that is known."""
        ...


class NotedMarks(Protocol):
    """The marks beside the flushed rows. Every call may raise DatabaseUnavailable."""

    async def read(self, buckets: int) -> list[Mark]: ...

    async def settle(self, buckets: int, settling: Settling) -> list[Mark]:
        """Decide on all marks while nobody else does, and note the decision where rows were ever flushed."""
        ...
