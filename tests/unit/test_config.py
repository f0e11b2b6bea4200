"""The effect of a change on a child's config."""

import pytest

from app.domain.config import Config, ConfigChange
from app.domain.viewing_day import Calendar
from app.errors import InvalidInput

NOON = 1_772_452_800_000  # 2026-03-02 12:00 UTC, a Monday; Oslo's day runs from 05:00 to 05:00 UTC
RESET = NOON + 17 * 3_600_000


@pytest.fixture
def config() -> Config:
    return Config(
        version=7,
        weekday_limit_minutes=120,
        weekend_limit_minutes=180,
        reset_hour=6,
        timezone="Europe/Oslo",
        educational_exempt=True,
        warning_minutes=(15, 5),
        limits_reviewed=False,
        calendar=Calendar.opened(NOON - 86_400_000, timezone="Europe/Oslo", reset_hour=6),
    )


def test_nothing_asked_confirms_what_is_there(config: Config) -> None:
    confirmed = config.changed(ConfigChange(), at_ms=NOON)
    assert (confirmed.version, confirmed.limits_reviewed) == (8, True)
    assert confirmed.calendar is config.calendar
    assert (confirmed.weekday_limit_minutes, confirmed.warning_minutes) == (120, (15, 5))


def test_only_what_is_named_changes(config: Config) -> None:
    changed = config.changed(ConfigChange(weekday_limit_minutes=60, educational_exempt=False), at_ms=NOON)
    assert (changed.weekday_limit_minutes, changed.weekend_limit_minutes) == (60, 180)
    assert not changed.educational_exempt
    assert changed.calendar is config.calendar


def test_null_means_unlimited(config: Config) -> None:
    lifted = config.changed(ConfigChange(weekday_limit_minutes=None, weekend_limit_minutes=None), at_ms=NOON)
    assert (lifted.weekday_limit_minutes, lifted.weekend_limit_minutes) == (None, None)


@pytest.mark.parametrize(
    ("change", "pointers"),
    [
        (ConfigChange(weekday_limit_minutes=None), ["/weekday_limit_minutes"]),
        (ConfigChange(weekend_limit_minutes=None), ["/weekend_limit_minutes"]),
        (
            ConfigChange(weekday_limit_minutes=None, weekend_limit_minutes=60),
            ["/weekday_limit_minutes", "/weekend_limit_minutes"],
        ),
    ],
)
def test_one_limit_alone_is_refused_after_merging(config: Config, change: ConfigChange, pointers: list[str]) -> None:
    with pytest.raises(InvalidInput) as refusal:
        config.changed(change, at_ms=NOON)
    assert [error.get("pointer", "") for error in refusal.value.errors] == pointers


def test_a_new_hour_waits_for_the_running_day_to_end(config: Config) -> None:
    running = config.calendar.day_at(NOON)
    changed = config.changed(ConfigChange(reset_hour=9), at_ms=NOON)
    assert changed.calendar.day_at(NOON) == running
    pending = changed.calendar.pending(NOON)
    assert pending is not None
    assert (pending.effective_ms, pending.reset_hour, pending.timezone) == (RESET, 9, "Europe/Oslo")
    assert changed.calendar.pending(RESET) is None


def test_taking_a_pending_change_back_leaves_none(config: Config) -> None:
    there = config.changed(ConfigChange(timezone="Pacific/Apia"), at_ms=NOON)
    back = there.changed(ConfigChange(timezone="Europe/Oslo"), at_ms=NOON + 1)
    assert back.calendar.pending(NOON + 1) is None
    assert back.calendar.day_at(RESET) == config.calendar.day_at(RESET)


def test_a_pending_change_survives_other_changes(config: Config) -> None:
    pending = config.changed(ConfigChange(reset_hour=9), at_ms=NOON)
    assert pending.changed(ConfigChange(weekday_limit_minutes=15), at_ms=NOON + 1).calendar == pending.calendar
