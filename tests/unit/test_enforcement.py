"""The decision: thresholds, stop instant, next heartbeat, lease."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from app.domain.breaks import NextBreak
from app.domain.enforcement import Decision, decide, enforcement_of, not_enforced
from app.domain.opening_hours import PARENT_PAUSE, OpeningHours
from app.domain.policy import MINUTE_MS, UNLIMITED

NOON_MS = 1_790_000_000_000
HOUR_MS = 60 * MINUTE_MS
INTERVAL_MS = 30_000
LEASE_MS = 300_000


def decision(**fields: Any) -> Decision:
    """A decision at noon, of a day that ends in 12 hours, with 2 hours of allowance."""
    values: dict[str, Any] = {
        "at_ms": NOON_MS,
        "used_ms": 0,
        "allowance_ms": 2 * HOUR_MS,
        "is_exempt": False,
        "day_ends_ms": NOON_MS + 12 * HOUR_MS,
        "next_allowance_ms": 2 * HOUR_MS,
        "warning_minutes": (15, 5),
        "interval_ms": INTERVAL_MS,
        "longest_lease_ms": LEASE_MS,
    }
    return decide(**(values | fields))


def with_remaining(remaining_ms: int, **fields: Any) -> Decision:
    return decision(used_ms=2 * HOUR_MS - remaining_ms, **fields)


class TestState:
    @pytest.mark.parametrize(
        ("remaining_ms", "enforcement"),
        [
            (HOUR_MS, "allowed"),
            (15 * MINUTE_MS + 1, "allowed"),
            (15 * MINUTE_MS, "warning_15"),
            (5 * MINUTE_MS + 1, "warning_15"),
            (5 * MINUTE_MS, "warning_5"),
            (1, "warning_5"),
            (0, "blocked"),
        ],
    )
    def test_the_smallest_threshold_reached_gives_the_name(self, remaining_ms: int, enforcement: str) -> None:
        found = with_remaining(remaining_ms)
        assert (found.enforcement, found.remaining_ms) == (enforcement, remaining_ms)
        assert found.may_play == (remaining_ms > 0)

    def test_names_follow_the_thresholds_in_whatever_order(self) -> None:
        assert enforcement_of(10 * MINUTE_MS, (5, 10, 30)) == "warning_10"
        assert enforcement_of(11 * MINUTE_MS, (5, 10, 30)) == "warning_30"
        assert enforcement_of(1, ()) == "allowed"

    def test_more_used_than_allowed_is_blocked_with_nothing_remaining(self) -> None:
        found = decision(used_ms=3 * HOUR_MS)
        assert (found.enforcement, found.remaining_ms, found.lease_ms) == ("blocked", 0, 0)
        assert found.stop_at_ms == NOON_MS

    def test_an_allowance_of_nothing_is_blocked_from_the_start(self) -> None:
        assert decision(allowance_ms=0).enforcement == "blocked"

    def test_unlimited_is_allowed_however_much_was_used(self) -> None:
        found = decision(allowance_ms=UNLIMITED, used_ms=20 * HOUR_MS)
        assert found == Decision("allowed", None, None, INTERVAL_MS, LEASE_MS)

    def test_an_exempt_title_plays_on_when_nothing_remains(self) -> None:
        found = with_remaining(0, is_exempt=True)
        assert found == Decision("allowed", 0, None, INTERVAL_MS, LEASE_MS)


class TestStop:
    def test_playback_stops_when_the_allowance_ends(self) -> None:
        assert with_remaining(7 * MINUTE_MS).stop_at_ms == NOON_MS + 7 * MINUTE_MS

    def test_an_allowance_that_outlasts_the_day_goes_on_with_the_next_days(self) -> None:
        found = with_remaining(20 * MINUTE_MS, day_ends_ms=NOON_MS + 10 * MINUTE_MS, next_allowance_ms=HOUR_MS)
        assert found.stop_at_ms == NOON_MS + 10 * MINUTE_MS + HOUR_MS

    def test_an_allowance_that_ends_exactly_at_the_reset_goes_on_too(self) -> None:
        found = with_remaining(10 * MINUTE_MS, day_ends_ms=NOON_MS + 10 * MINUTE_MS, next_allowance_ms=HOUR_MS)
        assert found.stop_at_ms == NOON_MS + 10 * MINUTE_MS + HOUR_MS
        early = with_remaining(10 * MINUTE_MS - 1, day_ends_ms=NOON_MS + 10 * MINUTE_MS, next_allowance_ms=HOUR_MS)
        assert early.stop_at_ms == NOON_MS + 10 * MINUTE_MS - 1

    def test_a_blocked_child_is_told_to_stop_now_whatever_tomorrow_brings(self) -> None:
        found = with_remaining(0, day_ends_ms=NOON_MS + 1, next_allowance_ms=UNLIMITED)
        assert found.stop_at_ms == NOON_MS

    def test_nothing_stops_playback_that_reaches_an_unlimited_day(self) -> None:
        found = with_remaining(20 * MINUTE_MS, day_ends_ms=NOON_MS + 10 * MINUTE_MS, next_allowance_ms=UNLIMITED)
        assert found.stop_at_ms is None


def pause(until_ms: int) -> OpeningHours:
    return OpeningHours(begins_ms=(0, until_ms), closed_by=(PARENT_PAUSE, None))


def closing(at_ms: int, again_ms: int, rule: str = "window") -> OpeningHours:
    """Open, then closed by a rule, then open again."""
    return OpeningHours(begins_ms=(0, at_ms, again_ms), closed_by=(None, rule, None))


class TestReason:
    def test_the_daily_limit_is_named_where_it_will_end_playback(self) -> None:
        assert with_remaining(7 * MINUTE_MS).reason == "daily_limit"

    def test_nothing_is_named_where_nothing_ends_playback(self) -> None:
        assert decision(allowance_ms=UNLIMITED).reason is None
        assert with_remaining(0, is_exempt=True).reason is None
        ends_ms = NOON_MS + MINUTE_MS
        assert with_remaining(HOUR_MS, day_ends_ms=ends_ms, next_allowance_ms=UNLIMITED).reason is None

    def test_a_window_that_ends_with_the_allowance_is_named(self) -> None:
        ends_ms = NOON_MS + 7 * MINUTE_MS
        found = with_remaining(7 * MINUTE_MS, opening_hours=closing(ends_ms, ends_ms + HOUR_MS))
        assert (found.stop_at_ms, found.reason) == (ends_ms, "window")


class TestOpeningHours:
    @pytest.mark.parametrize("fields", [{}, {"allowance_ms": UNLIMITED}, {"is_exempt": True}])
    def test_a_pause_blocks_whatever_the_allowance_says(self, fields: dict[str, Any]) -> None:
        found = decision(opening_hours=pause(NOON_MS + HOUR_MS), **fields)
        assert found == Decision("blocked", 0, NOON_MS, INTERVAL_MS, 0, None, "parent_pause")

    def test_after_a_pause_all_is_as_without_it(self) -> None:
        assert decision(opening_hours=pause(NOON_MS)) == decision()
        assert decision(opening_hours=pause(NOON_MS + 1)).enforcement == "blocked"

    def test_the_next_beat_falls_on_the_end_of_a_pause(self) -> None:
        assert decision(opening_hours=pause(NOON_MS + 7)).next_beat_ms == 7

    def test_the_earliest_end_decides_and_is_named(self) -> None:
        found = decision(opening_hours=closing(NOON_MS + HOUR_MS, NOON_MS + 2 * HOUR_MS))
        assert (found.stop_at_ms, found.reason, found.remaining_ms) == (NOON_MS + HOUR_MS, "window", HOUR_MS)
        found = decision(opening_hours=closing(NOON_MS + 3 * HOUR_MS, NOON_MS + 4 * HOUR_MS))
        assert (found.stop_at_ms, found.reason, found.remaining_ms) == (
            NOON_MS + 2 * HOUR_MS,
            "daily_limit",
            2 * HOUR_MS,
        )

    @pytest.mark.parametrize("fields", [{"allowance_ms": UNLIMITED}, {"is_exempt": True}, {}])
    @pytest.mark.parametrize(
        ("left_ms", "enforcement", "next_beat_ms", "lease_ms"),
        [
            (HOUR_MS, "allowed", INTERVAL_MS, LEASE_MS),
            (15 * MINUTE_MS + 9, "allowed", 9, LEASE_MS),
            (15 * MINUTE_MS, "warning_15", INTERVAL_MS, LEASE_MS),
            (5 * MINUTE_MS, "warning_5", INTERVAL_MS, LEASE_MS),
            (20_000, "warning_5", 20_000, 20_000),
        ],
    )
    def test_a_closing_warns_as_a_limit_does(
        self, fields: dict[str, Any], left_ms: int, enforcement: str, next_beat_ms: int, lease_ms: int
    ) -> None:
        found = decision(opening_hours=closing(NOON_MS + left_ms, NOON_MS + 9 * HOUR_MS), **fields)
        assert found == Decision(enforcement, left_ms, NOON_MS + left_ms, next_beat_ms, lease_ms, None, "window", None)

    def test_a_limit_that_is_used_up_is_named_before_a_closing_to_come(self) -> None:
        found = with_remaining(0, opening_hours=closing(NOON_MS + HOUR_MS, NOON_MS + 2 * HOUR_MS))
        assert found.reason == "daily_limit"

    @given(
        used_ms=st.integers(0, 3 * HOUR_MS),
        changes=st.lists(st.integers(1, 30 * HOUR_MS), min_size=1, max_size=6, unique=True).map(sorted),
        is_open=st.booleans(),
        allowance_ms=st.sampled_from([UNLIMITED, 0, HOUR_MS, 2 * HOUR_MS]),
        is_exempt=st.booleans(),
    )
    def test_no_rule_lets_more_through_than_each_alone(
        self, used_ms: int, changes: list[int], is_open: bool, allowance_ms: int, is_exempt: bool
    ) -> None:
        begins_ms = (0, *(NOON_MS + change for change in changes))
        states = tuple(None if (place % 2 == 0) is is_open else "window" for place in range(len(begins_ms)))
        fields: dict[str, Any] = {"used_ms": used_ms, "allowance_ms": allowance_ms, "is_exempt": is_exempt}
        alone, both = decision(**fields), decision(opening_hours=OpeningHours(begins_ms, states), **fields)
        assert both.may_play == (alone.may_play and is_open)
        first_ms = NOON_MS + changes[0]
        if both.may_play:
            assert both.stop_at_ms == (first_ms if alone.stop_at_ms is None else min(alone.stop_at_ms, first_ms))
            assert both.lease_ms == min(alone.lease_ms, changes[0])
            assert 0 < both.next_beat_ms <= alone.next_beat_ms

    def test_shadow_mode_passes_on_what_was_decided(self) -> None:
        decided = replace(decision(opening_hours=pause(NOON_MS + HOUR_MS)), available_again_ms=NOON_MS + HOUR_MS)
        told = not_enforced(decided, "shadow", longest_lease_ms=LEASE_MS)
        assert (told.enforcement, told.would_be, told.reason) == ("allowed", "blocked", "parent_pause")
        assert told.available_again_ms == NOON_MS + HOUR_MS
        told = not_enforced(decided, "off", longest_lease_ms=LEASE_MS)
        assert told == Decision("allowed", None, None, INTERVAL_MS, LEASE_MS)


class TestNextBeat:
    @pytest.mark.parametrize(
        ("remaining_ms", "next_beat_ms"),
        [
            (HOUR_MS, INTERVAL_MS),
            (15 * MINUTE_MS + INTERVAL_MS, INTERVAL_MS),
            (15 * MINUTE_MS + 29_999, 29_999),
            (15 * MINUTE_MS + 1, 1),
            (15 * MINUTE_MS, INTERVAL_MS),
            (5 * MINUTE_MS + 7, 7),
            (20_000, 20_000),
            (1, 1),
            (0, INTERVAL_MS),
        ],
    )
    def test_a_beat_falls_on_each_threshold_and_on_the_stop(self, remaining_ms: int, next_beat_ms: int) -> None:
        assert with_remaining(remaining_ms).next_beat_ms == next_beat_ms

    def test_the_nearest_of_crowded_thresholds_comes_first(self) -> None:
        assert with_remaining(5 * MINUTE_MS + 10, warning_minutes=(5, 4), interval_ms=2 * MINUTE_MS).next_beat_ms == 10
        assert (
            with_remaining(5 * MINUTE_MS, warning_minutes=(5, 4), interval_ms=2 * MINUTE_MS).next_beat_ms == MINUTE_MS
        )

    @pytest.mark.parametrize("exempt", [False, True])
    def test_a_beat_falls_on_the_reset(self, *, exempt: bool) -> None:
        assert decision(day_ends_ms=NOON_MS + 12_345, is_exempt=exempt).next_beat_ms == 12_345

    def test_a_clock_beyond_the_end_of_the_day_still_waits_a_moment(self) -> None:
        assert decision(day_ends_ms=NOON_MS - 5).next_beat_ms == 1


class TestLease:
    @pytest.mark.parametrize(
        ("remaining_ms", "lease_ms"),
        [(HOUR_MS, LEASE_MS), (LEASE_MS, LEASE_MS), (LEASE_MS - 1, LEASE_MS - 1), (0, 0)],
    )
    def test_it_is_what_remains_and_at_most_five_minutes(self, remaining_ms: int, lease_ms: int) -> None:
        assert with_remaining(remaining_ms).lease_ms == lease_ms


@dataclass
class Player:
    """Sends heartbeats at the given interval, up to 1 ms late, and stops at the stop instant."""

    day_ends_ms: int
    allowance_ms: int
    next_allowance_ms: int
    thresholds: tuple[int, ...]
    used_ms: int
    at_ms: int = NOON_MS

    def ask(self, interval_ms: int) -> Decision:
        return decision(
            at_ms=self.at_ms,
            used_ms=self.used_ms,
            allowance_ms=self.allowance_ms,
            day_ends_ms=self.day_ends_ms,
            next_allowance_ms=self.next_allowance_ms,
            warning_minutes=self.thresholds,
            interval_ms=interval_ms,
        )

    def play(self, duration_ms: int) -> None:
        """Time passes and counts; at the reset the next day begins."""
        before_reset_ms = min(duration_ms, self.day_ends_ms - self.at_ms)
        self.used_ms += before_reset_ms
        self.at_ms += duration_ms
        if self.at_ms >= self.day_ends_ms:
            self.used_ms = duration_ms - before_reset_ms
            self.allowance_ms = self.next_allowance_ms
            self.day_ends_ms += 24 * HOUR_MS

    @property
    def remaining_ms(self) -> int:
        return self.allowance_ms - self.used_ms


@given(
    allowance_min=st.integers(1, 40),
    used_ms=st.integers(0, 40 * MINUTE_MS),
    to_reset_ms=st.integers(1, 60 * MINUTE_MS) | st.just(20 * MINUTE_MS),
    next_allowance_min=st.integers(1, 40),
    thresholds=st.lists(st.integers(1, 30), max_size=5).map(tuple),
    intervals=st.lists(st.integers(27_000, 33_000), min_size=1, max_size=5),
    lates=st.lists(st.integers(0, 1), min_size=1, max_size=5),
)
@example(allowance_min=15, used_ms=0, to_reset_ms=15 * MINUTE_MS, next_allowance_min=1, thresholds=(15, 5),
         intervals=[30_000], lates=[0])  # fmt: skip
@example(allowance_min=1, used_ms=0, to_reset_ms=MINUTE_MS + 1, next_allowance_min=1, thresholds=(),
         intervals=[30_000], lates=[1])  # fmt: skip
@settings(max_examples=200)
def test_a_player_that_obeys_meets_every_threshold_and_stops_at_the_true_moment(  # noqa: PLR0917
    allowance_min: int,
    used_ms: int,
    to_reset_ms: int,
    next_allowance_min: int,
    thresholds: tuple[int, ...],
    intervals: list[int],
    lates: list[int],
) -> None:
    player = Player(
        day_ends_ms=NOON_MS + to_reset_ms,
        allowance_ms=allowance_min * MINUTE_MS,
        next_allowance_ms=next_allowance_min * MINUTE_MS,
        thresholds=thresholds,
        used_ms=min(used_ms, allowance_min * MINUTE_MS - 1),
    )
    promised_ms = player.ask(intervals[0]).stop_at_ms
    assert promised_ms is not None
    turn = 0
    while (answer := player.ask(intervals[turn % len(intervals)])).may_play:
        assert answer.remaining_ms == player.remaining_ms
        assert 1 <= answer.next_beat_ms <= intervals[turn % len(intervals)]
        assert answer.lease_ms == min(player.remaining_ms, LEASE_MS)
        assert answer.stop_at_ms == promised_ms
        late_ms = lates[turn % len(lates)]
        before_ms, day_ends_ms = player.remaining_ms, player.day_ends_ms
        player.play(answer.next_beat_ms + late_ms)
        if player.day_ends_ms == day_ends_ms:
            for minutes in thresholds:
                if player.remaining_ms < minutes * MINUTE_MS < before_ms:
                    assert minutes * MINUTE_MS - player.remaining_ms <= late_ms, "no threshold is passed by"
        else:
            assert player.used_ms <= late_ms, "the reset is not passed by"
            if player.at_ms > promised_ms:
                break  # late for its stop, it finds that another day has begun
        turn += 1
    assert player.at_ms - promised_ms in {0, 1}


@given(
    used_ms=st.integers(0, 3 * HOUR_MS),
    day_ends_ms=st.integers(NOON_MS + 1, NOON_MS + 12 * HOUR_MS),
    next_allowance_ms=st.sampled_from([0, MINUTE_MS, 2 * HOUR_MS, UNLIMITED]),
    is_exempt=st.booleans(),
    left_ms=st.integers(1, 12 * HOUR_MS),
)
@example(used_ms=0, day_ends_ms=NOON_MS + HOUR_MS, next_allowance_ms=0, is_exempt=False, left_ms=90 * MINUTE_MS)
@example(used_ms=HOUR_MS, day_ends_ms=NOON_MS + 2, next_allowance_ms=0, is_exempt=False, left_ms=15 * MINUTE_MS + 1)
def test_a_break_bounds_each_part_of_a_decision(left_ms: int, is_exempt: bool, **fields: Any) -> None:
    """However far off it is: nothing lasts longer than until then, and no warning before it is missed."""
    without = decision(is_exempt=is_exempt, **fields)
    found = decision(is_exempt=is_exempt, next_break=NextBreak(left_ms, NOON_MS), **fields)
    if not without.may_play:
        assert found == without
        return
    ends_ms = [NOON_MS + left_ms, *([] if without.stop_at_ms is None else [without.stop_at_ms])]
    assert found.stop_at_ms == min(ends_ms)
    assert found.remaining_ms == (left_ms if without.remaining_ms is None else min(left_ms, without.remaining_ms))
    assert found.lease_ms == min(left_ms, without.lease_ms)
    assert found.next_beat_ms <= without.next_beat_ms
    for warned_ms in (0, 5 * MINUTE_MS, 15 * MINUTE_MS):
        assert not 0 < left_ms - warned_ms < found.next_beat_ms
    is_nearer = without.stop_at_ms is None or NOON_MS + left_ms < without.stop_at_ms
    assert found.reason == ("break" if is_nearer else without.reason)
