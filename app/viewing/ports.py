"""What the heartbeat needs from the outside."""

from collections.abc import Mapping, Sequence
from typing import Protocol

from app.domain.accounting import Beat, Live, Outcome, Share
from app.domain.adults import AdultBeat, AdultSession
from app.domain.policy import Policy


class Counters(Protocol):
    """Usage of children, counted atomically. Every call may raise CountersUnavailable."""

    async def record(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome]:
        """Count beats, given with their profile ids; one outcome each, in order."""
        ...

    async def seed(self, seeds: Sequence[tuple[str, Live]]) -> None:
        """Put counters where there are none or only those of an older generation."""
        ...

    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Live | None]]:
        """The instant (ms) and each child's counters, None when COLD."""
        ...

    async def closed_shares(self, profile_id: str, session_id: str, day_numbers: Sequence[int]) -> list[Share]:
        """A finished session's shares of some days, as far as they wait to be flushed."""
        ...

    async def closed_stretches(self, profile_id: str) -> list[tuple[int, int]]:
        """From when to when finished sessions ran that wait to be flushed, in ms."""
        ...


class AdultSessions(Protocol):
    """Running sessions of adults. Every call may raise CountersUnavailable."""

    async def keep(self, beats: Sequence[AdultBeat]) -> None:
        """Keep the sessions that beat and drop those that end."""
        ...

    async def running(self, profile_ids: Sequence[str]) -> list[list[AdultSession]]:
        """The sessions of each adult that have not ended; none for who is no adult."""
        ...


class PolicyReader(Protocol):
    """Policies from a place that several processes share."""

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        """One policy per id, None where there is none. Raises CountersUnavailable or DatabaseUnavailable."""
        ...


class PolicySource(PolicyReader, Protocol):
    """Where policies are at home, and flushed counters with them."""

    async def meet(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Live | None] | None]:
        """As ``load``, with the counters of each profile as last flushed, None where nothing was."""
        ...


class SharedPolicies(PolicyReader, Protocol):
    async def put(self, policies: Sequence[Policy], lives: Mapping[str, Live] | None = None) -> list[Policy]:
        """Keep policies that are newer than what is there; answers those.

        ``lives`` are counters by profile as last flushed, put where there are none; those of an older generation stay
        as they are, and are asked for by the next beat. Raises CountersUnavailable.
        """
        ...


class PolicyAnnouncer(Protocol):
    async def announce(self, policies: Sequence[Policy]) -> None:
        """Put new policies where every process finds them, and tell. Raises CountersUnavailable."""
        ...


class FlushedUsage(Protocol):
    """Usage as PostgreSQL knows it."""

    async def recover(self, profile_ids: Sequence[str]) -> list[Live | None]:
        """The counters of each child as last flushed, None for a child without any. Raises DatabaseUnavailable."""
        ...

    async def shares(self, profile_id: str, session_id: str) -> list[Share]:
        """A session's shares of the days it touched, as far as they are flushed. Raises DatabaseUnavailable."""
        ...


class Events(Protocol):
    async def add(self, profile_id: str, kind: str, facts: Mapping[str, object], *, at_ms: int) -> None:
        """Tell the devices of a profile. Raises CountersUnavailable."""
        ...


class Randomness(Protocol):
    """Jitter and ids; ``random.Random`` in tests, the system's in service."""

    def random(self) -> float: ...

    def getrandbits(self, bits: int, /) -> int: ...


class Titles(Protocol):
    async def educational(self, title_ids: Sequence[str]) -> list[bool | None]:
        """Whether each title is educational, None when unknown. Raises DatabaseUnavailable."""
        ...


class Households(Protocol):
    async def profiles(self, account_ids: Sequence[str]) -> list[tuple[str, ...]]:
        """The profile ids of each account. Raises DatabaseUnavailable."""
        ...
