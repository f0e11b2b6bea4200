"""The two places that are compared."""

from collections.abc import AsyncIterator, Collection
from typing import Protocol

from app.domain.tally import Held, Tally


class HeldUsage(Protocol):
    """Usage in Redis. Every call may raise CountersUnavailable."""

    def profiles(self) -> AsyncIterator[list[str]]:
        """All profiles with counters or finished sessions, a batch at a time; each at least once."""
        ...

    async def held(self, profile_ids: Collection[str]) -> list[Held]:
        """Running days, and finished ones that wait to be flushed."""
        ...


class KeptUsage(Protocol):
    """Usage in PostgreSQL. Every call may raise DatabaseUnavailable."""

    async def kept(self, profile_ids: Collection[str], *, since_day: int) -> list[Tally]:
        """The days of these profiles from a day number on."""
        ...

    async def parked(self) -> list[Tally]:
        """What PostgreSQL refused and somebody has to look at."""
        ...
