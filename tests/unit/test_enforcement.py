"""The decision: thresholds, when to stop, when to ask again, how long to go on without an answer."""

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.domain.enforcement import Decision, decide, enforcement_of
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
    """Obeys: beats when told, up to 1 ms late, and stops when told."""

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
