"""Ports of the comparison."""

from collections.abc import AsyncIterator, Collection, Sequence
from typing import Protocol

from app.domain.counters import Counters
from app.domain.day_usage import BufferedUsage, DayUsage


class BufferedUsageSource(Protocol):
    """Usage in Redis. Every call may raise CountersUnavailable."""

    def profiles(self) -> AsyncIterator[list[str]]:
        """Yield all profiles with counters or finished sessions, in batches. A profile may appear more than once."""
        ...

    async def buffered(self, profile_ids: Collection[str]) -> list[BufferedUsage]:
        """Running days, and finished days in the outbox."""
        ...


class SampledCounters(Protocol):
    """Counters of some children. Every call may raise CountersUnavailable."""

    async def active(self, bucket: int, *, most: int) -> list[str]:
        """Children of a bucket that watch."""
        ...

    async def sample(self, bucket: int, profile_ids: Sequence[str]) -> tuple[int, list[Counters | None]]:
        """The instant (ms) by the clock of Redis, and the counters of children of a bucket as they are stored."""
        ...


class StoredUsageSource(Protocol):
    """Usage in PostgreSQL. Every call may raise DatabaseUnavailable."""

    async def kept(self, profile_ids: Collection[str], *, since_day: int) -> list[DayUsage]:
        """The days of these profiles from a day number on."""
        ...

    async def parked(self) -> list[DayUsage]:
        """The dead letters."""
        ...
