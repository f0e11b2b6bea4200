"""Responses of the report calls, encoded by msgspec. Percentages are rounded only here."""

from datetime import date
from typing import Annotated, Any, Literal, Self

import msgspec
from msgspec import UNSET, Meta, UnsetType

from app.domain.report import ChildWeek, DayTotals, SessionPart, TitleTime, WeeklyReport
from app.http.hints import HintAnswer
from app.reports.history import HistoryDay, HistoryPage
from app.timestamps import rfc3339

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]


def seconds(duration_ms: int) -> float:
    return duration_ms / 1000


def percent(share: float | None) -> float | None:
    return None if share is None else round(share * 100, 2)


class CoViewedAnswer(msgspec.Struct, frozen=True):
    """A child that watched along."""

    profile_id: str
    profile_name: str


class SessionAnswer(msgspec.Struct, frozen=True):
    """The part of a session within this day. ``title_name`` is null for a title that no catalogue named.

    ``source`` is ``heartbeat``, or ``offline`` for playback that a device reported later; then ``device_type`` is null.
    ``ended_at`` is null while the session runs. The sessions of a day add up to its sums.
    ``together_seconds`` of it were watched with ``co_viewers``: other children of the account, counted at the same
    time on the same device with the same title. Both are absent from a session that was watched alone.
    """

    session_id: str
    title_id: str
    title_name: str | None
    device_id: str
    device_type: str | None
    source: Literal["heartbeat", "offline"]
    is_educational: bool
    started_at: Instant
    ended_at: Instant | None
    counted_seconds: float
    educational_seconds: float
    overrun_seconds: float
    total_seconds: float
    co_viewers: list[CoViewedAnswer] | UnsetType = UNSET
    together_seconds: float | UnsetType = UNSET

    @classmethod
    def of(cls, part: SessionPart, *, as_of_ms: int, max_gap_ms: int, day_ends_ms: int) -> Self:
        ended_ms = part.ended_ms(as_of_ms=as_of_ms, max_gap_ms=max_gap_ms, day_ends_ms=day_ends_ms)
        return cls(
            session_id=part.session_id,
            title_id=part.title_id,
            title_name=part.title_name,
            device_id=part.device_id,
            device_type=part.device_type,
            source=part.source.value,
            is_educational=part.is_educational,
            started_at=rfc3339(part.started_ms),
            ended_at=None if ended_ms is None else rfc3339(ended_ms),
            counted_seconds=seconds(part.counted_ms),
            educational_seconds=seconds(part.educational_ms),
            overrun_seconds=seconds(part.overrun_ms),
            total_seconds=seconds(part.total_ms),
            co_viewers=[CoViewedAnswer(each.profile_id, each.name) for each in part.co_viewers] or UNSET,
            together_seconds=seconds(part.together_ms) if part.co_viewers else UNSET,
        )


class DayAnswer(msgspec.Struct, frozen=True):
    """A viewing day with the sums of the whole day. ``limit_minutes`` null means unlimited.

    ``borrowed_seconds`` of what was counted finished a title after the limit. They are taken from the next day, as
    ``owed_seconds`` are from this one.
    """

    date: date
    counted_seconds: float
    educational_seconds: float
    overrun_seconds: float
    total_seconds: float
    limit_minutes: int | None
    borrowed_seconds: float
    owed_seconds: float


class HistoryDayAnswer(DayAnswer, frozen=True):
    """A day of a history. ``penalty_seconds`` is the charge for wrong clocks; it is not watched time."""

    penalty_seconds: float
    sessions: list[SessionAnswer]
    tamper_hints: list[HintAnswer] = []

    @classmethod
    def of(cls, day: HistoryDay, *, as_of_ms: int, max_gap_ms: int) -> Self:
        ends_ms = day.totals.ends_ms
        sessions = [
            SessionAnswer.of(part, as_of_ms=as_of_ms, max_gap_ms=max_gap_ms, day_ends_ms=ends_ms)
            for part in day.sessions
        ]
        return cls(
            **_sums(day.totals),
            penalty_seconds=seconds(day.totals.penalty_ms),
            sessions=sessions,
            tamper_hints=[HintAnswer.of(hint) for hint in day.totals.hints],
        )


class HistoryAnswer(msgspec.Struct, frozen=True):
    """Days, newest first, with all usage flushed up to ``as_of``.

    A day that spans several pages appears on each of them with the sums of the whole day.
    """

    days: list[HistoryDayAnswer]
    next_cursor: str | None
    as_of: Instant

    @classmethod
    def of(cls, page: HistoryPage, *, max_gap_ms: int) -> Self:
        days = [HistoryDayAnswer.of(day, as_of_ms=page.as_of_ms, max_gap_ms=max_gap_ms) for day in page.days]
        return cls(days=days, next_cursor=page.next_cursor, as_of=rfc3339(page.as_of_ms))


class TitleAnswer(msgspec.Struct, frozen=True):
    title_id: str
    title_name: str | None
    total_seconds: float

    @classmethod
    def of(cls, title: TitleTime) -> Self:
        return cls(title_id=title.title_id, title_name=title.name, total_seconds=seconds(title.total_ms))


class ChildAnswer(msgspec.Struct, frozen=True):
    """A child's week. ``grants`` counts grants, ``granted_minutes`` sums the limited ones.

    ``limit_usage_percent`` is the counted time of limited days as a share of their limits. Days without a limit, by
    config or by grant, are excluded; it is null without limited days. ``change_percent`` compares the total with the
    week before, null if that had no usage. ``together_seconds`` of the total were watched with other children.
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
    together_seconds: float

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
            together_seconds=seconds(week.together_ms),
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
            week_start=report.week_start, week_end=report.week_end, as_of=rfc3339(report.as_of_ms), profiles=profiles
        )


def _sums(totals: DayTotals) -> dict[str, Any]:
    return {
        "date": totals.day,
        "counted_seconds": seconds(totals.counted_ms),
        "educational_seconds": seconds(totals.educational_ms),
        "overrun_seconds": seconds(totals.overrun_ms),
        "total_seconds": seconds(totals.total_ms),
        "limit_minutes": totals.limit_minutes,
        "borrowed_seconds": seconds(totals.borrowed_ms),
        "owed_seconds": seconds(totals.owed_ms),
    }
