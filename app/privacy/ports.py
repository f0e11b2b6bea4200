"""What export, erasure and retention need from the outside."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Protocol

from app.domain.accounting import Live
from app.domain.erasure import Erased, ErasureReceipt

Row = Mapping[str, object]


class ErasureLedger(Protocol):
    """Every call may raise DatabaseUnavailable; then nothing was erased."""

    async def profile(self, account_id: str, profile_id: str, *, actor: str, at_ms: int) -> ErasureReceipt:
        """Remove every row of a profile and leave a tombstone. Raises ProfileAccessDenied."""

    async def account(self, account_id: str, *, at_ms: int) -> tuple[ErasureReceipt, Erased]:
        """The same for an account and all its profiles; answers whom that concerned. Raises Unauthenticated."""

    async def erased_since(self, at_ms: int) -> Erased:
        """Who was erased at or after an instant."""


class Traces(Protocol):
    """What lies outside the database. Every call may raise CountersUnavailable."""

    async def announce(self, erased: Erased, *, household: str) -> None:
        """Tell every process who of a household is no more."""

    async def remove(self, erased: Erased) -> None:
        """Remove all that is kept of them. Repeating it does no harm."""


class Counters(Protocol):
    async def counters(self, profile_id: str) -> list[Live]:
        """The running counters of a profile and those that wait to be flushed. Raises CountersUnavailable."""


class Passwords(Protocol):
    async def check_password(self, account_id: str, password: str) -> None:
        """Raises WrongPassword, Locked, TooManyRequests."""


class EndedHolders(Protocol):
    def add(self, holder_id: str) -> None:
        """The tokens of this account count no longer in this process."""


class ExportSource(Protocol):
    """Every call may raise DatabaseUnavailable."""

    async def profile(self, account_id: str, profile_id: str) -> Row:
        """The profile itself. Raises ProfileAccessDenied."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of rows that a profile may have."""

    def pages(self, kind: str, account_id: str, profile_id: str) -> AsyncIterator[Sequence[Row]]:
        """All rows of a kind, so many at a time."""


class AgedRows(Protocol):
    """Rows by their age. Every call may raise DatabaseUnavailable."""

    async def delete(self, kind: str, *, before_ms: int, most: int) -> int:
        """Delete rows of a kind that are older than an instant; how many that were."""

    async def drop_partitions(self, kind: str, *, before: date) -> list[str]:
        """Drop the partitions of usage in which all is older than a day; answers the names of what is gone."""

    async def oldest(self) -> Mapping[str, int | None]:
        """The instant (ms) of the oldest row of each kind, None where there is none."""
