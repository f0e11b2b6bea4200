"""What reports read. Nothing here writes; every call may raise DatabaseUnavailable."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

from app.domain.report import DayAsked, DayTotals, ReportedDay, SessionPart, TitleTime, Viewer, WeeklyReport


class PastViewing(Protocol):
    """Flushed usage. Each call is one statement.

    ``as_of_ms`` is the instant up to which everything is flushed, None before the first flush.
    """

    async def viewed(
        self, *, account_id: str, profile_id: str, first: date, last: date
    ) -> tuple[int | None, Viewer, list[DayTotals]]:
        """``as_of_ms``, a profile of the account, and its days on which something was counted, newest first.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
        """

    async def children(self, account_ids: Sequence[str]) -> tuple[int | None, list[Viewer]]:
        """``as_of_ms`` and the children of the accounts, in the order of their creation."""

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
        """Sessions of viewing days that began in ``from_ms`` ≤ instant < ``until_ms``, newest first.

        ``before`` is the start and id of the session after which to go on.
        """

    async def reported_days(self, asked: Sequence[DayAsked]) -> list[list[ReportedDay]]:
        """The days asked for, grouped by profile in the order in which the profiles were first named."""

    async def top_titles(
        self, profile_ids: Sequence[str], *, first: date, last: date, from_ms: int, until_ms: int
    ) -> dict[str, list[TitleTime]]:
        """What each profile watched longest on these days, which began and ended in ``from_ms`` to ``until_ms``."""


class PreparedReports(Protocol):
    """Weekly reports, kept as they were prepared. Every call may raise DatabaseUnavailable."""

    async def missing(self, week_end: date, *, after: str, most: int) -> list[str]:
        """Accounts with children whose report of a week is not entered yet, by their ids from ``after`` on."""

    async def enter(self, account_ids: Sequence[str], week_end: date) -> None:
        """Enter the reports of a week that are to be made; those that are there already stay."""

    async def changed(self, *, since: date, after: tuple[date, str], most: int) -> list[tuple[date, str, int]]:
        """Reports of weeks from ``since`` on that do not know everything: week, account, and how much they do not.

        In the order of weeks and accounts, from ``after`` on.
        """

    async def keep(self, week_end: date, reports: Mapping[str, tuple[int, WeeklyReport]]) -> int:
        """Put reports into their rows, by account, each with what it was made to know, unless it does not know all.

        Returns:
            How many are kept.
        """

    async def find(self, account_id: str, week_end: date) -> WeeklyReport | None:
        """The report of a week, if it was prepared."""
