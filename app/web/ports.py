"""What the console needs from the outside."""

from collections.abc import Sequence
from typing import Protocol

from app.domain.counters import Counters


class SessionStore(Protocol):
    """Web sessions by the digests of their tokens. Every call may raise CountersUnavailable."""

    async def read(self, digest: str, *, life_seconds: int) -> bytes | None:
        """A session, whose life begins anew; None when it has ended."""
        ...

    async def exists(self, digest: str) -> bool:
        """Whether a session has not ended. Its life goes on as it was."""
        ...

    async def add(self, account_id: str, digest: str, session: bytes, *, at_ms: int, life_seconds: int) -> None:
        """Keep a new session of an account."""
        ...

    async def replace(self, digest: str, session: bytes, *, life_seconds: int) -> None:
        """Keep what a session has become, unless it has ended."""
        ...

    async def end(self, account_id: str, digest: str) -> None: ...

    async def end_all(self, account_id: str) -> None: ...

    async def claim(self, digest: str, key: str, *, life_seconds: int) -> str | None:
        """Claim a form's key for a session. None: it is ours now; else the stored outcome, empty while unknown."""
        ...

    async def store_outcome(self, digest: str, key: str, outcome: str, *, life_seconds: int) -> None:
        """Store the outcome of a claimed key."""
        ...

    async def release(self, digest: str, key: str) -> None:
        """Give a claim back: nothing was done."""
        ...


class Notifier(Protocol):
    async def wake(self, profile_ids: Sequence[str]) -> None:
        """Make the open streams of profiles look again, on every process. Raises CountersUnavailable."""
        ...


class CounterReader(Protocol):
    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Counters | None]]:
        """The instant (ms) and each child's counters, None when there are none. Raises CountersUnavailable."""
        ...


class ProfilesOf(Protocol):
    async def get(self, account_id: str) -> tuple[str, ...]:
        """The ids of an account's profiles. Raises DatabaseUnavailable."""
        ...
