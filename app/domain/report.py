"""What parents read about past viewing days: rows as they were flushed, and what they add up to."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple

import msgspec

from app.domain.co_viewing import CoViewed, Overlap
from app.domain.policy import MINUTE_MS
from app.domain.tampering import TamperHint
from app.domain.viewing_day import DAY_MS, HOUR_MS, Calendar, ViewingDay, day_number_of, reset_ms

WEEK = 7
TOP_TITLES = 3
_EASTMOST_MS = 14 * HOUR_MS
_LATEST_END_MS = 3 * DAY_MS
"""After the midnight (UTC) with which the date begins: 12 h of zone, 23 h of reset hour, and a day of 37 h."""


class Viewer(msgspec.Struct, frozen=True, kw_only=True):
    """The profile of a report. ``calendar`` is None for an adult."""

    account_id: str
    profile_id: str
    name: str
    timezone: str
    calendar: Calendar | None


class DayAsked(msgspec.Struct, frozen=True):
    """A viewing day to be reported, and when it ended."""

    profile_id: str
    day: date
    ends_ms: int


class DayTotals(msgspec.Struct, frozen=True, kw_only=True):
    """One viewing day of one child; all zero when nothing was watched.

    ``limit_minutes`` is the limit that the day ended with, None for unlimited (or for a day before there was a limit).
    ``is_lifted``: a grant had lifted it by then. ``hints`` of tampering are known to the history alone. ``borrowed_ms``
    of what was counted were taken from the next day to finish a title; ``owed_ms`` were taken from this day so.
    """

    day: date
    counted_ms: int = 0
    educational_ms: int = 0
    overrun_ms: int = 0
    penalty_ms: int = 0
    limit_minutes: int | None = None
    is_lifted: bool = False
    starts_ms: int = 0
    ends_ms: int = 0
    hints: tuple[TamperHint, ...] = ()
    borrowed_ms: int = 0
    owed_ms: int = 0

    @property
    def total_ms(self) -> int:
        return self.counted_ms + self.educational_ms + self.overrun_ms


class Source(StrEnum):
    """How a session became known."""

    HEARTBEAT = "heartbeat"
    OFFLINE = "offline"


class SessionPart(msgspec.Struct, frozen=True, kw_only=True):
    """The share of a session that lies in one viewing day. ``title_name`` is None for a title we do not know.

    ``uncounted`` are the time ranges of it, in ms, in which nothing was counted. An offline sync does not tell the type
    of its device. ``co_viewers`` watched along for ``together_ms`` of it.
    """

    session_id: str
    day: date
    title_id: str
    title_name: str | None
    device_id: str
    device_type: str | None
    is_educational: bool
    started_ms: int
    last_beat_ms: int
    has_ended: bool
    counted_ms: int
    educational_ms: int
    overrun_ms: int
    source: Source = Source.HEARTBEAT
    uncounted: tuple[tuple[int, int], ...] = ()
    co_viewers: tuple[CoViewed, ...] = ()
    together_ms: int = 0

    @property
    def total_ms(self) -> int:
        return self.counted_ms + self.educational_ms + self.overrun_ms

    def ended_ms(self, *, as_of_ms: int, max_gap_ms: int, day_ends_ms: int) -> int | None:
        """When this part ended, as known at ``as_of_ms``; None while it runs.

        A session that outlived its day has no beat at the reset: what it was credited until then shows that it went on.
        """
        is_over = self.has_ended or as_of_ms - self.last_beat_ms > max_gap_ms or as_of_ms >= day_ends_ms
        return max(self.last_beat_ms, self.started_ms + self.total_ms) if is_over else None


class Granted(msgspec.Struct, frozen=True):
    """Extra time given: how often, how many minutes in all, and how often without limit."""

    count: int = 0
    minutes: int = 0
    unlimited: int = 0


class ReportedDay(msgspec.Struct, frozen=True):
    """A day of a child with what was granted on it."""

    totals: DayTotals
    granted: Granted


class TitleTime(msgspec.Struct, frozen=True):
    """The watched time of a title. ``name`` is None for an unknown title."""

    title_id: str
    name: str | None
    total_ms: int


class Watched(NamedTuple):
    """The titles that each profile watched longest, and sessions that overlap one of another child of the account."""

    titles: Mapping[str, Sequence[TitleTime]]
    overlaps: Sequence[Overlap]


class ChildWeek(msgspec.Struct, frozen=True):
    """Seven viewing days of a child, and the total of the seven before them.

    ``together_ms`` of the seven days were watched with other children.
    """

    profile_id: str
    profile_name: str
    days: tuple[DayTotals, ...]
    previous_ms: int
    granted: Granted
    top_titles: tuple[TitleTime, ...] = ()
    together_ms: int = 0

    @property
    def total_ms(self) -> int:
        return sum(day.total_ms for day in self.days)

    @property
    def counted_ms(self) -> int:
        return sum(day.counted_ms for day in self.days)

    @property
    def educational_ms(self) -> int:
        return sum(day.educational_ms for day in self.days)

    @property
    def average_daily_ms(self) -> float:
        return self.total_ms / len(self.days)

    @property
    def limit_usage(self) -> float | None:
        """The share of the limits that was used, 1 = all.

        Days that were unlimited, by settings or by a grant, are left out on both sides; None if all were.
        """
        limited = [
            (day.counted_ms, day.limit_minutes)
            for day in self.days
            if day.limit_minutes is not None and not day.is_lifted
        ]
        limits_ms = sum(minutes * MINUTE_MS for _, minutes in limited)
        return sum(counted_ms for counted_ms, _ in limited) / limits_ms if limits_ms else None

    @property
    def change(self) -> float | None:
        """Growth against the week before, 1 = twice as much; None when nothing was watched then."""
        return self.total_ms / self.previous_ms - 1 if self.previous_ms else None


class WeeklyReport(msgspec.Struct, frozen=True, kw_only=True):
    """Seven viewing days, ``week_start`` to ``week_end``, of each child in the order of their creation."""

    week_start: date
    week_end: date
    as_of_ms: int
    children: tuple[ChildWeek, ...]


def child_week(
    profile_id: str,
    profile_name: str,
    days: Sequence[ReportedDay],
    *,
    week_end: date,
    titles: Sequence[TitleTime],
    together_ms: int = 0,
) -> ChildWeek:
    """Put the week that ends with ``week_end`` together from two weeks of days, in any order."""
    first = week_end - timedelta(days=WEEK - 1)
    by_date = {reported.totals.day: reported for reported in days}
    this_week = [by_date[first + timedelta(days=place)] for place in range(WEEK)]
    return ChildWeek(
        profile_id,
        profile_name,
        days=tuple(reported.totals for reported in this_week),
        previous_ms=sum(reported.totals.total_ms for reported in days if reported.totals.day < first),
        granted=Granted(
            count=sum(reported.granted.count for reported in this_week),
            minutes=sum(reported.granted.minutes for reported in this_week),
            unlimited=sum(reported.granted.unlimited for reported in this_week),
        ),
        top_titles=tuple(titles),
        together_ms=together_ms,
    )


def last_finished_day(calendar: Calendar, at_ms: int) -> date:
    """The name of the viewing day before the one that runs."""
    days = _days_to(calendar, at_ms)
    if len(days) > 1:
        return days[-2].date
    return calendar.day_at(calendar.day_at(at_ms).starts_ms - 1).date


def ends_of(calendar: Calendar, days: Sequence[date], *, at_ms: int) -> list[int]:
    """When viewing days ended. Those that the calendar no longer knows are taken to have followed its first rule."""
    rule = calendar.rules[0]
    known = {day.number: day.ends_ms for day in _days_to(calendar, at_ms)}
    numbers = [day_number_of(day) for day in days]
    return [known.get(number) or reset_ms(number + 1, rule.timezone, rule.reset_hour) for number in numbers]


def likely_span_ms(first: date, last: date) -> tuple[int, int]:
    """From when to when the viewing days of these names lasted, in whatever zone.

    Changes of the zone may have moved names away from their dates: see ``lie_within``.
    """
    return day_number_of(first) * DAY_MS - _EASTMOST_MS, day_number_of(last) * DAY_MS + _LATEST_END_MS


def lie_within(days: Sequence[DayTotals], span_ms: tuple[int, int]) -> bool:
    """Whether all of these days on which something was counted lasted within a span."""
    from_ms, until_ms = span_ms
    return all(from_ms <= day.starts_ms and day.ends_ms <= until_ms for day in days if day.ends_ms)


@lru_cache(maxsize=128)
def _days_to(calendar: Calendar, at_ms: int) -> tuple[ViewingDay, ...]:
    """The days that the calendar knows, up to the running one. A report asks for those of each child twice."""
    return (calendar.anchor, *calendar.days_after(calendar.anchor, until_ms=at_ms))
