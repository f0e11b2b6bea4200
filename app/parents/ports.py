"""What parental controls need from the outside."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import date
from typing import Any, Protocol

from app.domain.caregivers import CaregiverView
from app.domain.config import Config
from app.domain.counters import Counters
from app.domain.grants import AnsweredRequest, ExtraTimeRequest, GrantEntry, RequestStatus
from app.domain.idempotency import IdempotencyKey
from app.domain.pages import PageEnd
from app.domain.pauses import ParentPause
from app.domain.policy import EarlierDay, Policy
from app.domain.report import ReportedDay, SessionPart

Answer = dict[str, Any]
Decide = Callable[[ExtraTimeRequest, Policy], Awaitable[tuple[ExtraTimeRequest, GrantEntry | None]]]
"""What a request becomes under the policy in force, and the grant it is answered with, if any."""


class Configs(Protocol):
    """Settings of children, by profile; the account is what the caller may see."""

    async def read(self, *, account_id: str, profile_id: str) -> tuple[Config, str | None]:
        """The settings of a child, and the name of the account's market, None if it has none.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
            NoConfig: it is an adult's.
        """

    async def market_of(self, account_id: str) -> str | None:
        """The name of an account's market, None if it has none."""

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

    async def wake(self, profile_ids: Sequence[str]) -> None:
        """Make open streams of profiles look again, on every process. Raises CountersUnavailable."""


class Grants(Protocol):
    """The ledger of extra time. Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        at_ms: int,
        key: IdempotencyKey | None,
        caregiver_id: str | None,
        entry_for: Callable[[Policy], Awaitable[GrantEntry]],
        answer_for: Callable[[Policy, GrantEntry], Answer],
    ) -> tuple[Answer, Policy | None]:
        """Enter a grant; answers what ``answer_for`` says, and the policy that is now in force.

        With a key that was used before: the first answer, and None. ``caregiver_id`` is the device of a caregiver,
        whose budget the grant must fit.

        Raises:
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
            BudgetExhausted, Unauthenticated: the budget has not that much left, or the caregiver has been revoked.
        """

    async def revoke(
        self, *, account_id: str, profile_id: str, grant_id: str, actor: str, at_ms: int
    ) -> tuple[GrantEntry, Policy]:
        """Mark a grant as revoked; answers it and the policy that is now in force. Repeating it changes nothing.

        Raises:
            NotFound: there is no such grant of this profile.
        """

    async def entries(
        self, *, account_id: str, profile_id: str, day: date | None, before: PageEnd | None, most: int
    ) -> list[GrantEntry]:
        """The newest entries of a child that follow ``before``, those of one viewing day if one is named."""


class Requests(Protocol):
    """What children asked for. Every call may raise ProfileAccessDenied, NoConfig and DatabaseUnavailable."""

    async def add(
        self,
        *,
        account_id: str,
        profile_id: str,
        actor: str,
        at_ms: int,
        key: IdempotencyKey | None,
        most_a_day: int,
        same_since_ms: int,
        request_for: Callable[[Policy], ExtraTimeRequest],
    ) -> ExtraTimeRequest:
        """Keep a request; one that equals an open one made since ``same_since_ms`` is that one.

        With a key that was used before: the first answer.

        Raises:
            TooManyRequests: ``most_a_day`` of that viewing day are kept.
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """

    async def answer(
        self,
        *,
        account_id: str,
        profile_id: str,
        request_id: str,
        actor: str,
        at_ms: int,
        caregiver_id: str | None,
        decide: Decide,
    ) -> AnsweredRequest:
        """Keep what ``decide`` makes of a request and the grant it answers with, if any.

        Raises:
            NotFound: there is no such request of this profile.
            BudgetExhausted, Unauthenticated: of ``caregiver_id``, as for a grant.
        """

    async def entries(
        self, *, account_id: str, profile_id: str, before: PageEnd | None, most: int
    ) -> list[ExtraTimeRequest]:
        """The newest requests of a child that follow ``before``."""

    async def of_account(
        self, account_id: str, *, status: RequestStatus | None, before: PageEnd | None, most: int, at_ms: int
    ) -> list[tuple[str, ExtraTimeRequest]]:
        """The newest requests of an account, each after its profile; those of one status if it is named."""


class Caregivers(Protocol):
    async def view(self, account_id: str, device_id: str, *, at_ms: int) -> CaregiverView:
        """What a caregiver may see. Raises Unauthenticated (no such device any more), DatabaseUnavailable."""


class Pauses(Protocol):
    """Pauses by parents. Every call may raise DatabaseUnavailable."""

    async def children(self, account_id: str) -> list[str]:
        """The children of an account."""

    async def set(
        self,
        *,
        account_id: str,
        profile_id: str | None,
        actor: str,
        at_ms: int,
        key: IdempotencyKey | None,
        until_for: Callable[[Policy], int | None],
    ) -> tuple[list[ParentPause], list[Policy]]:
        """Pause a child, or all children of the account, until the instant that ``until_for`` says (None: not at all).

        Returns the pauses, and the policies that changed. With a key that was used before: the first answer, and no
        policy.

        Raises:
            ProfileAccessDenied, NoConfig: ``profile_id`` is no child of the account.
            KeyReused, StillRunning: the key is another request's, or its first use has not ended.
        """


class EventLog(Protocol):
    async def add(self, profile_id: str, kind: str, facts: Mapping[str, object], *, at_ms: int) -> None:
        """Tell the devices of a child. Raises CountersUnavailable."""


class CounterReader(Protocol):
    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Counters | None]]:
        """The instant (ms) and each child's counters, None when there are none. Raises CountersUnavailable."""


class EndedDays(Protocol):
    async def ended_days(self, profile_id: str) -> list[EarlierDay]:
        """The viewing days of a child that wait to be flushed. Raises CountersUnavailable."""


class FlushedUsage(Protocol):
    async def recover(self, profile_ids: Sequence[str]) -> list[Counters | None]:
        """The counters of each child as last flushed, None for a child without any. Raises DatabaseUnavailable."""


class PastViewing(Protocol):
    """Flushed usage of past days. Every call may raise DatabaseUnavailable."""

    async def days(self, profile_id: str, *, first: date, last: date) -> list[ReportedDay]:
        """The days on which something was counted, newest first, with the grants that stood when they ended."""

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
