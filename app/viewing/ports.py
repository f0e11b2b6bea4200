"""Ports of the heartbeat flow."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Protocol

from app.auth.tokens import Access, Principal
from app.domain.adults import AdultBeat, AdultSession
from app.domain.counters import Beat, Counters, Outcome, Share
from app.domain.events import RecentEvents
from app.domain.offline import OfflineBatch, Settlement, Synced, TimeRange
from app.domain.past_terms import PastTerms
from app.domain.policy import Policy
from app.domain.tampering import PositionWatch, TamperHint
from app.errors import HourglassError


class CounterStore(Protocol):
    """Usage of children, counted atomically. Every call may raise CountersUnavailable."""

    async def record(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome]:
        """Count beats, given with their profile ids; one outcome each, in order."""
        ...

    async def seed(self, seeds: Sequence[tuple[str, Counters]]) -> None:
        """Put counters where there are none or only those of an older generation."""
        ...

    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Counters | None]]:
        """The instant (ms) and each child's counters, None when COLD."""
        ...

    async def reserve(self, profile_id: str, version: int, ranges: Sequence[tuple[int, int]]) -> bool | None:
        """Reserve time ranges if the counters still have a version. None if there are no counters."""
        ...

    async def closed_shares(self, profile_id: str, session_id: str, day_numbers: Sequence[int]) -> list[Share]:
        """A finished session's shares of some days, as far as they wait to be flushed."""
        ...

    async def outbox(self, profile_id: str) -> list[Counters]:
        """The finished sessions and days of a child that wait to be flushed. Raises CountersUnavailable."""


class AdultSessions(Protocol):
    """Running sessions of adults. Every call may raise CountersUnavailable."""

    async def keep(self, beats: Sequence[AdultBeat]) -> None:
        """Keep the sessions that beat and drop those that end."""
        ...

    async def running(self, profile_ids: Sequence[str]) -> list[list[AdultSession]]:
        """The running sessions of each adult; none for a child."""
        ...


class KeptPositions(Protocol):
    """What is remembered of children whose players send positions. Every call may raise CountersUnavailable."""

    async def read(self, profile_ids: Sequence[str]) -> list[PositionWatch | None]:
        """What is remembered of each child."""
        ...

    async def keep(self, watches: Sequence[tuple[str, PositionWatch]]) -> None:
        """Replace what is remembered of children."""
        ...


class TamperHints(Protocol):
    async def add(self, hints: Sequence[tuple[str, TamperHint]]) -> None:
        """Keep hints of children, each once. Raises DatabaseUnavailable."""
        ...


class PolicyReader(Protocol):
    """Policies from a place that several processes share."""

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        """One policy per id, None where there is none. Raises CountersUnavailable or DatabaseUnavailable."""
        ...


class PolicySource(PolicyReader, Protocol):
    """The owner of policies and of flushed counters: PostgreSQL."""

    async def load_with_counters(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Counters | None] | None]:
        """As ``load``, with the counters of each profile as last flushed, None where nothing was."""
        ...


class SharedPolicies(PolicyReader, Protocol):
    async def put(self, policies: Sequence[Policy], counters_of: Mapping[str, Counters] | None = None) -> list[Policy]:
        """Put policies that are newer than the shared copy. Answers the newer ones.

        ``counters_of`` are flushed counters by profile. They are put only if Redis has none; counters of an older
        generation stay until the next beat. Raises CountersUnavailable.
        """
        ...


class PolicyAnnouncer(Protocol):
    async def announce(self, policies: Sequence[Policy]) -> None:
        """Put new policies into the shared copy and publish them. Raises CountersUnavailable."""
        ...


class FlushedUsage(Protocol):
    """Usage as PostgreSQL knows it."""

    async def recover(self, profile_ids: Sequence[str]) -> list[Counters | None]:
        """The counters of each child as last flushed, None for a child without any. Raises DatabaseUnavailable."""
        ...

    async def shares(self, profile_id: str, session_id: str) -> list[Share]:
        """A session's shares of the days it touched, as far as they are flushed. Raises DatabaseUnavailable."""
        ...


class EventLog(Protocol):
    """Every call may raise CountersUnavailable."""

    async def latest_id(self, profile_id: str) -> str: ...

    async def after(self, profile_id: str, event_id: str) -> RecentEvents: ...


class Events(Protocol):
    async def add(self, profile_id: str, kind: str, facts: Mapping[str, object], *, at_ms: int) -> None:
        """Publish an event to the devices of a profile. Raises CountersUnavailable."""
        ...


class Randomness(Protocol):
    """Jitter and ids; ``random.Random`` in tests, the system's in service."""

    def random(self) -> float: ...

    def getrandbits(self, bits: int, /) -> int: ...


class Titles(Protocol):
    async def educational(self, title_ids: Sequence[str]) -> list[bool | None]:
        """Whether each title is educational, None when unknown. Raises DatabaseUnavailable."""
        ...


class HouseholdReader(Protocol):
    async def profiles(self, account_ids: Sequence[str]) -> list[tuple[str, ...]]:
        """The profile ids of each account. Raises DatabaseUnavailable."""
        ...


class PrincipalReader(Protocol):
    def principal_of(self, authorization: bytes) -> Principal:
        """The principal of an ``Authorization`` header. Raises Unauthenticated, or Pending before a look-up."""
        ...

    async def authenticate(self, authorization: bytes) -> Principal:
        """As ``principal_of``, with the look-up. Raises Unauthenticated, IdentityUnavailable, DatabaseUnavailable."""
        ...


class NativeBeat(Protocol):
    """A heartbeat of the native module under way. It replaces uvicorn's request cycle too."""

    keep_alive: bool
    disconnected: bool
    response_complete: bool


class ResponseWriter(Protocol):
    """Where one answer goes. The client may be gone by then."""

    def answer(self, body: bytes) -> None: ...

    def refuse(self, error: HourglassError) -> None: ...


class AccessCheck(Protocol):
    def remaining_ms(self, access: Access) -> int:
        """How long an access still lasts; 0 when it has ended."""
        ...


class OfflineStore(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def stored(self, profile_id: str, batch_id: str) -> Synced | None:
        """What a batch was answered that was synced before."""
        ...

    async def apply(
        self,
        batch: OfflineBatch,
        *,
        settle: Callable[[Sequence[TimeRange], PastTerms], Settlement],
        reserve: Callable[[Settlement], Awaitable[bool]],
    ) -> Synced | None:
        """Credit a batch once; None when ``reserve`` answered False, and nothing was credited."""
        ...


class TicketStore(Protocol):
    """Every call may raise CountersUnavailable."""

    async def add(self, digest: str, value: bytes, *, life_ms: int) -> None: ...

    async def take(self, digest: str) -> bytes | None:
        """The value of a ticket, once."""
        ...
