"""Ports of the profiles."""

from typing import Protocol

from app.domain.config import FirstConfig
from app.domain.profile import Profile


class Profiles(Protocol):
    """The profiles of accounts. Every call may raise DatabaseUnavailable.

    ``first_config`` builds the config of a new child from its market, zone and version. It is in force from
    ``at_ms`` on.
    """

    async def of_account(self, account_id: str) -> list[Profile]:
        """The profiles in order of creation."""
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
        first_config: FirstConfig,
        actor: str,
        at_ms: int,
        external_id: str | None = None,
    ) -> Profile:
        """Store a new profile, and the config of a child.

        Args:
            timezone: IANA name; None uses the account's.
            most: maximum number of profiles of an account.
            external_id: the platform's own id of the profile.

        Raises:
            Unauthenticated: the account does not exist.
            TooManyProfiles: the account has ``most`` profiles.
            ExternalIdTaken: another profile has this external id.
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
        first_config: FirstConfig,
        actor: str,
        at_ms: int,
    ) -> Profile:
        """Change the given fields. A profile that becomes a child keeps its earlier config, or gets the first one.

        A new zone also changes the config. It takes effect when the running day ends.

        Raises:
            ProfileAccessDenied
        """
        ...


class Announcements(Protocol):
    """Announces changes to every process. Failures are logged, not raised: the change is committed."""

    async def household_changed(self, account_id: str) -> None:
        """Announce new profiles of the account."""
        ...

    async def changed(self, profile_id: str) -> None: ...
