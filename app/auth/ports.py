"""What signing in needs from the outside. Every call may raise DatabaseUnavailable."""

from typing import Protocol

import msgspec


class Account(msgspec.Struct, frozen=True, kw_only=True):
    """A household. ``email`` is lower-case."""

    id: str
    email: str
    password_hash: str
    timezone: str


class Accounts(Protocol):
    async def add(self, account: Account, *, at_ms: int) -> None:
        """Keep a new account. Raises EmailTaken."""
        ...

    async def by_email(self, email: str) -> Account | None: ...

    async def exists(self, account_id: str) -> bool: ...
