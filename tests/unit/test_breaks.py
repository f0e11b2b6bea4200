"""Breaks: what counts as unbroken playback, when a break is due, and what a player is told."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.breaks import BreakTerms, NextBreak, breaks_of
from app.domain.counters import NO_CLAIM, Beat, Counters, Outcome, Rules, Status, cold
from app.domain.enforcement import Decision, decide, not_enforced
from app.domain.limits import LimitRules
from app.domain.opening_hours import PARENT_PAUSE, OpeningHours
from app.domain.policy import MINUTE_MS, UNLIMITED, DayTerms
from app.domain.reference import apply_policy, merge_generations, record
from app.viewing.effective_policy import EffectivePolicy
from app.viewing.service import has_just_blocked

HOUR_MS, DAY_MS = 60 * MINUTE_MS, 24 * 60 * MINUTE_MS
TODAY = 20_717
NOON_MS = TODAY * DAY_MS + 12 * HOUR_MS
RULES = Rules()
INTERVAL_MS, LEASE_MS = 30_000, 300_000
BREAKS = BreakTerms(30 * MINUTE_MS, 10 * MINUTE_MS)
"""After half an hour ten minutes."""
DUE = NextBreak(0, NOON_MS + 7 * MINUTE_MS)


@dataclass
class Child:
    """A child with breaks, and two hours a day."""

    breaks: BreakTerms | None = BREAKS
    at_ms: int = NOON_MS
    allowance_ms: int = 2 * HOUR_MS
    counters: Counters = field(default_factory=lambda: cold(terms=_day(TODAY), policy_version=1, at_ms=NOON_MS))
    closed: list[Counters] = field(default_factory=list)

    def beat(self, after_ms: int = 30_000, **fields: Any) -> Outcome:
        """A heartbeat of session "a" some time after the last one. It must be counted."""
        self.at_ms += after_ms
        values: dict[str, Any] = {
            "session_id": "a", "new_session_id": "", "issued_at_ms": 0, "title_id": "film", "is_educational": 0,
            "is_exempt": 1, "is_paused": 0, "is_end": 0, "watched_ms": NO_CLAIM, "device_id": "sofa",
            "device_type": "tv", "policy_version": self.counters.policy_version, "days": self.days(),
            "breaks": self.breaks,
        }  # fmt: skip
        recorded = record(self.counters, Beat(**(values | fields)), at_ms=self.at_ms, rules=RULES)
        assert recorded.outcome.status == Status.OK
        assert recorded.counters is not None
        self.counters = recorded.counters
        self.closed += recorded.closed
        return recorded.outcome

    def days(self) -> list[DayTerms]:
        first, last = self.counters.day_number, self.at_ms // DAY_MS
        return [_day(number, self.allowance_ms) for number in range(min(first, last), max(first, last) + 1)]

    def opens(self, session_id: str = "a", **fields: Any) -> Outcome:
        return self.beat(0, session_id="", new_session_id=session_id, **fields)

    def plays(self, duration_ms: int, **fields: Any) -> None:
        for _ in range(duration_ms // 30_000):
            self.beat(**fields)
        if rest_ms := duration_ms % 30_000:
            self.beat(rest_ms, **fields)

    def pauses(self, duration_ms: int) -> None:
        """Tells of it, keeps beating, and resumes at its end."""
        self.beat(0, is_paused=1)
        self.plays(duration_ms - duration_ms % 30_000, is_paused=1)
        self.beat(duration_ms % 30_000)

    @property
    def unbroken_ms(self) -> int:
        return self.counters.unbroken_ms

    @property
    def left_ms(self) -> int:
        """What may be played until a break is due."""
        assert self.breaks is not None
        known = self.counters
        return self.breaks.next_break(known.unbroken_ms, known.played_until_ms, at_ms=self.at_ms).left_ms


def _day(number: int, allowance_ms: int = 2 * HOUR_MS) -> DayTerms:
    return DayTerms(number, number * DAY_MS, (number + 1) * DAY_MS, allowance_ms, allowance_ms)


@pytest.fixture
def child() -> Child:
    watching = Child()
    watching.opens()
    return watching


class TestUnbrokenTime:
    def test_it_is_what_was_played_since_the_child_sat_down(self, child: Child) -> None:
        child.plays(20 * MINUTE_MS)
        assert (child.unbroken_ms, child.counters.played_until_ms) == (20 * MINUTE_MS, child.at_ms)
        assert child.left_ms == 10 * MINUTE_MS

    def test_a_pause_of_exactly_the_length_is_a_break_and_a_shorter_one_is_none(self) -> None:
        for pause_ms, unbroken_ms in [(10 * MINUTE_MS - 1, 25 * MINUTE_MS), (10 * MINUTE_MS, 5 * MINUTE_MS)]:
            child = Child()
            child.opens()
            child.plays(20 * MINUTE_MS)
            child.pauses(pause_ms)
            child.plays(5 * MINUTE_MS)
            assert child.unbroken_ms == unbroken_ms

    def test_the_grace_of_a_pause_is_used_and_is_a_pause(self, child: Child) -> None:
        child.plays(20 * MINUTE_MS)
        child.pauses(5 * MINUTE_MS)
        assert (child.counters.used_ms, child.unbroken_ms) == (25 * MINUTE_MS, 20 * MINUTE_MS)
        child.pauses(5 * MINUTE_MS)
        child.plays(MINUTE_MS)
        assert child.unbroken_ms == MINUTE_MS, "two pauses with nothing played in between are one"

    def test_two_short_pauses_make_no_break(self, child: Child) -> None:
        child.plays(10 * MINUTE_MS)
        child.pauses(6 * MINUTE_MS)
        child.plays(30_000)
        child.pauses(6 * MINUTE_MS)
        child.plays(MINUTE_MS)
        assert child.unbroken_ms == 11 * MINUTE_MS + 30_000

    def test_it_goes_on_over_another_title_another_device_and_another_session(self, child: Child) -> None:
        child.plays(5 * MINUTE_MS)
        child.beat(30_000, title_id="cartoon", new_session_id="b")
        child.plays(5 * MINUTE_MS, session_id="b", title_id="cartoon")
        child.beat(30_000, session_id="", new_session_id="c", device_id="phone")
        child.plays(5 * MINUTE_MS, session_id="c", device_id="phone")
        child.beat(0, session_id="c", is_end=1)
        child.at_ms += 9 * MINUTE_MS
        child.opens("d")
        child.plays(MINUTE_MS, session_id="d")
        assert child.unbroken_ms == 17 * MINUTE_MS

    def test_a_session_that_ended_long_enough_ago_was_a_break(self, child: Child) -> None:
        child.plays(5 * MINUTE_MS)
        child.beat(0, is_end=1)
        child.at_ms += 10 * MINUTE_MS
        child.opens("b")
        assert child.left_ms == 30 * MINUTE_MS
        child.plays(MINUTE_MS, session_id="b")
        assert child.unbroken_ms == MINUTE_MS

    def test_whatever_is_played_counts(self, child: Child) -> None:
        child.allowance_ms = 10 * MINUTE_MS
        child.plays(20 * MINUTE_MS, is_educational=1)
        child.plays(20 * MINUTE_MS)
        sums_ms = child.counters.used_ms, child.counters.educational_ms, child.counters.overrun_ms
        assert sums_ms == (10 * MINUTE_MS, 20 * MINUTE_MS, 10 * MINUTE_MS)
        assert child.unbroken_ms == 40 * MINUTE_MS

    def test_it_goes_on_over_the_reset(self) -> None:
        child = Child(at_ms=(TODAY + 1) * DAY_MS - 10 * MINUTE_MS)
        child.opens()
        child.plays(9 * MINUTE_MS + 45_000)
        child.plays(MINUTE_MS)
        assert child.counters.day_number == TODAY + 1
        assert child.unbroken_ms == 10 * MINUTE_MS + 45_000
        assert [part.unbroken_ms for part in child.closed] == [10 * MINUTE_MS]
        assert [part.played_until_ms for part in child.closed] == [child.counters.day_starts_ms]

    def test_what_was_synced_is_left_out(self, child: Child) -> None:
        at_ms = child.at_ms
        child.beat(4 * MINUTE_MS, synced=((at_ms + MINUTE_MS, at_ms + 2 * MINUTE_MS),))
        assert (child.unbroken_ms, child.counters.played_until_ms) == (3 * MINUTE_MS, child.at_ms)
        child.beat(4 * MINUTE_MS, synced=((child.at_ms + MINUTE_MS, child.at_ms + DAY_MS),))
        assert (child.unbroken_ms, child.counters.played_until_ms) == (4 * MINUTE_MS, at_ms + 5 * MINUTE_MS)

    def test_a_synced_range_of_the_length_of_a_break_is_a_pause(self, child: Child) -> None:
        """A claim reaches over what was synced: nothing is known to have played there."""
        from_ms, to_ms = child.at_ms + 5 * MINUTE_MS, child.at_ms + 15 * MINUTE_MS
        child.beat(20 * MINUTE_MS, watched_ms=10 * MINUTE_MS, synced=((from_ms, to_ms),))
        assert child.counters.used_ms == 10 * MINUTE_MS
        assert (child.unbroken_ms, child.counters.played_until_ms) == (5 * MINUTE_MS, child.at_ms)

    def test_a_claim_after_silence_was_played_from_the_last_beat_on(self, child: Child) -> None:
        child.plays(5 * MINUTE_MS)
        child.beat(40 * MINUTE_MS, watched_ms=25 * MINUTE_MS)
        assert (child.unbroken_ms, child.counters.played_until_ms) == (25 * MINUTE_MS, child.at_ms - 20 * MINUTE_MS)
        assert child.left_ms == 30 * MINUTE_MS, "since then nothing played"
        child.plays(MINUTE_MS)
        assert child.unbroken_ms == MINUTE_MS

    def test_a_claim_tells_of_playback_also_where_the_last_beat_told_of_a_pause(self, child: Child) -> None:
        child.plays(5 * MINUTE_MS)
        child.beat(0, is_paused=1)
        child.beat(20 * MINUTE_MS, watched_ms=25 * MINUTE_MS)
        assert (child.counters.used_ms, child.unbroken_ms) == (25 * MINUTE_MS, 25 * MINUTE_MS)

    def test_a_charged_session_was_played(self) -> None:
        child = Child()
        for session_id in "abcd":
            child.opens(session_id)
            child.at_ms += 6 * MINUTE_MS
        assert (child.counters.used_ms, child.counters.abandoned_sessions) == (5 * MINUTE_MS, 3)
        assert child.unbroken_ms == 5 * MINUTE_MS

    def test_without_the_rule_nothing_is_kept(self, child: Child) -> None:
        child.plays(5 * MINUTE_MS)
        child.breaks = None
        outcome = child.beat(30_000, session_id="", new_session_id="b")
        assert (outcome.unbroken_ms, outcome.played_until_ms) == (0, 0)
        assert {part.unbroken_ms for part in [child.counters, *child.closed]} == {0}

    def test_an_outcome_tells_it(self, child: Child) -> None:
        outcome = child.beat(30_000)
        assert (outcome.unbroken_ms, outcome.played_until_ms) == (30_000, child.at_ms)

    def test_a_clock_that_fell_does_not_make_a_break_of_days(self, child: Child) -> None:
        child.plays(30 * MINUTE_MS)
        child.at_ms -= 8 * HOUR_MS
        seen = BREAKS.next_break(child.unbroken_ms, child.counters.played_until_ms, at_ms=child.at_ms)
        assert seen == NextBreak(0, child.at_ms + 10 * MINUTE_MS)
        child.beat(0, is_paused=1)
        assert child.counters.played_until_ms == child.at_ms
        child.plays(10 * MINUTE_MS, is_paused=1)
        assert child.left_ms == 30 * MINUTE_MS

    def test_what_a_change_of_settings_finds_beyond_the_allowance_was_played(self) -> None:
        child = Child(allowance_ms=10 * MINUTE_MS)
        child.opens()
        child.plays(12 * MINUTE_MS)
        settled = apply_policy(
            child.counters, version=2, terms=_day(TODAY), synced=(), is_exempt=True, at_ms=child.at_ms + MINUTE_MS,
            max_gap_ms=RULES.max_gap_ms, breaks=BREAKS,
        )  # fmt: skip
        assert (settled.unbroken_ms, settled.played_until_ms) == (13 * MINUTE_MS, child.at_ms + MINUTE_MS)
        untold = apply_policy(
            child.counters, version=2, terms=_day(TODAY), synced=(), is_exempt=True, at_ms=child.at_ms + MINUTE_MS,
            max_gap_ms=RULES.max_gap_ms,
        )  # fmt: skip
        assert untold.unbroken_ms == 12 * MINUTE_MS, "the next beat clears it"

    def test_after_a_loss_the_counters_with_the_later_beat_tell(self, child: Child) -> None:
        child.plays(5 * MINUTE_MS)
        flushed = msgspec.structs.replace(child.counters)
        child.plays(MINUTE_MS)
        for survived, recovered in [(flushed, child.counters), (child.counters, flushed)]:
            assert merge_generations(survived, recovered, at_ms=child.at_ms).unbroken_ms == 6 * MINUTE_MS


ACTS = st.tuples(
    st.sampled_from(["plays", "plays", "pauses", "is away", "claims", "changes the title", "opens"]),
    st.sampled_from([1, 30_000, 299_999, 300_000]) | st.integers(1, 5 * MINUTE_MS),
    st.integers(1, 3),
)


@given(acts=st.lists(ACTS, min_size=1, max_size=25), length_ms=st.sampled_from([MINUTE_MS, 5 * MINUTE_MS]))
@settings(max_examples=150, deadline=None)
def test_it_is_the_playback_since_the_last_gap_of_that_length(acts: list[tuple[str, int, int]], length_ms: int) -> None:
    child = Child(BreakTerms(30 * MINUTE_MS, length_ms))
    child.opens("s0")
    session, title, played = "s0", "film", [(child.at_ms, child.at_ms)]
    for number, (act, gap_ms, times) in enumerate(acts, start=1):
        from_ms, was = child.at_ms, child.counters.paused_since_ms
        if act in {"plays", "pauses"}:
            for each_ms in [0, *[gap_ms] * times]:
                child.beat(each_ms, session_id=session, title_id=title, is_paused=int(act == "pauses"))
            until_ms = child.at_ms if act == "plays" else from_ms
        elif act == "claims":
            claim_ms = child.counters.watched_ms + gap_ms
            child.beat(300_001 * times, session_id=session, title_id=title, watched_ms=claim_ms)
            until_ms = from_ms + gap_ms
        elif act == "is away":
            child.beat(0, session_id=session, is_end=1)
            child.at_ms += gap_ms * times
            session, until_ms = f"s{number}", from_ms
            child.opens(session, title_id=title)
        else:
            before, session = session if act == "changes the title" else "", f"s{number}"
            title = f"title-{number}"
            child.beat(gap_ms, session_id=before, new_session_id=session, title_id=title)
            until_ms = from_ms if was else child.at_ms
        played.append((from_ms, until_ms))
    assert (child.unbroken_ms, child.counters.played_until_ms) == _since_last_gap(played, length_ms)


def _since_last_gap(played: list[tuple[int, int]], length_ms: int) -> tuple[int, int]:
    """How much of the last run of time ranges that are less than a length apart was played, and when it ended."""
    ascending = sorted(part for part in played if part[0] < part[1])
    if not ascending:
        return 0, 0
    first_ms, total_ms = ascending[-1][1], 0
    for from_ms, until_ms in reversed(ascending):
        if first_ms - until_ms >= length_ms:
            break
        first_ms, total_ms = from_ms, total_ms + until_ms - from_ms
    return total_ms, ascending[-1][1]


class TestLease:
    """What the script notes for an opening beat, and charges if the session is abandoned."""

    def test_it_ends_with_what_is_left_until_the_break(self, child: Child) -> None:
        child.plays(28 * MINUTE_MS)
        child.opens("b")
        assert child.counters.lease_ms == 2 * MINUTE_MS
        child.plays(3 * MINUTE_MS, session_id="b")
        child.opens("c")
        assert child.counters.lease_ms == 0

    @pytest.mark.parametrize("fields", [{"is_educational": 1}, {"days": [_day(TODAY, UNLIMITED)]}])
    def test_also_where_nothing_else_limits_it(self, child: Child, fields: dict[str, Any]) -> None:
        child.plays(28 * MINUTE_MS)
        child.opens("b", **fields)
        assert child.counters.lease_ms == 2 * MINUTE_MS

    def test_after_a_break_it_is_whole(self, child: Child) -> None:
        child.plays(30 * MINUTE_MS)
        child.beat(0, is_end=1)
        child.at_ms += 10 * MINUTE_MS
        child.opens("b")
        assert child.counters.lease_ms == LEASE_MS


def decision(**fields: Any) -> Decision:
    """A decision at noon, of a day that ends in 12 hours, with 2 hours of allowance."""
    values: dict[str, Any] = {
        "at_ms": NOON_MS, "used_ms": 0, "allowance_ms": 2 * HOUR_MS, "is_exempt": False,
        "day_ends_ms": NOON_MS + 12 * HOUR_MS, "next_allowance_ms": 2 * HOUR_MS, "warning_minutes": (15, 5),
        "interval_ms": INTERVAL_MS, "longest_lease_ms": LEASE_MS,
    }  # fmt: skip
    return decide(**(values | fields))


def in_play(left_ms: int) -> NextBreak:
    return NextBreak(left_ms, NOON_MS + 10 * MINUTE_MS)


def hours(*changes: tuple[int, str | None]) -> OpeningHours:
    """Open until the first change."""
    return OpeningHours((0, *(at_ms for at_ms, _ in changes)), (None, *(rule for _, rule in changes)))


NOTHING_ELSE: list[dict[str, Any]] = [{}, {"allowance_ms": UNLIMITED}, {"is_exempt": True}]


class TestDecision:
    @pytest.mark.parametrize("fields", NOTHING_ELSE)
    def test_while_a_break_is_due_nothing_plays(self, fields: dict[str, Any]) -> None:
        found = decision(next_break=DUE, **fields)
        assert found == Decision("blocked", 0, NOON_MS, INTERVAL_MS, 0, None, "break")

    @pytest.mark.parametrize("fields", NOTHING_ELSE)
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
    def test_it_warns_as_a_limit_does(
        self, fields: dict[str, Any], left_ms: int, enforcement: str, next_beat_ms: int, lease_ms: int
    ) -> None:
        found = decision(next_break=in_play(left_ms), **fields)
        assert found == Decision(enforcement, left_ms, NOON_MS + left_ms, next_beat_ms, lease_ms, None, "break", None)

    def test_the_rule_that_ends_playback_first_is_named(self) -> None:
        left_ms = 20 * MINUTE_MS
        before = decision(next_break=in_play(left_ms), used_ms=2 * HOUR_MS - left_ms - 1)
        assert (before.stop_at_ms, before.reason) == (NOON_MS + left_ms, "break")
        same = decision(next_break=in_play(left_ms), used_ms=2 * HOUR_MS - left_ms)
        assert (same.stop_at_ms, same.reason) == (NOON_MS + left_ms, "daily_limit")
        closes_ms = NOON_MS + left_ms - 1
        window = decision(next_break=in_play(left_ms), opening_hours=hours((closes_ms, "window")))
        assert (window.stop_at_ms, window.remaining_ms, window.reason) == (closes_ms, left_ms - 1, "window")

    def test_an_exempt_title_is_warned_of_whatever_ends_it_first(self) -> None:
        fields: dict[str, Any] = {"is_exempt": True, "used_ms": 2 * HOUR_MS}
        found = decision(next_break=in_play(14 * MINUTE_MS), **fields)
        assert (found.enforcement, found.remaining_ms) == ("warning_15", 0)
        closing = hours((NOON_MS + 4 * MINUTE_MS, "window"))
        assert decision(next_break=in_play(HOUR_MS), opening_hours=closing, **fields).enforcement == "warning_5"
        closing = hours((NOON_MS + HOUR_MS, "window"))
        assert decision(next_break=in_play(4 * MINUTE_MS), opening_hours=closing, **fields).enforcement == "warning_5"

    def test_a_blocked_child_is_told_of_the_stronger_rule(self) -> None:
        assert decision(next_break=DUE, used_ms=2 * HOUR_MS).reason == "daily_limit"
        paused = OpeningHours((0, NOON_MS + HOUR_MS), (PARENT_PAUSE, None))
        assert decision(next_break=DUE, opening_hours=paused).reason == "parent_pause"

    def test_the_next_beat_falls_on_the_end_of_the_break(self) -> None:
        assert decision(next_break=NextBreak(0, NOON_MS + 7)).next_beat_ms == 7

    def test_shadow_mode_passes_on_what_was_decided(self) -> None:
        told = not_enforced(decision(next_break=DUE), "shadow", longest_lease_ms=LEASE_MS)
        assert (told.enforcement, told.would_be, told.reason) == ("allowed", "blocked", "break")
        told = not_enforced(decision(next_break=DUE), "off", longest_lease_ms=LEASE_MS)
        assert (told.enforcement, told.reason) == ("allowed", None)

    @given(
        used_ms=st.integers(0, 3 * HOUR_MS),
        allowance_ms=st.sampled_from([UNLIMITED, 0, HOUR_MS, 2 * HOUR_MS]),
        is_exempt=st.booleans(),
        closes_ms=st.none() | st.integers(1, 3 * HOUR_MS),
        left_ms=st.sampled_from([0, 1]) | st.integers(0, 3 * HOUR_MS),
        to_end_ms=st.integers(1, 2 * HOUR_MS),
        to_reset_ms=st.integers(1, 12 * HOUR_MS),
    )
    def test_no_rule_lets_more_through_than_each_alone(  # noqa: PLR0917  drawn by name
        self,
        used_ms: int,
        allowance_ms: int,
        closes_ms: int | None,
        left_ms: int,
        to_end_ms: int,
        to_reset_ms: int,
        *,
        is_exempt: bool,
    ) -> None:
        opening = None if closes_ms is None else hours((NOON_MS + closes_ms, "window"), (NOON_MS + DAY_MS, None))
        fields: dict[str, Any] = {
            "used_ms": used_ms, "allowance_ms": allowance_ms, "is_exempt": is_exempt, "opening_hours": opening,
            "day_ends_ms": NOON_MS + to_reset_ms,
        }  # fmt: skip
        ends_ms = NOON_MS + to_end_ms
        alone, both = decision(**fields), decision(next_break=NextBreak(left_ms, ends_ms), **fields)
        assert both.may_play == (alone.may_play and left_ms > 0)
        if both.may_play:
            due_ms = NOON_MS + left_ms
            assert both.stop_at_ms == (due_ms if alone.stop_at_ms is None else min(alone.stop_at_ms, due_ms))
            assert both.lease_ms == min(alone.lease_ms, left_ms)
            assert 0 < both.next_beat_ms <= alone.next_beat_ms
            assert (both.reason == "break") == (both.stop_at_ms != alone.stop_at_ms)


class TestEvents:
    """Players hear of a break once, with the beat that makes it due."""

    effective = EffectivePolicy(policy=None, breaks=BREAKS)  # type: ignore[arg-type]

    def heard(self, child: Child, outcome: Outcome) -> bool:
        known = child.counters
        seen = BREAKS.next_break(known.unbroken_ms, known.played_until_ms, at_ms=child.at_ms)
        decided = decision(next_break=seen, at_ms=child.at_ms, used_ms=outcome.used_ms)
        return has_just_blocked(outcome, decided, self.effective)

    def test_not_before_and_not_after(self, child: Child) -> None:
        child.plays(29 * MINUTE_MS + 30_000)
        assert [self.heard(child, child.beat()) for _ in range(3)] == [True, False, False]

    def test_not_in_the_grace_of_a_pause(self, child: Child) -> None:
        child.plays(30 * MINUTE_MS)
        child.beat(0, is_paused=1)
        assert not any(self.heard(child, child.beat(is_paused=1)) for _ in range(5))


class TestSettings:
    def test_they_make_the_rule(self) -> None:
        assert breaks_of(LimitRules(break_after_minutes=45, break_minutes=15)) == BreakTerms(2_700_000, 900_000)

    def test_without_them_there_is_none(self) -> None:
        assert breaks_of(None) is None
        assert breaks_of(LimitRules(weekly_limit_minutes=600)) is None


@given(
    after=st.integers(3, 12),
    length=st.integers(1, 4),
    intervals=st.lists(st.integers(27_000, 33_000), min_size=1, max_size=5),
    restless=st.lists(st.integers(0, 5 * MINUTE_MS), max_size=6),
)
@settings(max_examples=60, deadline=None)
def test_a_player_that_obeys_stops_at_each_break_and_plays_again_at_its_end(
    after: int, length: int, intervals: list[int], restless: list[int]
) -> None:
    """Half an hour of a child that pauses now and then, and else plays whenever it may."""
    breaks = BreakTerms(after * MINUTE_MS, length * MINUTE_MS)
    child = Child(breaks)
    outcome, played, turn = child.opens(), [], 0
    while child.at_ms < NOON_MS + 30 * MINUTE_MS:
        seen = breaks.next_break(outcome.unbroken_ms, outcome.played_until_ms, at_ms=child.at_ms)
        turn += 1
        decided = decision(
            at_ms=child.at_ms, used_ms=outcome.used_ms, next_break=seen, interval_ms=intervals[turn % len(intervals)]
        )
        if not decided.may_play:
            child.beat(0, is_paused=1)
            while child.at_ms < seen.ends_ms:
                outcome = child.beat(min(30_000, seen.ends_ms - child.at_ms), is_paused=1)
            assert (
                breaks.next_break(outcome.unbroken_ms, outcome.played_until_ms, at_ms=child.at_ms).left_ms
                == breaks.after_ms
            )
            outcome = child.beat(0)
        elif restless and turn % 5 == 0:
            child.pauses(restless[turn % len(restless)])
            outcome = child.beat(0)
        else:
            from_ms = child.at_ms
            outcome = child.beat(decided.next_beat_ms)
            played.append((from_ms, child.at_ms))
            assert decided.stop_at_ms is not None
            assert child.at_ms <= decided.stop_at_ms
    assert _since_last_gap(played, breaks.length_ms)[0] <= breaks.after_ms
    for place in range(len(played)):
        assert _since_last_gap(played[: place + 1], breaks.length_ms)[0] <= breaks.after_ms
