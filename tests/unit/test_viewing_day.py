"""Viewing days: special cases by hand, all others by properties."""

from bisect import bisect_right
from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.viewing_day import (
    DAY_MS,
    HOUR_MS,
    LONG_ABSENCE_MS,
    TIMEZONES,
    Calendar,
    ViewingDay,
    day_number_of,
    next_day,
    reset_ms,
)

MINUTE_MS = 60_000
OSLO = "Europe/Oslo"


def utc_ms(text: str) -> int:
    """An instant written in UTC."""
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def local_ms(text: str, zone: str) -> int:
    """An instant written in local time, the first one where it occurs twice."""
    return int(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 1000


def local(at_ms: int, zone: str) -> datetime:
    return datetime.fromtimestamp(at_ms // 1000, ZoneInfo(zone))


def hours(day: ViewingDay) -> float:
    return (day.ends_ms - day.starts_ms) / HOUR_MS


def reset(day: str, zone: str, hour: int) -> int:
    return reset_ms(day_number_of(date.fromisoformat(day)), zone, hour)


def named(day: ViewingDay) -> str:
    return day.date.isoformat()


def walked(calendar: Calendar, last: ViewingDay, *, until_ms: int) -> list[ViewingDay]:
    """The days after ``last``, one at a time, so that none is skipped."""
    days = []
    while last.ends_ms <= until_ms:
        [last] = calendar.days_after(last, until_ms=last.ends_ms)
        days.append(last)
    return days


class TestResets:
    def test_an_ordinary_day_begins_and_ends_at_the_reset_hour_and_bears_the_date_on_which_it_began(self) -> None:
        calendar = Calendar.opened(local_ms("2026-06-13T02:00", OSLO), timezone=OSLO, reset_hour=6)
        friday_night = calendar.day_at(local_ms("2026-06-13T05:59:59", OSLO))
        assert named(friday_night) == "2026-06-12"
        assert friday_night.starts_ms == local_ms("2026-06-12T06:00", OSLO)
        assert friday_night.ends_ms == local_ms("2026-06-13T06:00", OSLO)
        assert named(calendar.day_at(friday_night.ends_ms)) == "2026-06-13"

    def test_the_day_in_which_spring_loses_an_hour_has_23(self) -> None:
        day = Calendar.opened(local_ms("2026-03-28T12:00", OSLO), timezone=OSLO, reset_hour=6).anchor
        assert (named(day), hours(day)) == ("2026-03-28", 23)
        midnight = Calendar.opened(local_ms("2026-03-29T12:00", OSLO), timezone=OSLO, reset_hour=0).anchor
        assert (named(midnight), hours(midnight)) == ("2026-03-29", 23)

    def test_the_day_in_which_autumn_gains_an_hour_has_25(self) -> None:
        day = Calendar.opened(local_ms("2026-10-24T12:00", OSLO), timezone=OSLO, reset_hour=6).anchor
        assert (named(day), hours(day)) == ("2026-10-24", 25)
        midnight = Calendar.opened(local_ms("2026-10-25T12:00", OSLO), timezone=OSLO, reset_hour=0).anchor
        assert (named(midnight), hours(midnight)) == ("2026-10-25", 25)

    def test_a_reset_in_the_gap_acts_at_the_first_instant_after_it(self) -> None:
        assert reset("2026-03-29", OSLO, 2) == utc_ms("2026-03-29T01:00")  # 03:00 CEST; there is no 02:00
        day = Calendar.opened(local_ms("2026-03-29T12:00", OSLO), timezone=OSLO, reset_hour=2).anchor
        assert (named(day), hours(day)) == ("2026-03-29", 23)

    def test_a_reset_that_occurs_twice_acts_the_first_time(self) -> None:
        assert reset("2026-10-25", OSLO, 2) == utc_ms("2026-10-25T00:00")  # 02:00 CEST, an hour before 02:00 CET
        day = Calendar.opened(local_ms("2026-10-25T12:00", OSLO), timezone=OSLO, reset_hour=2).anchor
        assert (named(day), hours(day)) == ("2026-10-25", 25)

    def test_a_shift_of_half_an_hour(self) -> None:
        zone = "Australia/Lord_Howe"
        assert reset("2026-10-04", zone, 2) == utc_ms("2026-10-03T15:30")  # 02:00 becomes 02:30
        spring = Calendar.opened(local_ms("2026-10-03T12:00", zone), timezone=zone, reset_hour=6).anchor
        autumn = Calendar.opened(local_ms("2026-04-04T12:00", zone), timezone=zone, reset_hour=6).anchor
        assert (hours(spring), hours(autumn)) == (23.5, 24.5)

    def test_midnight_in_the_gap(self) -> None:
        zone = "America/Sao_Paulo"
        assert reset("2018-11-04", zone, 0) == utc_ms("2018-11-04T03:00")  # 01:00; there is no midnight
        day = Calendar.opened(local_ms("2018-11-04T12:00", zone), timezone=zone, reset_hour=0).anchor
        assert (named(day), hours(day)) == ("2018-11-04", 23)

    def test_midnight_twice(self) -> None:
        zone = "America/Havana"  # on 2026-11-01 01:00 becomes 00:00 again
        assert reset("2026-11-01", zone, 0) == utc_ms("2026-11-01T04:00")
        day = Calendar.opened(local_ms("2026-11-01T12:00", zone), timezone=zone, reset_hour=0).anchor
        assert (named(day), hours(day)) == ("2026-11-01", 25)

    @pytest.mark.parametrize(
        ("reset_hour", "lengths"),
        [
            # 30 December 2011 did not exist in Samoa: its reset acts when the 31st begins.
            (0, {"2011-12-29": 24, "2011-12-31": 24}),
            (6, {"2011-12-29": 18, "2011-12-31": 30}),  # the 31st's own reset comes 6 h later: too soon
            (20, {"2011-12-29": 24, "2011-12-31": 24}),  # here the 30th's, 4 h after the 29th's
        ],
    )
    def test_a_date_that_a_zone_left_out(self, reset_hour: int, lengths: dict[str, float]) -> None:
        zone = "Pacific/Apia"
        calendar = Calendar.opened(local_ms("2011-12-25T12:00", zone), timezone=zone, reset_hour=reset_hour)
        days = walked(calendar, calendar.anchor, until_ms=local_ms("2012-01-03T23:00", zone))
        found = {named(day): hours(day) for day in days}
        assert {name: found[name] for name in found if name in lengths or found[name] != 24} == lengths

    @given(
        zone=st.sampled_from(sorted(TIMEZONES)),
        day=st.dates(date(1996, 1, 1), date(2037, 12, 30)),
        hour=st.integers(0, 23),
    )
    @example(zone=OSLO, day=date(2026, 3, 29), hour=2)
    @example(zone="Africa/Casablanca", day=date(2026, 2, 15), hour=2)
    @example(zone="Asia/Gaza", day=date(2015, 3, 28), hour=0)
    @example(zone="Antarctica/Troll", day=date(2026, 3, 29), hour=2)
    @example(zone="Pacific/Apia", day=date(2011, 12, 30), hour=13)
    @settings(max_examples=150)
    def test_a_reset_is_the_first_instant_at_which_the_local_clock_shows_its_hour_or_more(
        self, zone: str, day: date, hour: int
    ) -> None:
        wanted = datetime(day.year, day.month, day.day, hour)  # noqa: DTZ001  what the clock on the wall shows
        at_ms = reset_ms(day_number_of(day), zone, hour)
        assert local(at_ms, zone).replace(tzinfo=None) >= wanted
        assert all(
            local(earlier_ms, zone).replace(tzinfo=None) < wanted
            for earlier_ms in (at_ms - 1000, *range(at_ms - 26 * HOUR_MS, at_ms, 10 * MINUTE_MS))
        )


class TestChanges:
    def test_a_new_reset_hour_leaves_the_running_day_alone_and_acts_when_it_ends(self) -> None:
        at_ms = local_ms("2026-06-12T12:00", OSLO)
        before = Calendar.opened(at_ms, timezone=OSLO, reset_hour=6)
        after = before.changed(at_ms, timezone=OSLO, reset_hour=9)
        assert after.day_at(at_ms) == before.day_at(at_ms)
        following = after.day_at(local_ms("2026-06-13T06:00", OSLO))
        assert (named(following), hours(following)) == ("2026-06-13", 27)
        assert after.pending(at_ms) is not None
        assert after.pending(following.starts_ms) is None

    def test_there_and_back_in_one_day_changes_nothing(self) -> None:
        at_ms = local_ms("2026-06-12T12:00", OSLO)
        before = Calendar.opened(at_ms, timezone=OSLO, reset_hour=6)
        there = before.changed(at_ms, timezone=OSLO, reset_hour=9)
        again = there.changed(at_ms + 1, timezone=OSLO, reset_hour=3)
        back = again.changed(at_ms + 2, timezone=OSLO, reset_hour=6)
        assert back == before
        assert back.pending(at_ms + 2) is None

    def test_a_reset_less_than_12_hours_away_is_passed_over(self) -> None:
        at_ms = local_ms("2026-06-12T12:00", OSLO)
        calendar = Calendar.opened(at_ms, timezone=OSLO, reset_hour=6)
        at_17 = calendar.changed(at_ms, timezone=OSLO, reset_hour=17).day_at(local_ms("2026-06-13T06:00", OSLO))
        at_18 = calendar.changed(at_ms, timezone=OSLO, reset_hour=18).day_at(local_ms("2026-06-13T06:00", OSLO))
        assert (hours(at_17), hours(at_18)) == (35, 12)

    def test_the_longest_day_is_where_clocks_fall_by_two_hours(self) -> None:
        at_ms = local_ms("2026-10-24T12:00", "Asia/Kathmandu")
        calendar = Calendar.opened(at_ms, timezone="Asia/Kathmandu", reset_hour=18)
        moved = calendar.changed(at_ms, timezone="Antarctica/Troll", reset_hour=2)
        [following] = moved.days_after(calendar.anchor, until_ms=calendar.anchor.ends_ms)
        assert hours(following) == 37.75

    def test_a_zone_change_that_would_repeat_a_name_takes_the_next_date(self) -> None:
        at_ms = local_ms("2026-06-12T12:00", OSLO)
        calendar = Calendar.opened(at_ms, timezone=OSLO, reset_hour=6)
        moved = calendar.changed(at_ms, timezone="America/Los_Angeles", reset_hour=6)
        first, second = walked(moved, calendar.anchor, until_ms=local_ms("2026-06-14T12:00", "America/Los_Angeles"))
        # 06:00 in Oslo is 21:00 of the same 12 June in Los Angeles, whose name the running day bears already.
        assert (named(calendar.anchor), named(first), hours(first)) == ("2026-06-12", "2026-06-13", 33)
        assert named(second) == "2026-06-14"

    def test_a_zone_change_to_the_east_may_leave_a_name_out(self) -> None:
        at_ms = local_ms("2026-06-12T20:00", "Pacific/Honolulu")
        calendar = Calendar.opened(at_ms, timezone="Pacific/Honolulu", reset_hour=20)
        moved = calendar.changed(at_ms, timezone="Pacific/Kiritimati", reset_hour=20)
        [following] = moved.days_after(calendar.anchor, until_ms=calendar.anchor.ends_ms)
        assert (named(calendar.anchor), named(following)) == ("2026-06-12", "2026-06-14")

    def test_a_child_that_comes_back_finds_the_days_that_the_changes_made_while_it_was_away(self) -> None:
        monday = local_ms("2026-06-15T12:00", OSLO)
        calendar = Calendar.opened(monday, timezone=OSLO, reset_hour=6)
        pinned = calendar.day_at(monday)
        later = calendar.changed(monday + DAY_MS, timezone=OSLO, reset_hour=9)
        wednesday = later.day_at(monday + 2 * DAY_MS)
        assert hours(wednesday) == 27
        back = later.changed(monday + 2 * DAY_MS, timezone=OSLO, reset_hour=6)
        assert back.days_after(pinned, until_ms=monday + 2 * DAY_MS)[-1] == wednesday
        assert [hours(day) for day in back.days_after(pinned, until_ms=monday + 4 * DAY_MS)] == [24, 27, 21, 24]

    def test_a_change_by_a_clock_behind_the_first_day_counts_from_that_day(self) -> None:
        calendar = Calendar.opened(local_ms("2026-06-12T12:00", OSLO), timezone=OSLO, reset_hour=6)
        changed = calendar.changed(calendar.anchor.starts_ms - DAY_MS, timezone=OSLO, reset_hour=9)
        assert changed.anchor == calendar.anchor
        assert [rule.effective_ms for rule in changed.rules][1:] == [calendar.anchor.ends_ms]

    def test_changes_that_no_absence_can_reach_back_to_are_dropped(self) -> None:
        at_ms = local_ms("2020-01-01T12:00", OSLO)
        calendar = Calendar.opened(at_ms, timezone=OSLO, reset_hour=6)
        for month in range(48):
            calendar = calendar.changed(at_ms + month * 30 * DAY_MS, timezone=OSLO, reset_hour=month % 24)
        assert len(calendar.rules) <= 4

    def test_instants_before_the_settings_began_answer_by_their_rule(self) -> None:
        calendar = Calendar.opened(local_ms("2026-06-12T12:00", OSLO), timezone=OSLO, reset_hour=6)
        before = calendar.day_at(calendar.anchor.starts_ms - 1)
        assert (named(before), hours(before)) == ("2026-06-11", 24)
        assert calendar.days_after(before, until_ms=before.ends_ms) == [calendar.anchor]

    def test_days_from_before_the_settings_began_lead_up_to_them(self) -> None:
        """A child that was an adult for a while has new settings, and counters pinned by the old ones."""
        calendar = Calendar.opened(local_ms("2026-06-12T12:00", OSLO), timezone=OSLO, reset_hour=6)
        starts_ms = local_ms("2026-06-09T20:00", OSLO)
        pinned = ViewingDay(day_number_of(date(2026, 6, 9)), starts_ms, starts_ms + DAY_MS)
        days = calendar.days_after(pinned, until_ms=calendar.anchor.starts_ms)
        assert [named(day) for day in days] == ["2026-06-10", "2026-06-12"]
        assert days[-1] == calendar.anchor
        assert all(day.ends_ms == following.starts_ms for day, following in pairwise([pinned, *days]))


class TestLongAbsence:
    @pytest.mark.parametrize("zone", [OSLO, "Australia/Lord_Howe", "America/Havana", "Antarctica/Troll"])
    @pytest.mark.parametrize("years", [0.2, 1, 7])
    def test_days_skipped_are_the_days_walked(self, zone: str, years: float) -> None:
        calendar = Calendar.opened(local_ms("2026-06-12T12:00", zone), timezone=zone, reset_hour=2)
        until_ms = calendar.anchor.ends_ms + int(years * 365 * DAY_MS)
        assert calendar.day_at(until_ms) == walked(calendar, calendar.anchor, until_ms=until_ms)[-1]

    def test_a_change_before_the_absence_is_walked_through_first(self) -> None:
        """The day before the change bears a name that the new zone would tell differently."""
        at_ms = local_ms("2026-06-12T12:00", OSLO)
        moved = Calendar.opened(at_ms, timezone=OSLO, reset_hour=6).changed(
            at_ms, timezone="America/Los_Angeles", reset_hour=6
        )
        day = moved.day_at(at_ms + 200 * DAY_MS)
        assert named(day) == local(day.starts_ms, "America/Los_Angeles").date().isoformat()

    def test_names_that_ran_ahead_stay_ahead(self) -> None:
        at_ms = local_ms("2026-06-12T12:00", "Pacific/Auckland")
        moved = Calendar.opened(at_ms, timezone="Pacific/Auckland", reset_hour=6).changed(
            at_ms, timezone="America/New_York", reset_hour=6
        )
        until_ms = at_ms + 200 * DAY_MS
        assert moved.day_at(until_ms) == walked(moved, moved.anchor, until_ms=until_ms)[-1]

    def test_skipping_leaves_a_month_to_walk(self) -> None:
        calendar = Calendar.opened(local_ms("2026-06-12T12:00", OSLO), timezone=OSLO, reset_hour=6)
        until_ms = calendar.anchor.ends_ms + 1000 * DAY_MS
        assert 25 <= len(calendar.days_after(calendar.anchor, until_ms=until_ms)) <= 35


MAX_FALLS_H = {"Antarctica/Troll": 2, "Antarctica/Casey": 3, "Antarctica/Davis": 2, "Antarctica/Vostok": 2}
"""Zones whose clocks fell, or will fall, by more than an hour at once since 1996, and by how many. A viewing day there
can be as much longer than 37 hours; everywhere else none is."""
MAX_FALLS_H |= {"Asia/Chita": 2, "Asia/Magadan": 2, "America/Iqaluit": 2, "America/Pangnirtung": 2}
DATE_LINE_2011 = {"Pacific/Apia", "Pacific/Fakaofo"}

FIRST_MS, LAST_MS = utc_ms("1996-06-01T00:00"), utc_ms("2035-01-01T00:00")
ZONES = st.sampled_from(sorted(TIMEZONES)) | st.sampled_from(
    [OSLO, "America/Los_Angeles", "Pacific/Auckland", "Pacific/Kiritimati", "Pacific/Pago_Pago", "Antarctica/Troll"]
)
CHANGES = st.lists(
    st.tuples(
        st.one_of(
            st.integers(0, 2 * HOUR_MS),  # again within the running day
            st.integers(0, 3 * DAY_MS),
            st.integers(0, 90 * DAY_MS),
        ),
        ZONES,
        st.integers(0, 23),
    ),
    max_size=10,
)


def history_of(
    starts_ms: int, zone: str, hour: int, changes: Iterable[tuple[int, str, int]]
) -> list[tuple[int, Calendar]]:
    """The calendars of a child and the instants from which they were in force."""
    history = [(starts_ms, Calendar.opened(starts_ms, timezone=zone, reset_hour=hour))]
    for gap_ms, zone_, hour_ in changes:
        at_ms = history[-1][0] + gap_ms
        history.append((at_ms, history[-1][1].changed(at_ms, timezone=zone_, reset_hour=hour_)))
    return history


@given(
    starts_ms=st.integers(FIRST_MS, LAST_MS),
    zone=ZONES,
    hour=st.integers(0, 23),
    changes=CHANGES,
    after_ms=st.integers(0, 200 * DAY_MS),
    picks=st.lists(st.floats(0, 1), min_size=1, max_size=5),
)
@example(  # the zone whose clock falls by two hours
    starts_ms=utc_ms("2026-10-20T00:00"),
    zone="Antarctica/Troll",
    hour=15,
    changes=[(5 * DAY_MS - HOUR_MS, "Antarctica/Troll", 4)],
    after_ms=3 * DAY_MS,
    picks=[0.5],
)
@settings(max_examples=120)
def test_whatever_a_parent_changes_days_follow_on_each_other(  # noqa: PLR0917  Hypothesis names them
    starts_ms: int,
    zone: str,
    hour: int,
    changes: list[tuple[int, str, int]],
    after_ms: int,
    picks: list[float],
) -> None:
    history = history_of(starts_ms, zone, hour, changes)
    # A child that watches all the time pins each day as it opens.
    days = [history[0][1].anchor]
    for (_, calendar), (changed_ms, _) in pairwise(history):
        days += walked(calendar, days[-1], until_ms=changed_ms)
    last_change_ms, latest = history[-1]
    end_ms = last_change_ms + after_ms
    days += walked(latest, days[-1], until_ms=end_ms)

    for day, following in pairwise(days):
        assert day.ends_ms == following.starts_ms, "no overlap, no gap"
        assert day.number < following.number, "names strictly increase"
    for day in days:
        rule = next(
            (r for _, c in reversed(history) for r in reversed(c.rules) if r.effective_ms <= day.starts_ms),
            history[0][1].rules[0],
        )
        fall = local(day.starts_ms, rule.timezone).utcoffset() - local(day.ends_ms, rule.timezone).utcoffset()  # type: ignore[operator]
        fall_h = max(timedelta(), fall) / timedelta(hours=1)
        assert 12 <= hours(day) <= 36 + fall_h
        assert fall_h <= MAX_FALLS_H.get(rule.timezone, 1)

    for (_, before), (changed_ms, after) in pairwise(history):
        assert after.day_at(changed_ms) == before.day_at(changed_ms), "a change leaves the running day alone"
        assert [d for d in days if d.holds(changed_ms)] == [after.day_at(changed_ms)]
        assert (
            after.changed(changed_ms, timezone=after.rules[-1].timezone, reset_hour=after.rules[-1].reset_hour) == after
        )
    # Whoever asks, and whenever, is told the same day, as long as the calendar is kept.
    starts = [day.starts_ms for day in days]
    oldest_ms = max(days[0].starts_ms, latest.anchor.starts_ms)
    for pick in picks:
        at_ms = oldest_ms + int(pick * (end_ms - oldest_ms))
        day = days[bisect_right(starts, at_ms) - 1]
        assert day.holds(at_ms)
        assert latest.day_at(at_ms) == day
        pinned = days[int(pick * (len(days) - 1))]
        if pinned.starts_ms >= latest.anchor.starts_ms:
            assert (latest.days_after(pinned, until_ms=end_ms) or [pinned])[-1] == days[-1]


@given(
    starts_ms=st.integers(FIRST_MS, LAST_MS),
    zone=ZONES,
    hour=st.integers(0, 23),
    other=ZONES,
    gap_ms=st.integers(0, DAY_MS),
)
def test_a_change_taken_back_on_the_same_day_leaves_nothing_pending(
    starts_ms: int, zone: str, hour: int, other: str, gap_ms: int
) -> None:
    calendar = Calendar.opened(starts_ms, timezone=zone, reset_hour=hour)
    there = calendar.changed(starts_ms, timezone=other, reset_hour=(hour + 5) % 24)
    back_ms = min(starts_ms + gap_ms, calendar.anchor.ends_ms - 1)
    back = there.changed(back_ms, timezone=zone, reset_hour=hour)
    assert back == calendar
    assert back.pending(back_ms) is None


@given(
    starts_ms=st.integers(FIRST_MS, LAST_MS),
    zone=st.sampled_from(sorted(TIMEZONES - DATE_LINE_2011)),
    hour=st.integers(0, 23),
    change=st.none() | st.tuples(ZONES.filter(lambda zone: zone not in DATE_LINE_2011), st.integers(0, 23)),
    absence_ms=st.integers(LONG_ABSENCE_MS - DAY_MS, 3 * 365 * DAY_MS),
)
@settings(max_examples=60)
def test_a_leap_over_a_long_absence_lands_where_walking_does(
    starts_ms: int, zone: str, hour: int, change: tuple[str, int] | None, absence_ms: int
) -> None:
    calendar = Calendar.opened(starts_ms, timezone=zone, reset_hour=hour)
    if change:
        calendar = calendar.changed(starts_ms, timezone=change[0], reset_hour=change[1])
    until_ms = calendar.anchor.ends_ms + absence_ms
    assert calendar.day_at(until_ms) == walked(calendar, calendar.anchor, until_ms=until_ms)[-1]


@given(
    starts_ms=st.integers(FIRST_MS, LAST_MS),
    zone=ZONES,
    hour=st.integers(0, 23),
    changes=CHANGES,
    pinned_ms=st.integers(-90 * DAY_MS, 90 * DAY_MS),
    after_ms=st.integers(0, 200 * DAY_MS),
)
@settings(max_examples=120)
def test_the_canonical_calendar_has_the_same_days(  # noqa: PLR0917  Hypothesis names them
    starts_ms: int, zone: str, hour: int, changes: list[tuple[int, str, int]], pinned_ms: int, after_ms: int
) -> None:
    for at_ms, calendar in history_of(starts_ms, zone, hour, changes):
        canonical = calendar.canonical()
        pinned = calendar.day_at(at_ms + pinned_ms)
        until_ms = pinned.ends_ms + after_ms
        assert canonical.day_at(at_ms + pinned_ms) == pinned
        assert canonical.days_after(pinned, until_ms=until_ms) == calendar.days_after(pinned, until_ms=until_ms)
        assert canonical.day_at(until_ms) == calendar.day_at(until_ms)
        assert canonical.pending(at_ms) == calendar.pending(at_ms)
        rule, told = calendar.rule_of(pinned), canonical.rule_of(pinned)
        assert (told.timezone, told.reset_hour) == (rule.timezone, rule.reset_hour)


@given(starts_ms=st.integers(FIRST_MS, LAST_MS), zone=ZONES, hour=st.integers(0, 23), part=st.floats(0, 1))
@settings(max_examples=120)
def test_settings_made_on_the_same_day_have_the_same_canonical_calendar(
    starts_ms: int, zone: str, hour: int, part: float
) -> None:
    day = Calendar.opened(starts_ms, timezone=zone, reset_hour=hour).anchor
    also_ms = min(day.ends_ms - 1, day.starts_ms + int(part * (day.ends_ms - day.starts_ms)))
    first, second = (Calendar.opened(at_ms, timezone=zone, reset_hour=hour) for at_ms in (starts_ms, also_ms))
    assert first.canonical() == second.canonical()


def test_no_zone_is_one_that_a_config_may_not_use() -> None:
    assert not TIMEZONES & {"", "posixrules", "localtime", "Factory", "../etc/passwd"}
    assert {"UTC", OSLO, "Asia/Kathmandu", "America/Argentina/Buenos_Aires"} <= TIMEZONES


def test_children_who_share_a_rule_share_the_answer() -> None:
    day = ViewingDay(20_000, 20_000 * DAY_MS, 20_001 * DAY_MS)
    assert next_day(day, "UTC", 0) is next_day(day, "UTC", 0)
