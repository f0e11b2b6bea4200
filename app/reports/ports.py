"""Ports of the reports. All methods that touch usage only read. Every call may raise DatabaseUnavailable."""

from collections.abc import Mapping, Sequence
from datetime import date
from typing import Protocol

from app.domain.co_viewing import Overlap
from app.domain.report import DayAsked, DayTotals, ReportedDay, SessionPart, Viewer, Watched, WeeklyReport


class PastViewing(Protocol):
    """Reads flushed usage. Each call is one statement.

    ``as_of_ms`` is the instant up to which all usage is flushed, or None before the first flush.
    """

    async def viewed(
        self, *, account_id: str, profile_id: str, first: date, last: date
    ) -> tuple[int | None, Viewer, list[DayTotals]]:
        """Return ``as_of_ms``, a profile of the account, and its days with usage, newest first.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
        """

    async def children(self, account_ids: Sequence[str]) -> tuple[int | None, list[Viewer]]:
        """Return ``as_of_ms`` and the children of the accounts, in order of creation."""

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

        ``before`` is the start and id of the last session already returned.
        """

    async def reported_days(self, asked: Sequence[DayAsked]) -> list[list[ReportedDay]]:
        """The requested days, grouped by profile in the order of the first mention of each profile."""

    async def watched(
        self, profile_ids: Sequence[str], *, first: date, last: date, from_ms: int, until_ms: int
    ) -> Watched:
        """What the profiles watched on these days, in sessions that began in ``from_ms`` to ``until_ms``."""

    async def overlaps(self, profile_id: str, *, first: date, last: date, from_ms: int, until_ms: int) -> list[Overlap]:
        """Sessions of these days that began in ``from_ms`` to ``until_ms``, each with one of another child.

        Both children are of one account, watched the same title on the same device, and their sessions overlap.
        """


class PreparedReports(Protocol):
    """Stores prepared weekly reports. Every call may raise DatabaseUnavailable."""

    async def missing(self, week_end: date, *, after: str, most: int) -> list[str]:
        """Accounts with children that have no row for this week yet, by ids after ``after``."""

    async def enter(self, account_ids: Sequence[str], week_end: date) -> None:
        """Insert rows for reports to be prepared. Existing rows stay."""

    async def changed(self, *, since: date, after: tuple[date, str], most: int) -> list[tuple[date, str, int]]:
        """Reports of weeks from ``since`` on with late changes: week, account, number of changes.

        Ordered by week and account, after ``after``.
        """

    async def keep(self, week_end: date, reports: Mapping[str, tuple[int, WeeklyReport]]) -> int:
        """Store reports by account, each with its number of included changes. Outdated reports are skipped.

        Returns:
            The number of stored reports.
        """

    async def find(self, account_id: str, week_end: date) -> WeeklyReport | None:
        """The prepared report of a week, if it exists."""
