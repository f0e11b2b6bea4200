"""When a pause by a parent ends, and what it does to a policy."""

from app.domain.opening_hours import PARENT_PAUSE, opening_hours_of
from app.domain.pauses import pause_end_ms, with_pause
from app.domain.policy import Policy
from app.domain.viewing_day import Calendar

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday
HOUR = 3_600_000
CALENDAR = Calendar.opened(NOON, timezone="Europe/Oslo", reset_hour=6)
CHILD = Policy("child", "account", 4, True, 1, 120, 180, True, (15, 5), CALENDAR)


def test_a_pause_lasts_its_minutes_also_into_the_next_day() -> None:
    day = CALENDAR.day_at(NOON)
    assert pause_end_ms(30, day, at_ms=NOON) == NOON + HOUR // 2
    assert pause_end_ms(1440, day, at_ms=NOON) == NOON + 24 * HOUR > day.ends_ms


def test_a_pause_without_minutes_ends_with_the_running_day() -> None:
    day = CALENDAR.day_at(NOON)
    assert pause_end_ms(None, day, at_ms=NOON) == day.ends_ms
    assert pause_end_ms(None, day, at_ms=day.ends_ms - 1) == day.ends_ms


def test_a_paused_policy_is_newer_and_closed_until_the_pause_ends() -> None:
    paused = with_pause(CHILD, NOON + HOUR)
    assert paused.version == CHILD.version + 1
    hours = opening_hours_of(paused, CALENDAR.day_at(NOON))
    assert hours is not None
    assert hours.closed_by[hours.place_of(NOON)] == PARENT_PAUSE
    assert hours.opens_ms(NOON) == NOON + HOUR
    assert opening_hours_of(with_pause(paused, None), CALENDAR.day_at(NOON)) is None
