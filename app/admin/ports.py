"""What admins' calls need from the outside."""

from typing import Protocol

from app.auth.tokens import Principal
from app.domain.support import BucketState, DeadLetter, ProfileKind
from app.domain.unflushed import Backlog
from app.viewing.schemas import BalanceAnswer, WhyAnswer


class AdminRecords(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def note_reading(
        self, *, admin: str, what: str, account_id: str | None, profile_id: str | None = None, at_ms: int
    ) -> None:
        """Enter a reading into the audit log, before anything is answered.

        Raises:
            NotFound: there is no such account.
            ProfileAccessDenied: the account has no such profile.
        """
        ...

    async def profiles(self, account_id: str) -> list[ProfileKind]:
        """The profiles of an account, oldest first."""
        ...

    async def dead_letters(self, account_id: str, *, before: int | None, limit: int) -> list[DeadLetter]:
        """The newest of an account, those before one if it is named."""
        ...

    async def count_dead_letters(self) -> int: ...

    async def bucket_states(self) -> list[BucketState]:
        """Buckets that were ever flushed, the one flushed longest ago first."""
        ...


class Decisions(Protocol):
    """Every call may raise ProfileAccessDenied, CountersUnavailable and DatabaseUnavailable."""

    async def balance(self, principal: Principal, profile_id: str) -> BalanceAnswer: ...

    async def why(self, principal: Principal, profile_id: str) -> WhyAnswer:
        """Raises NoConfig."""
        ...


class FlushBacklog(Protocol):
    async def backlog(self) -> Backlog:
        """How much waits to be flushed. Raises CountersUnavailable."""
        ...
