"""Partitions are whole weeks and months in the ranges without a partition."""

from datetime import date, timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from app.domain.viewing_day import DAY_MS, day_number_of
from app.postgres_store.partitions import BALANCES, SESSIONS, PeriodOf, gaps, month_of, periods, week_of

days = st.dates(date(2020, 1, 1), date(2040, 12, 31))
spans = st.integers(0, 500)
kinds = st.sampled_from([SESSIONS.period_of, BALANCES.period_of])


def _ms(day: date) -> int:
    return day_number_of(day) * DAY_MS


@given(kinds, days, spans)
def test_periods_follow_each_other_without_a_gap(period_of: PeriodOf, first: date, span: int) -> None:
    last = first + timedelta(days=span)
    found = list(periods(period_of, first, last))
    assert found[0][0] <= _ms(first) < found[0][1]
    assert found[-1][0] <= _ms(last) < found[-1][1]
    assert all(one[1] == following[0] for one, following in pairwise(found))


@given(days)
def test_a_week_begins_on_monday_and_a_month_on_its_first(day: date) -> None:
    monday, next_monday = week_of(day)
    assert (monday.weekday(), (next_monday - monday).days) == (0, 7)
    assert monday <= day < next_monday
    first, next_first = month_of(day)
    assert (first.day, next_first.day) == (1, 1)
    assert first <= day < next_first
    assert (next_first - first).days <= 31


@given(kinds, days, spans, st.lists(st.tuples(st.integers(-40 * 24, 540 * 24), st.integers(1, 50 * 24)), max_size=8))
def test_only_what_is_free_is_filled(
    period_of: PeriodOf, first: date, span: int, taken_hours: list[tuple[int, int]]
) -> None:
    taken, until_ms = [], 0
    for begins_hours, hours in sorted(taken_hours):
        begins_ms = _ms(first) + begins_hours * 3_600_000
        if begins_ms >= until_ms:
            until_ms = begins_ms + hours * 3_600_000
            taken.append((begins_ms, until_ms))
    wanted = list(periods(period_of, first, first + timedelta(days=span)))
    free = gaps(wanted, reversed(taken))
    assert all(begins_ms < ends_ms for begins_ms, ends_ms in free)
    together = sorted([*free, *taken])
    assert all(one[1] <= following[0] for one, following in pairwise(together)), "ranges overlap"
    covered_ms = wanted[0][0]
    for begins_ms, ends_ms in together:
        if begins_ms <= covered_ms:
            covered_ms = max(covered_ms, ends_ms)
    assert covered_ms >= wanted[-1][1], "ranges leave a gap"
    assert all(any(begins_ms >= week[0] and ends_ms <= week[1] for week in wanted) for begins_ms, ends_ms in free)
    assert gaps(wanted, together) == []


def test_weeks_begin_where_the_last_month_ended() -> None:
    months = list(periods(month_of, date(2026, 9, 1), date(2026, 11, 25)))
    weeks = periods(week_of, date(2026, 11, 25), date(2026, 12, 20))
    assert gaps(weeks, months) == [
        (_ms(date(2026, 12, 1)), _ms(date(2026, 12, 7))),
        (_ms(date(2026, 12, 7)), _ms(date(2026, 12, 14))),
        (_ms(date(2026, 12, 14)), _ms(date(2026, 12, 21))),
    ]
