"""When a blocked child may play again: at the instant that is named the decision allows it, and never before."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.co_viewing import first_shared_ms
from app.domain.counters import Counters, carried_into, cold
from app.domain.enforcement import Decision
from app.domain.limits import LimitRules, Window
from app.domain.markets import Market, Markets
from app.domain.offline import TimeRange
from app.domain.policy import MINUTE_MS, EarlierDay, Grant, OfflineUse, Policy
from app.domain.viewing_day import DAY_MS, HOUR_MS, Calendar
from app.viewing.effective_policy import EffectivePolicy, EffectivePolicyPool

EVERY_DAY = tuple(range(7))
THURSDAY_MS = int(datetime(2026, 3, 26, tzinfo=UTC).timestamp()) * 1000
"""Three days before the clocks of Oslo go forward."""


@dataclass(kw_only=True)
class Child:
    """A child and its counters at an instant; nothing plays from then on."""

    policy: Policy
    counters: Counters
    starts_on: int = 0
    is_exempt: bool = False

    def __post_init__(self) -> None:
        self.pool = EffectivePolicyPool(Markets(Market(week_starts_on=self.starts_on)))

    def asked(self, at_ms: int) -> tuple[EffectivePolicy, dict[str, Any]]:
        effective = self.pool.of(self.policy, self.counters.day, at_ms)
        counters = carried_into(self.counters, effective.days, effective.week)
        terms, left_ms = effective.within_week(effective.days[-1], counters)
        asked = {"terms": terms, "counted": counters, "at_ms": at_ms, "is_exempt": self.is_exempt}
        return effective, asked | {"week_left_ms": left_ms}

    def decided(self, at_ms: int) -> Decision:
        """The decision of a balance at an instant."""
        effective, asked = self.asked(at_ms)
        return effective.decision(**asked, interval_ms=30_000, longest_lease_ms=300_000)

    def playable(self, at_ms: int) -> Iterator[TimeRange]:
        effective, asked = self.asked(at_ms)
        return effective.playable(**asked)


def child_at(
    at_ms: int,
    *,
    used: int = 0,
    owed: int = 0,
    borrowed: int = 0,
    finish_ms: int = 0,
    unbroken: int = 0,
    played_until_ms: int = 0,
    weekday: int | None = 60,
    weekend: int | None = 60,
    rules: LimitRules | None = None,
    earlier: tuple[int, ...] = (),
    granted: int | None = 0,
    offline: int = 0,
    paused_until_ms: int | None = None,
    moves_to: str | None = None,
    starts_on: int = 0,
    is_exempt: bool = False,
) -> Child:
    """A child with so many minutes used, owed and so on, on the day of an instant.

    ``earlier`` are the minutes used on the days before, the last one first.
    """
    calendar = Calendar.opened(THURSDAY_MS - 8 * DAY_MS, timezone="Europe/Oslo", reset_hour=3)
    day = calendar.day_at(at_ms)
    if moves_to is not None:
        calendar = calendar.changed(day.starts_ms, timezone=moves_to, reset_hour=20)
    policy = Policy(
        "", "", 0, True, 1, weekday, weekend, True, (15, 5), calendar,
        grants=() if granted == 0 else (Grant(day.number, granted, 0, at_ms - 10 * MINUTE_MS),),
        offline=() if offline == 0 else (OfflineUse(day.number, offline * MINUTE_MS),),
        rules=rules,
        paused_until_ms=paused_until_ms,
        week=(EarlierDay(day.number, 0, -1, offline * MINUTE_MS),),
    )  # fmt: skip
    pool = EffectivePolicyPool(Markets(Market(week_starts_on=starts_on)))
    effective = pool.of(policy, None, at_ms)
    counters = cold(terms=effective.days[-1], policy_version=1, at_ms=at_ms)
    limit_ms = effective.days[-1].limit_ms
    counters.week = tuple(
        EarlierDay(day.number - place, minutes * MINUTE_MS, limit_ms) for place, minutes in enumerate(earlier, 1)
    )
    counters.owed_ms = owed * MINUTE_MS
    terms, _ = effective.within_week(effective.days[-1], counters)
    counters.limit_ms, counters.used_ms, counters.borrowed_ms = terms.limit_ms, used * MINUTE_MS, borrowed * MINUTE_MS
    counters.finish_until_ms = min(finish_ms, day.ends_ms)
    counters.unbroken_ms, counters.played_until_ms = unbroken * MINUTE_MS, played_until_ms
    return Child(policy=policy, counters=counters, starts_on=starts_on, is_exempt=is_exempt)


WINDOWS = st.lists(
    st.builds(
        Window,
        days=st.lists(st.integers(0, 6), min_size=1, max_size=7, unique=True).map(tuple),
        from_minute=st.sampled_from([0, 7 * 60, 15 * 60 + 5, 23 * 60]),
        until_minute=st.sampled_from([0, 2 * 60 + 30, 8 * 60, 19 * 60 + 55]),
    ),
    max_size=2,
).map(tuple)
MINUTES = st.sampled_from([0, 0, 15, 30, 59, 60, 75, 90, 200])
LIMIT = st.sampled_from([15, 30, 60, 90, None])


@st.composite
def _rules(draw: st.DrawFn) -> LimitRules:
    length = draw(st.sampled_from([None, 5, 30, 120]))
    return LimitRules(
        daily_limits=draw(st.none() | st.tuples(*[LIMIT] * 7)),
        holidays=draw(st.sampled_from([(), ((20_538, 20_540),)])),
        windows=draw(WINDOWS),
        weekly_limit_minutes=draw(st.sampled_from([None, 60, 90, 210])),
        break_after_minutes=None if length is None else 30,
        break_minutes=length,
        finish_title_minutes=draw(st.sampled_from([None, 30])),
    )


INSTANTS = st.integers(0, 6 * DAY_MS).map(lambda later_ms: THURSDAY_MS + later_ms)


@st.composite
def children(draw: st.DrawFn, instants: st.SearchStrategy[int] = INSTANTS) -> tuple[Child, int]:
    at_ms = draw(instants)
    rules = draw(_rules())
    can_borrow, has_break = rules.finish_title_minutes is not None, rules.break_minutes is not None
    limits = draw(st.sampled_from([(60, 90), (15, 30), (None, None)]))
    child = child_at(
        at_ms,
        used=draw(MINUTES),
        owed=draw(st.sampled_from([0, 10, 30])) if can_borrow else 0,
        borrowed=draw(st.sampled_from([0, 0, 10, 30])) if can_borrow else 0,
        finish_ms=draw(st.sampled_from([0, 0, at_ms + 9 * MINUTE_MS])) if can_borrow else 0,
        unbroken=draw(st.integers(0, 40)) if has_break else 0,
        played_until_ms=at_ms - draw(st.integers(0, 150 * MINUTE_MS)) if has_break else 0,
        weekday=limits[0],
        weekend=limits[1],
        rules=rules,
        earlier=draw(st.lists(MINUTES, max_size=6).map(tuple)),
        granted=draw(st.sampled_from([0, 0, 0, 15, None])),
        offline=draw(st.sampled_from([0, 0, 20])),
        paused_until_ms=draw(st.none() | st.integers(0, 30 * HOUR_MS).map(lambda lasts_ms: at_ms + lasts_ms)),
        moves_to=draw(st.sampled_from([None, None, "Asia/Tokyo", "America/New_York"])),
        starts_on=draw(st.integers(0, 6)),
        is_exempt=draw(st.booleans()) and draw(st.booleans()),
    )
    return child, at_ms


@given(children(), st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12))
@settings(max_examples=400, deadline=None)
def test_playback_is_possible_at_the_instant_that_is_named_and_never_before(
    case: tuple[Child, int], places: list[float]
) -> None:
    child, at_ms = case
    found = child.decided(at_ms)
    again_ms = found.available_again_ms
    if found.may_play:
        assert again_ms is None
        return
    if again_ms is None:
        rules = child.policy.rules
        assert rules is not None
        assert rules.windows, "only where windows may stay closed for long is the instant not known"
        again_ms = at_ms + 3 * DAY_MS
    else:
        assert again_ms > at_ms
        assert child.decided(again_ms).may_play
    for before_ms in (again_ms - 1, *(at_ms + int(place * (again_ms - at_ms)) for place in places)):
        assert not child.decided(before_ms).may_play
        assert child.decided(before_ms).available_again_ms in {found.available_again_ms, None, again_ms}


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[Child], int]:
    at_ms = draw(INSTANTS)
    return [draw(children(st.just(at_ms)))[0] for _ in range(draw(st.integers(2, 4)))], at_ms


@given(groups(), st.lists(st.floats(0, 1, exclude_max=True), min_size=12, max_size=12))
@settings(max_examples=400, deadline=None)
def test_children_who_watch_together_play_at_the_instant_that_all_share_and_never_before(
    case: tuple[list[Child], int], places: list[float]
) -> None:
    group, at_ms = case

    def may_all_play(instant_ms: int) -> bool:
        return all(child.decided(instant_ms).may_play for child in group)

    again_ms = first_shared_ms([child.playable(at_ms) for child in group])
    if again_ms is None:  # they never play together in the days that are looked at, though one alone may, on the last
        again_ms = at_ms + 10 * DAY_MS
    else:
        assert may_all_play(again_ms)
        alone = [each.available_again_ms for child in group if not (each := child.decided(at_ms)).may_play]
        assert again_ms >= max((instant_ms for instant_ms in alone if instant_ms is not None), default=at_ms)
    if again_ms > at_ms:
        for before_ms in (again_ms - 1, *(at_ms + int(place * (again_ms - at_ms)) for place in places)):
            assert not may_all_play(before_ms)


@given(children(), st.floats(0, 14, allow_nan=False))
@settings(max_examples=400, deadline=None)
def test_a_child_may_play_in_its_time_ranges_and_at_no_other_time(case: tuple[Child, int], days: float) -> None:
    child, at_ms = case
    instant_ms = at_ms + int(days * DAY_MS)
    is_within = any(from_ms <= instant_ms < until_ms for from_ms, until_ms in child.playable(at_ms))
    assert child.decided(instant_ms).may_play == is_within


def utc(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


class TestNamed:
    """Oslo in winter: resets are at 02:00 UTC. The 26th of March is a Thursday."""

    def named(self, child: Child, at_ms: int) -> tuple[str | None, int | None]:
        found = child.decided(at_ms)
        assert not found.may_play
        return found.reason, found.available_again_ms

    NOON_MS = utc("2026-03-26T12:00:00")
    RESET_MS = utc("2026-03-27T02:00:00")

    def test_a_used_up_day_waits_for_the_reset(self) -> None:
        assert self.named(child_at(self.NOON_MS, used=60), self.NOON_MS) == ("daily_limit", self.RESET_MS)

    @pytest.mark.parametrize(("weekly", "starts_on", "days"), [(60, 0, 4), (60, 4, 1), (75, 0, 1)])
    def test_a_used_up_week_waits_for_the_next_one(self, weekly: int, starts_on: int, days: int) -> None:
        child = child_at(self.NOON_MS, used=60, rules=LimitRules(weekly_limit_minutes=weekly), starts_on=starts_on)
        resets_ms = {1: self.RESET_MS, 4: utc("2026-03-30T01:00:00")}
        assert self.named(child, self.NOON_MS)[1] == resets_ms[days]

    def test_a_day_that_is_owed_whole_is_passed_by(self) -> None:
        child = child_at(self.NOON_MS, used=30, borrowed=15, weekday=15, rules=LimitRules(finish_title_minutes=30))
        assert self.named(child, self.NOON_MS)[1] == self.RESET_MS + DAY_MS

    def test_also_within_a_week_which_it_is_used_of(self) -> None:
        """Of 40 minutes 15 are used today, and 15 more of tomorrow, which is Friday: 10 are left for Saturday."""
        rules = LimitRules(finish_title_minutes=30, weekly_limit_minutes=40)
        child = child_at(self.NOON_MS, used=30, borrowed=15, weekday=15, weekend=60, rules=rules)
        assert self.named(child, self.NOON_MS)[1] == self.RESET_MS + DAY_MS
        found = child.decided(self.RESET_MS + DAY_MS)
        assert found.remaining_ms == 10 * MINUTE_MS
        rules = LimitRules(finish_title_minutes=30, weekly_limit_minutes=30)
        child = child_at(self.NOON_MS, used=30, borrowed=15, weekday=15, weekend=60, rules=rules)
        assert self.named(child, self.NOON_MS)[1] == utc("2026-03-30T01:00:00"), "nothing is left for Saturday"

    def test_a_window_on_a_day_without_an_allowance_is_passed_by(self) -> None:
        """The week is used up on Thursday; the window of Friday opens on a day that has nothing."""
        windows = (Window(days=EVERY_DAY, from_minute=15 * 60, until_minute=19 * 60),)
        child = child_at(self.NOON_MS, used=60, rules=LimitRules(weekly_limit_minutes=60, windows=windows))
        assert self.named(child, self.NOON_MS) == ("window", utc("2026-03-30T13:00:00"))

    def test_a_window_of_this_day_opens_before_the_reset_though_the_next_day_has_nothing(self) -> None:
        """Of the week 30 minutes are left, and nothing plays before the window opens at 16:00."""
        windows = (Window(days=EVERY_DAY, from_minute=16 * 60, until_minute=19 * 60),)
        child = child_at(self.NOON_MS, used=30, rules=LimitRules(weekly_limit_minutes=60, windows=windows))
        assert self.named(child, self.NOON_MS) == ("window", utc("2026-03-26T15:00:00"))

    def test_a_break_over_the_reset_ends_on_the_day_that_follows(self) -> None:
        """Playback until the reset would use up the week; but nothing plays in a break."""
        rules = LimitRules(weekly_limit_minutes=60, break_after_minutes=30, break_minutes=60)
        at_ms = self.RESET_MS - 40 * MINUTE_MS
        child = child_at(at_ms, used=30, unbroken=30, played_until_ms=at_ms, rules=rules)
        assert self.named(child, at_ms) == ("break", self.RESET_MS + 20 * MINUTE_MS)

    def test_a_break_ends_within_the_title_that_may_be_finished_or_not_before_the_reset(self) -> None:
        rules = LimitRules(finish_title_minutes=30, break_after_minutes=30, break_minutes=5)
        for minutes, again_ms in ((6, self.NOON_MS + 5 * MINUTE_MS), (5, self.RESET_MS)):
            child = child_at(
                self.NOON_MS, used=60, unbroken=30, played_until_ms=self.NOON_MS,
                finish_ms=self.NOON_MS + minutes * MINUTE_MS, rules=rules,
            )  # fmt: skip
            assert self.named(child, self.NOON_MS) == ("break", again_ms)

    def test_a_pause_and_the_reset_both_pass(self) -> None:
        for paused_until_ms in (self.NOON_MS + HOUR_MS, self.RESET_MS + HOUR_MS):
            child = child_at(self.NOON_MS, used=60, paused_until_ms=paused_until_ms)
            assert self.named(child, self.NOON_MS) == ("parent_pause", max(self.RESET_MS, paused_until_ms))

    def test_who_may_play_now_and_not_when_the_other_one_may_is_waited_for(self) -> None:
        """One has used up the week until Monday; the other plays from 15:00 to 19:00, and may play now."""
        windows = (Window(days=EVERY_DAY, from_minute=12 * 60, until_minute=19 * 60),)
        weekly = child_at(self.NOON_MS, used=60, rules=LimitRules(weekly_limit_minutes=60))
        within = child_at(self.NOON_MS, rules=LimitRules(windows=windows))
        assert within.decided(self.NOON_MS).may_play
        assert self.named(weekly, self.NOON_MS)[1] == utc("2026-03-30T01:00:00")
        together = first_shared_ms([each.playable(self.NOON_MS) for each in (weekly, within)])
        assert together == utc("2026-03-30T10:00:00")

    def test_children_whose_windows_never_meet_wait_for_ever(self) -> None:
        early, late = (Window(days=EVERY_DAY, from_minute=at, until_minute=at + 60) for at in (8 * 60, 18 * 60))
        group = [child_at(self.NOON_MS, rules=LimitRules(windows=(each,))) for each in (early, late)]
        assert first_shared_ms([each.playable(self.NOON_MS) for each in group]) is None

    def test_an_exempt_title_waits_for_windows_and_breaks_only(self) -> None:
        rules = LimitRules(weekly_limit_minutes=60, break_after_minutes=30, break_minutes=10)
        child = child_at(self.NOON_MS, used=60, unbroken=30, played_until_ms=self.NOON_MS, rules=rules, is_exempt=True)
        assert self.named(child, self.NOON_MS) == ("break", self.NOON_MS + 10 * MINUTE_MS)
