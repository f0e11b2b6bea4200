"""The limit of a day against an oracle that reads a calendar."""

from datetime import date, timedelta

from hypothesis import example, given
from hypothesis import strategies as st

from app.domain.limits import DailyLimits, LimitRules, weekday_of
from app.domain.viewing_day import day_number_of

NAMES = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
MINUTES = st.none() | st.sampled_from([15, 30, 60, 120, 480])
DAYS = st.dates(date(2024, 1, 1), date(2032, 12, 31))
WEEKENDS = st.sampled_from([(5, 6), (4, 5), (4,), ()])
HOLIDAYS = st.lists(st.tuples(DAYS, st.integers(0, 40)), max_size=4)


@given(DAYS)
def test_days_are_known_by_the_weekday_of_their_name(day: date) -> None:
    assert NAMES[weekday_of(day_number_of(day))] == day.strftime("%a").lower()


@given(
    day=DAYS,
    old=st.tuples(MINUTES, MINUTES),
    week=st.none() | st.tuples(*[MINUTES] * 7),
    holidays=HOLIDAYS,
    weekend=WEEKENDS,
)
@example(day=date(2026, 12, 24), old=(1, 2), week=None, holidays=[(date(2026, 12, 24), 0)], weekend=(5, 6))
@example(
    day=date(2026, 12, 25), old=(1, 2), week=(1, 2, 3, 4, 5, 6, 7), holidays=[(date(2026, 12, 24), 1)], weekend=(5, 6)
)
@example(
    day=date(2026, 12, 27), old=(1, 2), week=(1, 2, 3, 4, 5, 6, 7), holidays=[(date(2026, 12, 24), 9)], weekend=(5, 6)
)
def test_the_name_of_a_day_decides_its_limit(
    day: date,
    old: tuple[int | None, int | None],
    week: tuple[int | None, ...] | None,
    holidays: list[tuple[date, int]],
    weekend: tuple[int, ...],
) -> None:
    free = {first + timedelta(days=more) for first, length in holidays for more in range(length + 1)}
    weekend_names = [NAMES[place] for place in weekend]
    name = day.strftime("%a").lower()
    if week is None:
        expected = old[1] if name in weekend_names or day in free else old[0]
    else:
        by_name = dict(zip(NAMES, week, strict=True))
        expected = by_name[name]
        if day in free and name not in weekend_names and weekend_names:
            expected = by_name[weekend_names[0]]
    ranges = tuple((day_number_of(first), day_number_of(first) + length) for first, length in holidays)
    limits = DailyLimits(*old, LimitRules(daily_limits=week, holidays=ranges))  # type: ignore[arg-type]
    assert limits.minutes_on(day_number_of(day), weekend_days=weekend) == expected
    assert limits.has_any == any(minutes is not None for minutes in (old if week is None else week))
    if week is None and not holidays:
        assert limits.minutes_on(day_number_of(day), weekend_days=weekend) == DailyLimits(*old).minutes_on(
            day_number_of(day), weekend_days=weekend
        )
