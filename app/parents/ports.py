"""What parental controls need from the outside."""

from collections.abc import Callable, Sequence
from datetime import date
from typing import Any, Protocol

from app.domain.accounting import Live
from app.domain.config import Config
from app.domain.grants import ExtraTimeRequest, GrantEntry
from app.domain.idempotency import IdempotencyKey
from app.domain.policy import Policy
from app.domain.report import DayTotals, SessionPart

Answer = dict[str, Any]


class Configs(Protocol):
    """Settings of children, by profile; the account is what the caller may see."""

    async def read(self, *, account_id: str, profile_id: str) -> Config:
        """The settings of a child.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
            NoConfig: it is an adult's.
        """

    async def change(
        self, *, account_id: str, profile_id: str, actor: str, at_ms: int, change: Callable[[Config], Config]
    ) -> Config:
        """Store what ``change`` makes of the settings; meanwhile nobody else changes them. Raises as ``read``."""


class Policies(Protocol):
    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        """The policies in the order asked; None for a profile that does not exist."""


class PolicyAnnouncer(Protocol):
    async def announce(self, policies: Sequence[Policy]) -> None:
        """Put each policy in the place of an older copy and tell every process.

        Raises:
            CountersUnavailable: nobody could be told.
        """

    async def announce_household(self, account_id: str) -> None:
        """Tell every process that profiles were added to an account. Raises CountersUnavailable."""


class Grants(Protocol):
    """The ledger of extra time. Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        at_ms: int,
        key: IdempotencyKey | None,
        entry_for: Callable[[Policy], GrantEntry],
        answer_for: Callable[[Policy, GrantEntry], Answer],
    ) -> tuple[Answer, Policy | None]:
        """Enter a grant; answers what ``answer_for`` says, and the policy that is now in force.

        With a key that was used before: the first answer, and None.

        Raises:
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """

    async def revoke(
        self, *, account_id: str, profile_id: str, grant_id: str, actor: str, at_ms: int
    ) -> tuple[GrantEntry, Policy]:
        """Mark a grant as revoked; answers it and the policy that is now in force. Repeating it changes nothing.

        Raises:
            NotFound: there is no such grant of this profile.
        """

    async def entries(self, *, account_id: str, profile_id: str, day: date | None, most: int) -> list[GrantEntry]:
        """The newest entries of a child, those of one viewing day if one is named."""


class Requests(Protocol):
    """What children asked for. Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        actor: str,
        at_ms: int,
        most_a_day: int,
        request_for: Callable[[Policy], ExtraTimeRequest],
    ) -> ExtraTimeRequest:
        """Keep a request. Raises TooManyRequests when ``most_a_day`` of that viewing day are kept."""

    async def answer(
        self,
        *,
        account_id: str,
        profile_id: str,
        request_id: str,
        actor: str,
        at_ms: int,
        decide: Callable[[ExtraTimeRequest], tuple[ExtraTimeRequest, GrantEntry | None]],
    ) -> tuple[ExtraTimeRequest, Policy | None]:
        """Keep what ``decide`` makes of a request and the grant it answers with, if any.

        Returns:
            The request, and the policy that is now in force, None when nothing was granted.

        Raises:
            NotFound: there is no such request of this profile.
        """

    async def entries(self, *, account_id: str, profile_id: str, most: int) -> list[ExtraTimeRequest]:
        """The newest requests of a child."""


class Counters(Protocol):
    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Live | None]]:
        """The instant (ms) and each child's counters, None when there are none. Raises CountersUnavailable."""


class FlushedUsage(Protocol):
    async def recover(self, profile_ids: Sequence[str]) -> list[Live | None]:
        """The counters of each child as last flushed, None for a child without any. Raises DatabaseUnavailable."""


class PastViewing(Protocol):
    """Flushed usage of past days. Every call may raise DatabaseUnavailable."""

    async def days(self, profile_id: str, *, first: date, last: date) -> list[DayTotals]:
        """The days on which something was counted, newest first."""

    async def sessions(
        self,
        profile_id: str,
        *,
        first: date,
        last: date,
        from_ms: int,
        until_ms: int,
        before: tuple[int, str] | None,
        most: int,
    ) -> list[SessionPart]:
        """Sessions of viewing days that began in ``from_ms`` ≤ instant < ``until_ms``, newest first."""
