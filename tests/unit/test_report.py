"""Sums of the days of a week."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from app.domain.report import (
    ChildWeek,
    DayTotals,
    Granted,
    ReportedDay,
    SessionPart,
    child_week,
    ends_of,
    last_finished_day,
)
from app.domain.viewing_day import Calendar, date_of

MINUTE = 60_000
HOUR = 60 * MINUTE
NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
END = date(2026, 3, 1)

times = st.integers(0, 30 * HOUR)
limits = st.none() | st.integers(1, 32).map(lambda quarters: quarters * 15)


@given(st.lists(st.tuples(times, times, times, limits, st.integers(0, 3)), min_size=14, max_size=14))
def test_a_week_is_the_sum_of_its_days(rows: list[tuple[int, int, int, int | None, int]]) -> None:
    days = [
        ReportedDay(
            DayTotals(
                day=END - timedelta(days=age),
                counted_ms=counted,
                educational_ms=educational,
                overrun_ms=overrun,
                limit_minutes=limit,
            ),
            Granted(grants, grants * 15, 0),
        )
        for age, (counted, educational, overrun, limit, grants) in enumerate(rows)
    ]
    week = child_week("child", "Ada", days, week_end=END, titles=())
    assert [day.day for day in week.days] == [END - timedelta(days=age) for age in range(6, -1, -1)]
    assert week.total_ms == sum(sum(row[:3]) for row in rows[:7])
    assert week.previous_ms == sum(sum(row[:3]) for row in rows[7:])
    assert week.granted.count == sum(row[4] for row in rows[:7])
    assert week.average_daily_ms * 7 == week.total_ms or abs(week.average_daily_ms * 7 - week.total_ms) < 1
    limited = [row for row in rows[:7] if row[3] is not None]
    if limited:
        share = sum(row[0] for row in limited) / sum((row[3] or 0) * MINUTE for row in limited)
        assert week.limit_usage == share
    else:
        assert week.limit_usage is None
    assert (week.change is None) == (week.previous_ms == 0)


def test_change_is_growth() -> None:
    def change(total_ms: int, previous_ms: int) -> float | None:
        days = (DayTotals(day=END, counted_ms=total_ms),)
        return ChildWeek("child", "Ada", days, previous_ms, Granted()).change

    assert [change(20, 10), change(5, 10), change(0, 10), change(10, 10), change(7, 0)] == [1, -0.5, -1, 0, None]


def test_the_last_finished_day_is_the_one_before_the_running_one() -> None:
    calendar = Calendar.opened(NOON - 40 * 24 * HOUR, timezone="Europe/Oslo", reset_hour=6)
    reset = NOON - 7 * HOUR
    assert last_finished_day(calendar, NOON) == date(2026, 3, 1)
    assert last_finished_day(calendar, reset) == date(2026, 3, 1)
    assert last_finished_day(calendar, reset - 1) == date(2026, 2, 28)


def test_the_last_finished_day_is_known_after_long_absences_too() -> None:
    opened = Calendar.opened(NOON, timezone="Europe/Oslo", reset_hour=6)
    calendar = opened.changed(NOON + 24 * HOUR, timezone="Pacific/Auckland", reset_hour=1)
    for days_later in range(0, 500, 7):
        at_ms = NOON + days_later * 24 * HOUR
        before = calendar.day_at(calendar.day_at(at_ms).starts_ms - 1)
        assert last_finished_day(calendar, at_ms) == before.date


def test_a_day_before_the_first_one_has_ended_too() -> None:
    calendar = Calendar.opened(NOON, timezone="Europe/Oslo", reset_hour=6)
    assert last_finished_day(calendar, NOON) == date(2026, 3, 1)


def test_ends_follow_the_calendar_where_it_knows_them() -> None:
    opened = Calendar.opened(NOON - 40 * 24 * HOUR, timezone="Europe/Oslo", reset_hour=6)
    calendar = opened.changed(NOON - 5 * 24 * HOUR, timezone="America/New_York", reset_hour=9)
    at_ms = NOON + 5 * 24 * HOUR
    day = calendar.day_at(NOON - 10 * 24 * HOUR)
    while day.ends_ms <= at_ms:
        assert ends_of(calendar, [day.date], at_ms=at_ms) == [day.ends_ms]
        day = calendar.day_at(day.ends_ms)
    numbers = [day.number - age for age in range(300)]
    ends = ends_of(calendar, [date_of(number) for number in numbers], at_ms=at_ms)
    assert sorted(ends, reverse=True) == ends


def _part(**changes: object) -> SessionPart:
    values: dict[str, object] = {
        "session_id": "s",
        "day": END,
        "title_id": "t",
        "title_name": None,
        "device_id": "d",
        "device_type": "tv",
        "is_educational": False,
        "started_ms": 1000,
        "last_beat_ms": 31_000,
        "has_ended": False,
        "counted_ms": 30_000,
        "educational_ms": 0,
        "overrun_ms": 0,
    }
    return SessionPart(**(values | changes))  # type: ignore[arg-type]


def test_a_session_has_ended_when_told_silent_or_out_of_its_day() -> None:
    def ended(part: SessionPart, as_of_ms: int = 40_000, day_ends_ms: int = HOUR) -> int | None:
        return part.ended_ms(as_of_ms=as_of_ms, max_gap_ms=300_000, day_ends_ms=day_ends_ms)

    assert ended(_part()) is None
    assert ended(_part(has_ended=True)) == 31_000
    assert ended(_part(), as_of_ms=331_000) is None
    assert ended(_part(), as_of_ms=331_001) == 31_000
    assert ended(_part(counted_ms=39_000), day_ends_ms=40_000) == 40_000
