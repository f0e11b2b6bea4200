"""What provisioning needs from the outside. Every call may raise DatabaseUnavailable."""

from collections.abc import Collection, Sequence
from datetime import date
from typing import Protocol

from app.domain.erasure import ErasureReceipt
from app.domain.platform import AccountFacts, PlatformAccount, Provisioned, ShadowDay
from app.domain.profile import Profile


class AccountStore(Protocol):
    async def account(self, given: str) -> PlatformAccount | None:
        """An account by the platform's id or ours."""
        ...

    async def provision(self, facts: Sequence[AccountFacts], *, actor: str, at_ms: int) -> list[Provisioned]:
        """Make accounts or change them, all or none; in order. Their external ids differ."""
        ...

    async def assign_market(self, account_id: str, market: str | None, *, actor: str, at_ms: int) -> list[str]:
        """Move an account into a market, None: into none. Answers the profiles whose policy has changed with it."""
        ...

    async def set_enforcement(
        self, account_id: str, profile_id: str, enforcement: str | None, *, actor: str, at_ms: int
    ) -> bool:
        """Give a profile an enforcement mode of its own, None: that of the market. Answers whether it is another."""
        ...


class ShadowDays(Protocol):
    async def days(
        self,
        *,
        first: date,
        last: date,
        known: Collection[str],
        shadow: Collection[str],
        default_is_shadow: bool,
        market: str | None,
        after: tuple[date, str] | None,
        most: int,
    ) -> list[ShadowDay]:
        """Days on which shadow mode would have blocked children, in order, and the children of a day by id."""
        ...

    async def note_reading(self, days: Sequence[ShadowDay], *, actor: str, at_ms: int) -> None:
        """Enter into the audit log of each child's account that its days were read."""
        ...


class Announcements(Protocol):
    async def changed(self, profile_id: str) -> None:
        """Announce the policy of a profile as it is now. A failure is logged; the worker announces it again."""
        ...


class ProfileIds(Protocol):
    async def profile(self, account_id: str, given: str) -> str | None:
        """Our id of the profile that the platform's id names in an account."""
        ...


class ProfileService(Protocol):
    async def of_account(self, account_id: str) -> list[Profile]: ...

    async def add(
        self,
        account_id: str,
        *,
        name: str,
        is_kids: bool,
        timezone: str | None,
        actor: str,
        external_id: str | None = None,
    ) -> Profile:
        """Raises Unauthenticated, TooManyProfiles, ExternalIdTaken."""
        ...

    async def change(
        self,
        account_id: str,
        profile_id: str,
        *,
        name: str | None,
        is_kids: bool | None,
        timezone: str | None,
        actor: str,
    ) -> Profile:
        """Raises ProfileAccessDenied."""
        ...


class ErasureService(Protocol):
    async def profile(self, account_id: str, profile_id: str, *, actor: str) -> ErasureReceipt:
        """Raises ProfileAccessDenied."""
        ...

    async def account_for_platform(self, account_id: str) -> ErasureReceipt:
        """Raises Unauthenticated."""
        ...
