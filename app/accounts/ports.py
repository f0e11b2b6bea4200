"""What profiles need from the outside."""

from collections.abc import Callable
from typing import Protocol

from app.domain.config import Config
from app.domain.profile import Profile


class Profiles(Protocol):
    """The profiles of accounts. Every call may raise DatabaseUnavailable.

    ``first_config`` makes the settings of a new child from its zone and their version; they count from ``at_ms`` on.
    """

    async def of_account(self, account_id: str) -> list[Profile]:
        """In the order of their creation."""
        ...

    async def add(  # noqa: D417  see above
        self,
        account_id: str,
        *,
        profile_id: str,
        name: str,
        is_kids: bool,
        timezone: str | None,
        most: int,
        first_config: Callable[[str, int], Config],
        actor: str,
        at_ms: int,
    ) -> Profile:
        """Keep a new profile, and the settings of a child.

        Args:
            timezone: None takes the account's.
            most: profiles that an account may have.

        Raises:
            Unauthenticated: the account is gone.
            TooManyProfiles: there are ``most`` already.
        """
        ...

    async def change(
        self,
        account_id: str,
        profile_id: str,
        *,
        name: str | None,
        is_kids: bool | None,
        timezone: str | None,
        first_config: Callable[[str, int], Config],
        actor: str,
        at_ms: int,
    ) -> Profile:
        """Change what is not None. Who becomes a child begins with fresh settings. Raises ProfileAccessDenied."""
        ...


class Announcements(Protocol):
    """Tells every process; a failure is logged, never raised: the change is committed."""

    async def household_changed(self, account_id: str) -> None:
        """Profiles were added to the account."""
        ...

    async def changed(self, profile_id: str) -> None: ...
