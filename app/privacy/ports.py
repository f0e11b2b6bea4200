"""Ports of export, erasure and retention."""

from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import date
from typing import Protocol

from app.domain.audit import AuditEntry
from app.domain.counters import Counters
from app.domain.erasure import Erased, ErasureReceipt, FilesState, RewriteNote

Row = Mapping[str, object]


class ErasureStore(Protocol):
    """Erases rows. Every call may raise DatabaseUnavailable; then nothing was erased."""

    async def profile(self, account_id: str, profile_id: str, *, actor: str, at_ms: int) -> ErasureReceipt:
        """Remove every row of a profile and leave a tombstone. Raises ProfileAccessDenied."""

    async def account(self, account_id: str, *, at_ms: int) -> tuple[ErasureReceipt, Erased]:
        """Remove an account and all its profiles; return the affected profile ids. Raises Unauthenticated."""

    async def erased_since(self, at_ms: int) -> Erased:
        """The erasures at or after an instant."""


class CopyEraser(Protocol):
    """Removes data outside the database. Every call may raise CountersUnavailable."""

    async def announce(self, erased: Erased, *, household: str) -> None:
        """Announce an erasure to every process."""

    async def remove(self, erased: Erased) -> None:
        """Remove all Redis keys of the erased profiles and accounts. Repeating the call is harmless."""


class CounterReader(Protocol):
    async def counters(self, profile_id: str) -> list[Counters]:
        """The running counters and the outbox of a profile. Raises CountersUnavailable."""


class Passwords(Protocol):
    async def check_owner(self, account_id: str, password: str | None, *, has_just_signed_in: bool = False) -> None:
        """Raises InvalidInput, WrongPassword, FreshSignInRequired, Locked, TooManyRequests."""


class RevokedHolders(Protocol):
    def add(self, holder_id: str) -> None:
        """Refuse the tokens of this account in this process from now on."""


class Erasures(Protocol):
    async def oldest_since(self, at_ms: int) -> int | None:
        """The instant (ms) of the first erasure at or after the given one. Raises DatabaseUnavailable."""


class Files(Protocol):
    """The append-only files of Redis. Every call may raise CountersUnavailable."""

    async def state(self) -> FilesState: ...

    async def rewrite(self) -> bool:
        """Ask every server to rewrite its file in the background. Returns False if a server refused."""

    async def noted(self) -> RewriteNote | None: ...

    async def note(self, note: RewriteNote) -> None: ...


class AuditLog(Protocol):
    async def entries(self, account_id: str, *, before: int | None, limit: int) -> list[AuditEntry]:
        """The newest entries of an account, or those before a given entry. Raises DatabaseUnavailable."""


class ExportSource(Protocol):
    """Reads rows for an export. Every call may raise DatabaseUnavailable."""

    async def account(self, account_id: str) -> Row:
        """The account without the hashes of its secrets. Raises Unauthenticated."""

    async def profile_ids(self, account_id: str) -> Sequence[str]:
        """The profiles of an account, oldest first."""

    @property
    def account_kinds(self) -> Sequence[str]:
        """The kinds of rows that belong to an account directly."""

    def account_pages(self, kind: str, account_id: str) -> AsyncIterator[Sequence[Row]]:
        """Yield all rows of a kind in batches."""

    async def profile(self, account_id: str, profile_id: str) -> Row:
        """The profile row. Raises ProfileAccessDenied."""

    @property
    def kinds(self) -> Sequence[str]:
        """The kinds of rows that belong to a profile."""

    def pages(self, kind: str, account_id: str, profile_id: str) -> AsyncIterator[Sequence[Row]]:
        """Yield all rows of a kind in batches."""


class AgedRows(Protocol):
    """Deletes rows by age. Every call may raise DatabaseUnavailable."""

    async def delete(self, kind: str, *, before_ms: int, most: int) -> int:
        """Delete rows of a kind that are older than an instant; return their number."""

    async def drop_partitions(self, kind: str, *, before: date) -> list[str]:
        """Drop the partitions of usage whose rows are all older than a day; return their names."""

    async def oldest(self) -> Mapping[str, int | None]:
        """The instant (ms) of the oldest row of each kind, or None without rows."""
