"""History of one child, by viewing day and session."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from zoneinfo import ZoneInfo

import msgspec

from app.domain.co_viewing import PartKey, Together, together_of
from app.domain.report import DayAsked, DayTotals, SessionPart, Viewer, ends_of, lie_within, likely_span_ms
from app.domain.viewing_day import DAY_MS
from app.errors import InvalidInput
from app.reports.cursors import CursorPosition, Cursors
from app.reports.gather_pair import gather_pair
from app.reports.ports import PastViewing
from app.timestamps import utc

MAX_RANGE = timedelta(days=90)
DEFAULT_RANGE = timedelta(days=29)
_LAG, _LEAD = timedelta(days=3), timedelta(days=31)
"""Range of possible names of the running viewing day around today's UTC date. It can lag by the zone and the length of
a day, and lead by the number of days that zone changes have shortened.
"""
_RUNNING_MS = 2 * DAY_MS
"""Upper bound for the remaining length of the running viewing day."""


class HistoryDay(msgspec.Struct, frozen=True):
    """A viewing day and its sessions on this page."""

    totals: DayTotals
    sessions: tuple[SessionPart, ...]


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True):
    """Days, newest first. A day that spans several pages appears on each of them with the same sums."""

    days: tuple[HistoryDay, ...]
    next_cursor: str | None
    as_of_ms: int


class History:
    def __init__(self, past: PastViewing, *, cursors: Cursors) -> None:
        self._past = past
        self._cursors = cursors

    async def page(
        self,
        *,
        account_id: str,
        profile_id: str,
        first: date | None,
        last: date | None,
        cursor: str | None,
        limit: int,
        empty_days: bool,
        at_ms: int,
    ) -> HistoryPage:
        """Return a page of at most ``limit`` sessions.

        Runs three statements at the same time. Empty days need one more. Days longer or shorter than their names
        suggest need two of them again.

        Args:
            account_id: owner of the profile.
            profile_id: the child.
            first: the oldest viewing day; 29 days before ``last`` unless given.
            last: the newest viewing day; the running one unless given.
            cursor: ``next_cursor`` of the page before; it contains the days.
            limit: maximum number of sessions on a page.
            empty_days: include days without usage, up to the running one.
            at_ms: current time.

        Raises:
            ProfileAccessDenied: the account has no such profile.
            InvalidInput: more than 90 days, days in the wrong order, or an invalid cursor.
        """
        place = None if cursor is None else self._cursors.read(profile_id, cursor)
        oldest, newest = _read_bounds(place, first, last, today=utc(at_ms).date())
        from_ms, until_ms = likely_span_ms(oldest, newest)
        span_ms = from_ms, min(until_ms, at_ms + _RUNNING_MS)
        (as_of_ms, viewer, totals), sessions = await gather_pair(
            self._past.viewed(account_id=account_id, profile_id=profile_id, first=oldest, last=newest),
            self._sessions(profile_id, oldest, newest, span_ms, place, most=limit + 1),
        )
        first, last = _range(place, first, last, today=_today(viewer, at_ms))
        totals = [day for day in totals if first <= day.day <= last]
        if totals and (not lie_within(totals, span_ms) or (sessions and sessions[0].day > last)):
            span_ms = totals[-1].starts_ms, totals[0].ends_ms
            sessions = await self._sessions(profile_id, first, last, span_ms, place, most=limit + 1)
        sessions = [part for part in sessions if first <= part.day <= last]
        if empty_days:
            totals = await self._with_empty_days(viewer, totals, first=first, last=min(last, newest), at_ms=at_ms)
        shown, has_more = sessions[:limit], len(sessions) > limit
        following = (
            CursorPosition(first, last, shown[-1].day, shown[-1].started_ms, shown[-1].session_id) if has_more else None
        )
        return HistoryPage(
            days=_days(totals, shown, place, following),
            next_cursor=None if following is None else self._cursors.write(profile_id, following),
            as_of_ms=at_ms if as_of_ms is None else as_of_ms,
        )

    async def _sessions(
        self,
        profile_id: str,
        first: date,
        last: date,
        span_ms: tuple[int, int],
        place: CursorPosition | None,
        *,
        most: int,
    ) -> list[SessionPart]:
        """Sessions with those who watched along, newest first."""
        from_ms, until_ms = span_ms
        before = None if place is None else (place.started_ms, place.session_id)
        if place is not None:
            until_ms = min(until_ms, place.started_ms + 1)
        sessions, overlaps = await gather_pair(
            self._past.sessions(
                profile_id, first=first, last=last, from_ms=from_ms, until_ms=until_ms, before=before, most=most
            ),
            self._past.overlaps(profile_id, first=first, last=last, from_ms=from_ms, until_ms=until_ms),
        )
        found = together_of(overlaps)
        return [_with_together(part, found.get(PartKey(part.session_id, part.day))) for part in sessions]

    async def _with_empty_days(
        self, viewer: Viewer, totals: Sequence[DayTotals], *, first: date, last: date, at_ms: int
    ) -> list[DayTotals]:
        if viewer.calendar is None:
            return list(totals)
        known = {day.day for day in totals}
        span = (min(last, _today(viewer, at_ms)) - first).days + 1
        empty = [day for day in (first + timedelta(days=age) for age in range(span)) if day not in known]
        ends = ends_of(viewer.calendar, empty, at_ms=at_ms)
        asked = [DayAsked(viewer.profile_id, day, ends_ms) for day, ends_ms in zip(empty, ends, strict=True)]
        reported = [reported.totals for days in await self._past.reported_days(asked) for reported in days]
        return sorted([*totals, *reported], key=lambda day: day.day, reverse=True)


def _with_together(part: SessionPart, together: Together | None) -> SessionPart:
    if together is None:
        return part
    return msgspec.structs.replace(part, co_viewers=together.co_viewers, together_ms=together.together_ms)


def _read_bounds(
    place: CursorPosition | None, first: date | None, last: date | None, *, today: date
) -> tuple[date, date]:
    """Bounds that contain every requested day, computed before the running viewing day is known."""
    if place is not None:
        return place.first, place.day
    if last is not None:
        oldest = last - DEFAULT_RANGE if first is None else first
        return max(oldest, last - MAX_RANGE), last
    oldest = today - DEFAULT_RANGE - _LAG if first is None else max(first, today - MAX_RANGE - _LAG)
    return oldest, max(today, oldest) + _LEAD


def _today(viewer: Viewer, at_ms: int) -> date:
    if viewer.calendar is None:
        return utc(at_ms).astimezone(ZoneInfo(viewer.timezone)).date()
    return viewer.calendar.day_at(at_ms).date


def _range(place: CursorPosition | None, first: date | None, last: date | None, *, today: date) -> tuple[date, date]:
    """The requested days. A cursor contains them; a request with a cursor and other days is invalid."""
    if place is not None:
        if first not in {None, place.first} or last not in {None, place.last}:
            raise _refused("cursor", "belongs to other dates")
        return place.first, place.last
    last = last or max(today, first or today)
    first = first or last - DEFAULT_RANGE
    if first > last:
        raise _refused("from_date", "must not be after to_date")
    if last - first > MAX_RANGE:
        raise _refused("from_date", f"must be at most {MAX_RANGE.days} days before to_date")
    return first, last


def _refused(parameter: str, detail: str) -> InvalidInput:
    return InvalidInput(errors=[{"parameter": parameter, "in": "query", "detail": detail}])


def _days(
    totals: Sequence[DayTotals],
    shown: Sequence[SessionPart],
    place: CursorPosition | None,
    following: CursorPosition | None,
) -> tuple[HistoryDay, ...]:
    """The days of a page, from the end of the page before to its own last session, or to the end of the listing."""
    sessions: defaultdict[date, list[SessionPart]] = defaultdict(list)
    for part in shown:
        sessions[part.day].append(part)
    return tuple(
        HistoryDay(day, tuple(sessions[day.day]))
        for day in totals
        if sessions[day.day]
        or ((place is None or day.day < place.day) and (following is None or day.day > following.day))
    )
