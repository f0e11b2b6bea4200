"""The budget of a caregiver, and the day it is for."""

import hypothesis
import pytest
from hypothesis import strategies as st

from app.domain.caregivers import Budget, budget_day
from app.errors import BudgetExhausted
from app.timestamps import utc

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
HOUR = 3_600_000


def _budget(granted: int) -> Budget:
    return Budget(daily_minutes=60, granted_minutes=granted, renews_ms=NOON)


@pytest.mark.parametrize(("granted", "minutes"), [(0, 60), (45, 15), (30, 30)])
def test_a_grant_that_fits_passes(granted: int, minutes: int) -> None:
    _budget(granted).require(minutes)


@pytest.mark.parametrize(("granted", "minutes", "left"), [(45, 30, 15), (60, 15, 0), (75, 15, 0), (0, None, 60)])
def test_a_grant_that_does_not_fit_says_what_is_left(granted: int, minutes: int | None, left: int) -> None:
    """No limit until the day ends never fits; a budget that was lowered leaves nothing, not less."""
    with pytest.raises(BudgetExhausted) as refused:
        _budget(granted).require(minutes)
    assert refused.value.extra == {"left_minutes": left}


@hypothesis.given(
    at_ms=st.integers(1_700_000_000_000, 1_900_000_000_000),
    zone=st.sampled_from(["Europe/Oslo", "Pacific/Kiritimati", "America/Havana", "Asia/Beirut", "UTC"]),
)
def test_days_of_an_account_follow_each_other_and_hold_their_instant(at_ms: int, zone: str) -> None:
    day = budget_day(zone, at_ms)
    assert day.holds(at_ms)
    assert budget_day(zone, day.ends_ms).starts_ms == day.ends_ms
    assert 22 * HOUR <= day.ends_ms - day.starts_ms <= 26 * HOUR


def test_a_day_of_the_account_begins_at_midnight_in_its_zone() -> None:
    assert utc(budget_day("Europe/Oslo", NOON).starts_ms).isoformat() == "2026-03-01T23:00:00+00:00"
