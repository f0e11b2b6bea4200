"""Opening hours against an oracle that reads the clock on the wall at every instant."""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.limits import LimitRules, Window
from app.domain.opening_hours import PARENT_PAUSE, WINDOW, OpeningHours, open_ranges, opening_hours_of
from app.domain.policy import MINUTE_MS, Grant, Policy
from app.domain.viewing_day import DAY_MS, HOUR_MS, Calendar, ViewingDay
from app.timestamps import ms_of

ZONES = (
    "Europe/Oslo",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kathmandu",
    "Africa/Casablanca",
    "Pacific/Apia",
)
MINUTES = st.integers(0, 287).map(lambda step: 5 * step)
WINDOWS = st.lists(
    st.builds(
        lambda days, from_minute, until_minute: Window(
            days=tuple(sorted(days)), from_minute=from_minute, until_minute=until_minute
        ),
        st.sets(st.integers(0, 6), min_size=1),
        MINUTES,
        MINUTES,
    ),
    min_size=1,
    max_size=4,
).map(tuple)
EVERY_DAY = tuple(range(7))
NIGHT = (Window(days=EVERY_DAY, from_minute=2 * 60, until_minute=2 * 60 + 30),)
OVER_MIDNIGHT = (Window(days=(5,), from_minute=20 * 60, until_minute=60),)


def is_open_by_the_wall_clock(windows: tuple[Window, ...], zone: str, at_ms: int) -> bool:
    """Whether the local time of an instant lies in a window of its date, or in one that began on the date before."""
    local = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(zone))
    minute = local.hour * 60 + local.minute
    for window in windows:
        begins_today = local.weekday() in window.days
        began_yesterday = (local.date() - timedelta(days=1)).weekday() in window.days
        if window.from_minute < window.until_minute:
            if begins_today and window.from_minute <= minute < window.until_minute:
                return True
        elif (begins_today and minute >= window.from_minute) or (began_yesterday and minute < window.until_minute):
            return True
    return False


def utc(text: str) -> int:
    return ms_of(datetime.fromisoformat(text).replace(tzinfo=UTC))


def policy(windows: tuple[Window, ...] = (), *, calendar: Calendar, **fields: object) -> Policy:
    rules = LimitRules(windows=windows) if windows else None
    return Policy("p", "a", 1, True, 1, 120, 120, True, (15, 5), calendar, rules=rules, **fields)  # type: ignore[arg-type]


def state_at(hours: OpeningHours, at_ms: int) -> str | None:
    return hours.closed_by[bisect_right(hours.begins_ms, at_ms) - 1]


@settings(max_examples=200)
@given(
    windows=WINDOWS,
    zone=st.sampled_from(ZONES),
    from_ms=st.integers(1_262_304_000, 2_051_222_400).map(lambda seconds: seconds * 1000),
    length_ms=st.integers(1, 37 * 60).map(lambda minutes: minutes * MINUTE_MS),
)
@example(windows=NIGHT, zone="Europe/Oslo", from_ms=utc("2026-03-28T05:00:00"), length_ms=23 * HOUR_MS)
@example(windows=NIGHT, zone="Europe/Oslo", from_ms=utc("2026-10-24T04:00:00"), length_ms=25 * HOUR_MS)
@example(windows=NIGHT, zone="Australia/Lord_Howe", from_ms=utc("2026-04-04T00:00:00"), length_ms=30 * HOUR_MS)
@example(windows=NIGHT, zone="Pacific/Apia", from_ms=utc("2011-12-29T16:00:00"), length_ms=30 * HOUR_MS)
def test_a_window_is_open_whenever_the_clock_on_the_wall_says_so(
    windows: tuple[Window, ...], zone: str, from_ms: int, length_ms: int
) -> None:
    found = open_ranges(windows, zone, from_ms, from_ms + length_ms)
    edges = [instant_ms for time_range in found for instant_ms in time_range]
    assert edges == sorted(set(edges)), "apart and ascending"
    steps = range(from_ms, from_ms + length_ms, MINUTE_MS)
    checked = {*steps, *edges, *(edge - 1 for edge in edges)}
    for at_ms in checked:
        if from_ms <= at_ms < from_ms + length_ms:
            is_open = any(opens_ms <= at_ms < closes_ms for opens_ms, closes_ms in found)
            assert is_open == is_open_by_the_wall_clock(windows, zone, at_ms), at_ms


class TestClockChanges:
    def test_a_window_that_the_clock_skips_does_not_exist(self) -> None:
        spring = utc("2026-03-28T05:00:00")
        assert open_ranges(NIGHT, "Europe/Oslo", spring, spring + 23 * HOUR_MS) == ()

    def test_a_window_that_the_clock_passes_twice_is_open_twice(self) -> None:
        autumn = utc("2026-10-24T04:00:00")
        assert open_ranges(NIGHT, "Europe/Oslo", autumn, autumn + 25 * HOUR_MS) == (
            (utc("2026-10-25T00:00:00"), utc("2026-10-25T00:30:00")),
            (utc("2026-10-25T01:00:00"), utc("2026-10-25T01:30:00")),
        )

    def test_a_window_over_midnight_is_of_the_day_on_which_it_begins(self) -> None:
        friday = utc("2026-03-06T00:00:00")
        assert open_ranges(OVER_MIDNIGHT, "UTC", friday, friday + 3 * DAY_MS) == (
            (utc("2026-03-07T20:00:00"), utc("2026-03-08T01:00:00")),
        )

    def test_a_window_of_24_hours_is_as_long_as_the_clock_takes(self) -> None:
        saturday = (Window(days=(5,), from_minute=6 * 60, until_minute=6 * 60),)
        spring = utc("2026-03-27T00:00:00")
        [(opens_ms, closes_ms)] = open_ranges(saturday, "Europe/Oslo", spring, spring + 4 * DAY_MS)
        assert closes_ms - opens_ms == 23 * HOUR_MS


class TestOpeningHours:
    CALENDAR = Calendar.opened(utc("2026-03-02T12:00:00"), timezone="UTC", reset_hour=6)
    DAY = CALENDAR.anchor

    def test_without_windows_and_pause_there_are_none(self) -> None:
        assert opening_hours_of(policy(calendar=self.CALENDAR), self.DAY) is None
        over = policy(calendar=self.CALENDAR, paused_until_ms=self.DAY.starts_ms)
        assert opening_hours_of(over, self.DAY) is None, "a pause that is over costs nothing"

    def test_a_window_over_the_reset_goes_on_without_a_gap(self) -> None:
        windows = (Window(days=EVERY_DAY, from_minute=4 * 60, until_minute=8 * 60),)
        hours = opening_hours_of(policy(windows, calendar=self.CALENDAR), self.DAY)
        assert hours is not None
        opens_ms, closes_ms = utc("2026-03-03T04:00:00"), utc("2026-03-03T08:00:00")
        assert hours.opens_ms(utc("2026-03-02T12:00:00")) == opens_ms
        assert hours.ends_ms(hours.place_of(opens_ms)) == closes_ms
        assert hours.closed_within(self.DAY) == ((utc("2026-03-02T08:00:00"), opens_ms),)

    def test_an_opening_after_the_day_is_found_days_ahead(self) -> None:
        hours = opening_hours_of(policy(OVER_MIDNIGHT, calendar=self.CALENDAR), self.DAY)
        assert hours is not None
        assert hours.opens_ms(self.DAY.starts_ms) == utc("2026-03-07T20:00:00")

    def test_an_opening_that_the_clock_skips_is_found_a_week_later(self) -> None:
        began_ms = utc("2026-03-23T12:00:00")
        calendar = Calendar.opened(began_ms, timezone="Europe/Oslo", reset_hour=6)
        sunday = (Window(days=(6,), from_minute=2 * 60, until_minute=3 * 60),)
        hours = opening_hours_of(policy(sunday, calendar=calendar), calendar.anchor)
        assert hours is not None
        assert hours.opens_ms(began_ms) == utc("2026-04-05T00:00:00")

    def test_an_opening_is_known_after_a_long_pause(self) -> None:
        until_ms = self.DAY.ends_ms + 4 * DAY_MS
        windows = (Window(days=EVERY_DAY, from_minute=10 * 60, until_minute=20 * 60),)
        hours = opening_hours_of(policy(windows, calendar=self.CALENDAR, paused_until_ms=until_ms), self.DAY)
        assert hours is not None
        assert hours.opens_ms(self.DAY.starts_ms) == utc("2026-03-07T10:00:00")

    @pytest.mark.parametrize("minutes", [15, 60])
    def test_extra_time_opens_for_its_minutes_from_its_instant(self, minutes: int) -> None:
        at_ms = utc("2026-03-02T21:00:00")
        grants = (Grant(self.DAY.number, minutes, 0, at_ms), Grant(self.DAY.number - 1, 60, 0, at_ms + HOUR_MS))
        hours = opening_hours_of(policy(OVER_MIDNIGHT, calendar=self.CALENDAR, grants=grants), self.DAY)
        assert hours is not None
        until_ms = at_ms + minutes * MINUTE_MS
        states = [state_at(hours, at) for at in (at_ms - HOUR_MS, at_ms, until_ms - 1, until_ms)]
        assert states == [WINDOW, None, None, WINDOW]

    def test_extra_time_twice_opens_for_the_sum(self) -> None:
        at_ms = utc("2026-03-02T21:00:00")
        grants = (Grant(self.DAY.number, 15, 0, at_ms + 5 * MINUTE_MS), Grant(self.DAY.number, 15, 0, at_ms))
        hours = opening_hours_of(policy(OVER_MIDNIGHT, calendar=self.CALENDAR, grants=grants), self.DAY)
        assert hours is not None
        assert hours.ends_ms(hours.place_of(at_ms)) == at_ms + 30 * MINUTE_MS

    def test_a_grant_without_end_opens_until_the_day_ends(self) -> None:
        at_ms = utc("2026-03-02T21:00:00")
        grants = (Grant(self.DAY.number, None, 0, at_ms),)
        hours = opening_hours_of(policy(OVER_MIDNIGHT, calendar=self.CALENDAR, grants=grants), self.DAY)
        assert hours is not None
        assert hours.ends_ms(hours.place_of(at_ms)) == self.DAY.ends_ms

    @pytest.mark.parametrize("minutes", [(60,), (None, 60)])
    def test_extra_time_opens_no_longer_than_its_day(self, minutes: tuple[int | None, ...]) -> None:
        at_ms = self.DAY.ends_ms - 20 * MINUTE_MS
        grants = tuple(Grant(self.DAY.number, each, 0, at_ms) for each in minutes)
        extended = policy(OVER_MIDNIGHT, calendar=self.CALENDAR, grants=grants)
        [following] = self.CALENDAR.days_after(self.DAY, until_ms=self.DAY.ends_ms)
        today, tomorrow = opening_hours_of(extended, self.DAY), opening_hours_of(extended, following)
        assert today is not None
        assert tomorrow is not None
        assert state_at(tomorrow, following.starts_ms) == WINDOW
        assert today.ends_ms(today.place_of(at_ms)) == self.DAY.ends_ms, (
            "what a player is told must hold after the reset"
        )

    def test_a_pause_closes_windows_and_extra_time(self) -> None:
        at_ms = utc("2026-03-02T21:00:00")
        grants = (Grant(self.DAY.number, 60, 0, at_ms),)
        until_ms = at_ms + 10 * MINUTE_MS
        hours = opening_hours_of(
            policy(OVER_MIDNIGHT, calendar=self.CALENDAR, grants=grants, paused_until_ms=until_ms), self.DAY
        )
        assert hours is not None
        states = [state_at(hours, at) for at in (at_ms, until_ms - 1, until_ms, at_ms + HOUR_MS)]
        assert states == [PARENT_PAUSE, PARENT_PAUSE, None, WINDOW]

    def test_a_new_zone_acts_on_windows_when_its_day_begins(self) -> None:
        noon_ms = utc("2026-03-02T12:00:00")
        windows = (Window(days=EVERY_DAY, from_minute=10 * 60, until_minute=20 * 60),)
        moved = self.CALENDAR.changed(noon_ms, timezone="Asia/Tokyo", reset_hour=6)
        hours = opening_hours_of(policy(windows, calendar=moved), self.DAY)
        assert hours is not None
        for at_ms in range(noon_ms, moved.days_after(self.DAY, until_ms=self.DAY.ends_ms)[0].ends_ms, 5 * MINUTE_MS):
            day: ViewingDay = moved.day_at(at_ms)
            zone = "UTC" if day == self.DAY else "Asia/Tokyo"
            assert (state_at(hours, at_ms) is None) == is_open_by_the_wall_clock(windows, zone, at_ms), at_ms
