"""Weekly report of all children of an account, built on request or prepared after the week has ended."""

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from itertools import groupby

from app.domain.co_viewing import Overlap, together_of
from app.domain.report import (
    WEEK,
    DayAsked,
    Viewer,
    WeeklyReport,
    child_week,
    ends_of,
    last_finished_day,
    lie_within,
    likely_span_ms,
)
from app.errors import InvalidInput
from app.reports.gather_pair import gather_pair
from app.reports.ports import PastViewing, PreparedReports
from app.timestamps import utc

SESSIONS_KEPT = timedelta(days=90)
_RENEWED = SESSIONS_KEPT - timedelta(days=WEEK)
"""Weeks that ended earlier have lost sessions, so their reports are not built again."""
SETTLING_MS = 10 * 60_000
"""Delay between the last reset of a week and the preparation. By then the reset's usage is flushed."""
_FORTNIGHT = 2 * WEEK
_ACCOUNTS_AT_ONCE = 100


class WeeklyReports:
    def __init__(self, past: PastViewing, prepared: PreparedReports) -> None:
        self._past = past
        self._prepared = prepared

    async def report(self, *, account_id: str, week_ending: date | None, at_ms: int) -> WeeklyReport:
        """The week that ends with the given viewing day, by default the last one that has ended for every child.

        Runs three statements, two of them at the same time, whatever the number of children. A prepared week without
        sessions needs one.

        Raises:
            InvalidInput: the week has not ended for every child.
        """
        if week_ending is not None and utc(at_ms).date() - week_ending > _RENEWED:
            prepared = await self._prepared.find(account_id, week_ending)
            if prepared is not None:
                return prepared
        as_of_ms, viewers = await self._past.children([account_id])
        finished = _finished(viewers, at_ms)
        if week_ending is not None and week_ending > finished:
            detail = "must be a viewing day that has ended for every child"
            raise InvalidInput(errors=[{"parameter": "week_ending", "in": "query", "detail": detail}])
        reports = await self._reports({account_id: viewers}, week_ending or finished, as_of_ms=as_of_ms, at_ms=at_ms)
        return reports[account_id]

    async def prepare(self, *, at_ms: int) -> int:
        """Prepare the last week, Monday to Sunday, of each account in which it has ended for all children.

        Reports with late changes are built again while their sessions are kept. The next run continues an interrupted
        one.

        Returns:
            The number of reports built.
        """
        await self._enter_due(last_sunday(utc(at_ms).date()), settled_ms=at_ms - SETTLING_MS)
        count, since = 0, utc(at_ms).date() - _RENEWED
        after = (since, "")
        while changed := await self._prepared.changed(since=since, after=after, most=_ACCOUNTS_AT_ONCE):
            after = changed[-1][:2]
            for week_end, rows in groupby(changed, key=lambda row: row[0]):
                changes = {account_id: unknown for _, account_id, unknown in rows}
                as_of_ms, families = await self._families(list(changes))
                reports = await self._reports(families, week_end, as_of_ms=as_of_ms, at_ms=at_ms)
                made = {account_id: (changes[account_id], report) for account_id, report in reports.items()}
                count += await self._prepared.keep(week_end, made)
        return count

    async def _enter_due(self, week_end: date, *, settled_ms: int) -> None:
        after = ""
        while accounts := await self._prepared.missing(week_end, after=after, most=_ACCOUNTS_AT_ONCE):
            after = accounts[-1]
            _, families = await self._families(accounts)
            due = [name for name, family in families.items() if family and week_end <= _finished(family, settled_ms)]
            if due:
                await self._prepared.enter(due, week_end)

    async def _families(self, account_ids: Sequence[str]) -> tuple[int | None, dict[str, list[Viewer]]]:
        as_of_ms, viewers = await self._past.children(account_ids)
        families: dict[str, list[Viewer]] = {account_id: [] for account_id in account_ids}
        for viewer in viewers:
            families[viewer.account_id].append(viewer)
        return as_of_ms, families

    async def _reports(
        self, families: Mapping[str, Sequence[Viewer]], week_end: date, *, as_of_ms: int | None, at_ms: int
    ) -> dict[str, WeeklyReport]:
        """One week of the children of several accounts, by account, with two statements at the same time.

        Days longer or shorter than their names suggest need one of them again.
        """
        viewers = [viewer for family in families.values() for viewer in family]
        days = [week_end - timedelta(days=age) for age in reversed(range(_FORTNIGHT))]
        asked = [
            DayAsked(viewer.profile_id, day, ends_ms)
            for viewer in viewers
            if viewer.calendar is not None
            for day, ends_ms in zip(days, ends_of(viewer.calendar, days, at_ms=at_ms), strict=True)
        ]
        week = days[WEEK:]
        profile_ids = [viewer.profile_id for viewer in viewers]
        span_ms = likely_span_ms(week[0], week_end)
        found, watched = await gather_pair(
            self._past.reported_days(asked),
            self._past.watched(profile_ids, first=week[0], last=week_end, from_ms=span_ms[0], until_ms=span_ms[1]),
        )
        reported = dict(zip(profile_ids, found, strict=True))
        counted = [day.totals for days in found for day in days if day.totals.day >= week[0] and day.totals.ends_ms]
        if not lie_within(counted, span_ms):
            from_ms, until_ms = min(day.starts_ms for day in counted), max(day.ends_ms for day in counted)
            watched = await self._past.watched(
                profile_ids, first=week[0], last=week_end, from_ms=from_ms, until_ms=until_ms
            )
        together_ms = _together_ms(watched.overlaps)
        return {
            account_id: WeeklyReport(
                week_start=week[0],
                week_end=week_end,
                as_of_ms=at_ms if as_of_ms is None else as_of_ms,
                children=tuple(
                    child_week(
                        viewer.profile_id,
                        viewer.name,
                        reported[viewer.profile_id],
                        week_end=week_end,
                        titles=watched.titles.get(viewer.profile_id, ()),
                        together_ms=together_ms.get(viewer.profile_id, 0),
                    )
                    for viewer in family
                ),
            )
            for account_id, family in families.items()
        }


def _together_ms(overlaps: Sequence[Overlap]) -> Mapping[str, int]:
    """How long each child watched with others."""
    profile_of = {overlap.part: overlap.profile_id for overlap in overlaps}
    found: Counter[str] = Counter()
    for part, together in together_of(overlaps).items():
        found[profile_of[part]] += together.together_ms
    return found


def _finished(viewers: Sequence[Viewer], at_ms: int) -> date:
    """The last viewing day that has ended for all children; yesterday without children."""
    calendars = [viewer.calendar for viewer in viewers if viewer.calendar is not None]
    return min(
        (last_finished_day(calendar, at_ms) for calendar in calendars), default=utc(at_ms).date() - timedelta(days=1)
    )


def last_sunday(today: date) -> date:
    """The last day of the week to prepare, before ``today``."""
    return today - timedelta(days=today.isoweekday())
