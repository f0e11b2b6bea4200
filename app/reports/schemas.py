"""What the report calls answer, encoded by msgspec. Percentages are rounded here and nowhere else."""

from datetime import date, datetime
from typing import Annotated, Any, Self

import msgspec
from msgspec import Meta

from app.domain.report import ChildWeek, DayTotals, SessionPart, TitleTime, WeeklyReport
from app.instants import utc
from app.reports.history import HistoryDay, HistoryPage

Instant = Annotated[datetime, Meta(tz=True)]


def seconds(duration_ms: int) -> float:
    return duration_ms / 1000


def percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


class SessionAnswer(msgspec.Struct, frozen=True):
    """The share of a session that lies in this day. ``title_name`` is null for a title that left the catalogue.

    ``ended_at`` is null while the session runs.
    """

    session_id: str
    title_id: str
    title_name: str | None
    device_id: str
    device_type: str
    is_educational: bool
    started_at: Instant
    ended_at: Instant | None
    counted_seconds: float
    educational_seconds: float
    total_seconds: float

    @classmethod
    def of(cls, part: SessionPart, *, as_of_ms: int, max_gap_ms: int, day_ends_ms: int) -> Self:
        ended_ms = part.ended_ms(as_of_ms=as_of_ms, max_gap_ms=max_gap_ms, day_ends_ms=day_ends_ms)
        return cls(
            session_id=part.session_id,
            title_id=part.title_id,
            title_name=part.title_name,
            device_id=part.device_id,
            device_type=part.device_type,
            is_educational=part.is_educational,
            started_at=utc(part.started_ms),
            ended_at=None if ended_ms is None else utc(ended_ms),
            counted_seconds=seconds(part.counted_ms),
            educational_seconds=seconds(part.educational_ms),
            total_seconds=seconds(part.total_ms),
        )


class DayAnswer(msgspec.Struct, frozen=True):
    """A viewing day. The sums are those of the whole day; ``limit_minutes`` null means unlimited."""

    date: date
    counted_seconds: float
    educational_seconds: float
    overrun_seconds: float
    total_seconds: float
    limit_minutes: int | None


class HistoryDayAnswer(DayAnswer, frozen=True):
    sessions: list[SessionAnswer]

    @classmethod
    def of(cls, day: HistoryDay, *, as_of_ms: int, max_gap_ms: int) -> Self:
        ends_ms = day.totals.ends_ms
        sessions = [
            SessionAnswer.of(part, as_of_ms=as_of_ms, max_gap_ms=max_gap_ms, day_ends_ms=ends_ms)
            for part in day.sessions
        ]
        return cls(**_sums(day.totals), sessions=sessions)


class HistoryAnswer(msgspec.Struct, frozen=True):
    """Days, newest first, with everything that was flushed up to ``as_of``.

    A day whose sessions fill more than one page is on each of them, every time with the sums of the whole day.
    """

    days: list[HistoryDayAnswer]
    next_cursor: str | None
    as_of: Instant

    @classmethod
    def of(cls, page: HistoryPage, *, max_gap_ms: int) -> Self:
        days = [HistoryDayAnswer.of(day, as_of_ms=page.as_of_ms, max_gap_ms=max_gap_ms) for day in page.days]
        return cls(days=days, next_cursor=page.next_cursor, as_of=utc(page.as_of_ms))


class TitleAnswer(msgspec.Struct, frozen=True):
    title_id: str
    title_name: str | None
    total_seconds: float

    @classmethod
    def of(cls, title: TitleTime) -> Self:
        return cls(title_id=title.title_id, title_name=title.name, total_seconds=seconds(title.total_ms))


class ChildAnswer(msgspec.Struct, frozen=True):
    """A child's week. ``grants`` counts the extra time given, ``granted_minutes`` sums up what had an end.

    ``limit_usage_percent`` is the counted time of the days that had a limit as a share of those limits, null if none
    had one. ``change_percent`` compares the total with the week before, null if nothing was watched then.
    """

    profile_id: str
    profile_name: str
    daily: list[DayAnswer]
    average_daily_seconds: float
    total_seconds: float
    counted_seconds: float
    educational_seconds: float
    limit_usage_percent: float | None
    top_titles: list[TitleAnswer]
    grants: int
    granted_minutes: int
    unlimited_grants: int
    change_percent: float | None

    @classmethod
    def of(cls, week: ChildWeek) -> Self:
        return cls(
            profile_id=week.profile_id,
            profile_name=week.profile_name,
            daily=[DayAnswer(**_sums(day)) for day in week.days],
            average_daily_seconds=seconds(round(week.average_daily_ms)),
            total_seconds=seconds(week.total_ms),
            counted_seconds=seconds(week.counted_ms),
            educational_seconds=seconds(week.educational_ms),
            limit_usage_percent=percent(week.limit_usage),
            top_titles=[TitleAnswer.of(title) for title in week.top_titles],
            grants=week.granted.count,
            granted_minutes=week.granted.minutes,
            unlimited_grants=week.granted.unlimited,
            change_percent=percent(week.change),
        )


class WeeklyAnswer(msgspec.Struct, frozen=True):
    """Seven whole viewing days of every child of the account."""

    week_start: date
    week_end: date
    as_of: Instant
    profiles: list[ChildAnswer]

    @classmethod
    def of(cls, report: WeeklyReport) -> Self:
        profiles = [ChildAnswer.of(week) for week in report.children]
        return cls(
            week_start=report.week_start, week_end=report.week_end, as_of=utc(report.as_of_ms), profiles=profiles
        )


def _sums(totals: DayTotals) -> dict[str, Any]:
    return {
        "date": totals.day,
        "counted_seconds": seconds(totals.counted_ms),
        "educational_seconds": seconds(totals.educational_ms),
        "overrun_seconds": seconds(totals.overrun_ms),
        "total_seconds": seconds(totals.total_ms),
        "limit_minutes": totals.limit_minutes,
    }
