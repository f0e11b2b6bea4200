"""The counting rules, one by one, in the executable specification. tests/model keeps the Lua script equal to it."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.counters import MAX_UNCOUNTED, NO_CLAIM, Beat, Counters, EndReason, Outcome, Rules, Status, cold
from app.domain.policy import UNLIMITED, DayTerms
from app.domain.reference import record

SECOND_MS = 1000
MINUTE_MS = 60 * SECOND_MS
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
GAP_MS = 5 * MINUTE_MS
TODAY = 20_717
MIDNIGHT_MS = TODAY * DAY_MS
NOON_MS = MIDNIGHT_MS + 12 * HOUR_MS
RULES = Rules()


def terms(number: int = TODAY, allowance_ms: int = 2 * HOUR_MS) -> DayTerms:
    return DayTerms(number, number * DAY_MS, (number + 1) * DAY_MS, allowance_ms, allowance_ms)


@dataclass
class Child:
    """A child without usage; heartbeats name only the fields that matter to a test."""

    at_ms: int = NOON_MS
    allowance_ms: int = 2 * HOUR_MS
    rules: Rules = RULES
    generation: int = 0
    counters: Counters | None = None
    closed: list[Counters] = field(default_factory=list)
    allowances_ms: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.counters = cold(terms=self.terms(self.at_ms // DAY_MS), policy_version=1, at_ms=self.at_ms)

    @property
    def present(self) -> Counters:
        assert self.counters is not None
        return self.counters

    @property
    def sums_ms(self) -> tuple[int, int, int]:
        """Used, educational and overrun time of the running day."""
        return self.present.used_ms, self.present.educational_ms, self.present.overrun_ms

    def terms(self, number: int) -> DayTerms:
        return terms(number, self.allowances_ms.get(number, self.allowance_ms))

    def days(self) -> list[DayTerms]:
        first = min(self.present.day_number, self.at_ms // DAY_MS)
        return [self.terms(number) for number in range(first, max(self.present.day_number, self.at_ms // DAY_MS) + 1)]

    def fields(self, **fields: Any) -> dict[str, Any]:
        """The fields of a heartbeat of session "a", with the given changes."""
        values: dict[str, Any] = {
            "session_id": "a", "new_session_id": "", "issued_at_ms": 0, "title_id": "film", "is_educational": 0,
            "is_exempt": 1, "is_paused": 0, "is_end": 0, "watched_ms": NO_CLAIM, "device_id": "sofa",
            "device_type": "tv", "policy_version": 1, "days": self.days(),
        }  # fmt: skip
        return values | fields

    def send(self, after_ms: int = 30_000, **fields: Any) -> Outcome:
        """A heartbeat some time after the last one, with any outcome."""
        self.at_ms += after_ms
        beat = Beat(**self.fields(**fields))
        recorded = record(self.counters, beat, at_ms=self.at_ms, rules=self.rules, generation=self.generation)
        if recorded.outcome.status != Status.OK:
            assert (recorded.counters, recorded.closed) == (self.counters, []), "a refusal changes nothing"
        self.counters = recorded.counters
        self.closed += recorded.closed
        return recorded.outcome

    def beat(self, after_ms: int = 30_000, **fields: Any) -> Outcome:
        """A heartbeat that must be counted."""
        outcome = self.send(after_ms, **fields)
        assert outcome.status == Status.OK
        return outcome

    def open(self, session_id: str = "a", **fields: Any) -> Outcome:
        return self.beat(0, session_id="", new_session_id=session_id, **fields)

    def beats(self, duration_ms: int, **fields: Any) -> None:
        """Beats every 30 s for a while."""
        for _ in range(duration_ms // 30_000):
            self.beat(**fields)

    def end(self, after_ms: int = 30_000, **fields: Any) -> Outcome:
        return self.send(after_ms, is_end=1, title_id="", device_id="", device_type="", **fields)


@pytest.fixture
def child() -> Child:
    watching = Child()
    watching.open()
    return watching


class TestMeasuredTime:
    def test_the_opening_beat_credits_nothing(self) -> None:
        child = Child()
        outcome = child.open()
        assert (outcome.session_id, outcome.used_ms, outcome.session_total_ms) == ("a", 0, 0)

    @pytest.mark.parametrize("gap_ms", [0, 1, 30_000, 299_999, 300_000])
    def test_a_gap_of_up_to_five_minutes_counts_whole(self, child: Child, gap_ms: int) -> None:
        outcome = child.beat(gap_ms)
        assert (outcome.used_ms, outcome.session_total_ms, outcome.counted_ms) == (gap_ms, gap_ms, gap_ms)

    def test_a_gap_beyond_five_minutes_ends_the_session_at_its_last_beat_and_credits_nothing(
        self, child: Child
    ) -> None:
        child.beat()
        outcome = child.send(300_001)
        assert (outcome.status, outcome.ended_ms) == (Status.ENDED, NOON_MS + 30_000)
        assert child.sums_ms == (30_000, 0, 0)

    def test_a_repeated_beat_adds_nothing(self, child: Child) -> None:
        child.beat()
        child.beat(0)
        assert child.sums_ms == (30_000, 0, 0)

    def test_a_flood_of_beats_adds_up_to_wall_time(self, child: Child) -> None:
        for _ in range(1000):
            child.beat(1)
        assert child.sums_ms == (1000, 0, 0)

    def test_a_repeated_opening_call_goes_on_with_the_session_it_opened(self, child: Child) -> None:
        outcome = child.beat(40, session_id="", new_session_id="a")
        assert (outcome.session_id, outcome.superseded_id, child.sums_ms) == ("a", "", (40, 0, 0))


class TestPauses:
    def test_the_time_until_the_pause_counts(self, child: Child) -> None:
        child.beat(is_paused=1)
        assert child.sums_ms == (30_000, 0, 0)

    @pytest.mark.parametrize(("paused_ms", "counted_ms"), [(299_999, 299_999), (300_000, 300_000)])
    def test_the_first_five_minutes_of_a_pause_count(self, child: Child, paused_ms: int, counted_ms: int) -> None:
        child.beat(0, is_paused=1)
        child.beat(paused_ms, is_paused=1)
        assert child.sums_ms == (counted_ms, 0, 0)

    def test_the_rest_of_a_pause_does_not_count(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        child.beats(HOUR_MS, is_paused=1)
        assert child.sums_ms == (5 * MINUTE_MS, 0, 0)

    def test_the_grace_ends_between_two_beats(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        child.beat(290_000, is_paused=1)
        child.beat(is_paused=1)
        assert child.sums_ms == (300_000, 0, 0)

    def test_a_resume_counts_again_at_once(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        child.beats(10 * MINUTE_MS, is_paused=1)
        child.beat(10_000)  # resumed just now: until here it was paused
        child.beat(10_000)
        assert child.sums_ms == (5 * MINUTE_MS + 10_000, 0, 0)

    def test_each_pause_has_a_grace_of_its_own(self, child: Child) -> None:
        for _ in range(2):
            child.beat(0, is_paused=1)
            child.beats(10 * MINUTE_MS, is_paused=1)
            child.beat(0)
        assert child.sums_ms == (10 * MINUTE_MS, 0, 0)

    def test_beats_lost_in_a_pause_change_nothing(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        child.beat(4 * MINUTE_MS, is_paused=1)
        child.beat(4 * MINUTE_MS, is_paused=1)
        child.beat(4 * MINUTE_MS)
        assert child.sums_ms == (5 * MINUTE_MS, 0, 0)

    def test_a_paused_player_that_falls_silent_is_closed(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        assert child.send(GAP_MS + 1, is_paused=1).status == Status.ENDED


class TestSilence:
    def test_a_claim_revives_the_session_and_is_credited(self, child: Child) -> None:
        child.beats(MINUTE_MS)
        child.beat(HOUR_MS, watched_ms=MINUTE_MS + 20 * MINUTE_MS)
        assert child.sums_ms == (21 * MINUTE_MS, 0, 0)
        child.beat()
        assert child.sums_ms == (21 * MINUTE_MS + 30_000, 0, 0)

    def test_a_claim_reaches_over_what_was_synced_and_counts_none_of_it(self, child: Child) -> None:
        began_ms = child.at_ms
        synced = ((began_ms + MINUTE_MS, began_ms + 6 * MINUTE_MS),)
        child.beat(20 * MINUTE_MS, watched_ms=10 * MINUTE_MS, synced=synced)
        assert child.sums_ms == (10 * MINUTE_MS, 0, 0)
        child.beat(20 * MINUTE_MS, watched_ms=HOUR_MS, synced=((child.at_ms, child.at_ms + 15 * MINUTE_MS),))
        assert child.sums_ms == (15 * MINUTE_MS, 0, 0)

    def test_what_was_synced_is_not_counted_by_a_beat_that_comes_in_time(self, child: Child) -> None:
        child.beat(MINUTE_MS, synced=((child.at_ms + 10_000, child.at_ms + 30_000),))
        assert child.sums_ms == (40_000, 0, 0)

    def test_a_claim_is_credited_up_to_the_time_that_passed(self, child: Child) -> None:
        child.beat(HOUR_MS, watched_ms=100 * HOUR_MS)
        assert child.sums_ms == (HOUR_MS, 0, 0)

    @pytest.mark.parametrize("claim_ms", [0, 59_999, 60_000])
    def test_a_claim_that_fell_or_stayed_revives_and_credits_nothing(self, child: Child, claim_ms: int) -> None:
        child.beats(MINUTE_MS, watched_ms=MINUTE_MS)
        child.beat(HOUR_MS, watched_ms=claim_ms)
        assert child.sums_ms == (MINUTE_MS, 0, 0)
        child.beat()
        assert child.sums_ms == (MINUTE_MS + 30_000, 0, 0)

    def test_claims_say_nothing_while_beats_arrive(self, child: Child) -> None:
        child.beat(watched_ms=100 * HOUR_MS)
        child.beat(watched_ms=0)
        assert child.sums_ms == (MINUTE_MS, 0, 0)

    def test_what_was_counted_between_two_claims_is_not_claimed_again(self, child: Child) -> None:
        child.beat(10 * MINUTE_MS, watched_ms=10 * MINUTE_MS)
        child.beats(10 * MINUTE_MS)
        child.beat(10 * MINUTE_MS, watched_ms=20 * MINUTE_MS)  # nothing was watched in the silence
        assert child.sums_ms == (20 * MINUTE_MS, 0, 0)

    def test_the_grace_of_a_pause_is_not_held_against_a_claim(self, child: Child) -> None:
        child.beats(MINUTE_MS)
        child.beat(0, is_paused=1)
        child.beats(5 * MINUTE_MS, is_paused=1)
        child.beat(0)
        child.beat(10 * MINUTE_MS, watched_ms=11 * MINUTE_MS)
        assert child.sums_ms == (16 * MINUTE_MS, 0, 0)

    def test_a_session_that_was_ended_is_not_revived(self, child: Child) -> None:
        child.end()
        outcome = child.send(HOUR_MS, watched_ms=HOUR_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.ENDED, NOON_MS + 30_000)

    def test_a_session_is_not_revived_when_another_took_over(self, child: Child) -> None:
        child.at_ms += HOUR_MS
        child.open("b")
        outcome = child.send(issued_at_ms=NOON_MS, watched_ms=HOUR_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.ENDED, NOON_MS)

    def test_the_claim_of_a_beat_that_changes_the_title_is_the_old_sessions(self, child: Child) -> None:
        child.beats(HOUR_MS)
        child.beat(0, watched_ms=HOUR_MS, title_id="other", new_session_id="b")
        child.beat(0, watched_ms=HOUR_MS, title_id="other")  # the answer was lost
        child.beat(10 * MINUTE_MS, session_id="b", title_id="other", watched_ms=10 * MINUTE_MS)
        assert child.sums_ms == (HOUR_MS + 10 * MINUTE_MS, 0, 0)


class TestReset:
    def test_time_across_the_reset_is_split_between_both_days(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10_000)
        child.open()
        outcome = child.beat()
        assert (outcome.day_number, child.sums_ms) == (TODAY + 1, (20_000, 0, 0))
        [yesterday] = child.closed
        assert (yesterday.day_number, yesterday.used_ms, yesterday.session_used_ms) == (TODAY, 10_000, 10_000)
        assert outcome.session_total_ms == 30_000
        assert outcome.counted_ms == 20_000

    def test_a_beat_exactly_at_the_reset_gives_the_old_day_all_and_opens_the_new_one(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 30_000)
        child.open()
        outcome = child.beat()
        assert (outcome.day_number, child.sums_ms) == (TODAY + 1, (0, 0, 0))
        assert [day.used_ms for day in child.closed] == [30_000]

    def test_each_days_share_is_judged_by_its_own_allowance(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10_000, allowances_ms={TODAY: 4_000, TODAY + 1: 3_000})
        child.open()
        child.beat()
        [yesterday] = child.closed
        assert (yesterday.used_ms, yesterday.overrun_ms) == (4_000, 6_000)
        assert child.sums_ms == (3_000, 0, 17_000)

    def test_educational_time_is_split_too(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10_000)
        child.open(is_educational=1)
        child.beat(is_educational=1)
        assert (child.closed[0].educational_ms, child.present.educational_ms) == (10_000, 20_000)

    def test_a_claim_over_days_of_silence_fills_them_from_the_last_beat_on(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - HOUR_MS, allowance_ms=UNLIMITED)
        child.open()
        child.beat(50 * HOUR_MS, watched_ms=26 * HOUR_MS)
        assert [(day.day_number, day.used_ms) for day in child.closed] == [
            (TODAY, HOUR_MS),
            (TODAY + 1, 24 * HOUR_MS),
            (TODAY + 2, HOUR_MS),
        ]
        assert (child.present.day_number, child.sums_ms) == (TODAY + 3, (0, 0, 0))
        assert child.present.session_total_ms == 26 * HOUR_MS

    def test_a_pause_across_the_reset_keeps_its_one_grace(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 2 * MINUTE_MS)
        child.open()
        child.beat(0, is_paused=1)
        child.beats(20 * MINUTE_MS, is_paused=1)
        assert [day.used_ms for day in child.closed] == [2 * MINUTE_MS]
        assert child.sums_ms == (3 * MINUTE_MS, 0, 0)

    def test_a_day_set_aside_knows_up_to_where_it_counts(self) -> None:
        """It may be flushed, and everything else lost, before the day that follows is."""
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10_000)
        child.open()
        child.beat(watched_ms=30_000)
        [yesterday] = child.closed
        assert (yesterday.last_beat_ms, yesterday.watched_ms) == (MIDNIGHT_MS + DAY_MS, 10_000)
        assert (child.present.last_beat_ms, child.present.watched_ms) == (child.at_ms, 30_000)

    @pytest.mark.parametrize("is_paused", [0, 1])
    @pytest.mark.parametrize("is_educational", [0, 1])
    def test_whoever_goes_on_from_it_counts_nothing_twice(self, is_paused: int, is_educational: int) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - MINUTE_MS)
        child.open(is_educational=is_educational)
        fields = {"is_paused": is_paused, "is_educational": is_educational}
        child.beat(50_000, **fields)
        child.beat(**fields)
        [yesterday] = child.closed
        lost = Child(at_ms=child.at_ms)
        lost.counters = msgspec.structs.replace(yesterday, dirty_since_ms=0)
        child.beat(**fields)
        lost.beat(**fields)
        assert _flushed([yesterday, *lost.closed, lost.present]) == _flushed([yesterday, child.present])

    @pytest.mark.parametrize("place", range(3))
    def test_nor_of_what_was_claimed(self, place: int) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - HOUR_MS, allowance_ms=UNLIMITED)
        child.open()
        child.beat(50 * HOUR_MS, watched_ms=26 * HOUR_MS)
        lost = Child(at_ms=child.at_ms, allowance_ms=UNLIMITED)
        lost.counters = msgspec.structs.replace(child.closed[place], dirty_since_ms=0)
        lost.beat(watched_ms=26 * HOUR_MS + 30_000)
        known = child.closed[: place + 1]
        assert sum(_flushed([*known, *lost.closed, lost.present]).values()) == 26 * HOUR_MS + 30_000

    def test_a_session_opened_on_a_later_day_sets_the_old_one_aside(self, child: Child) -> None:
        child.beat()
        child.at_ms += 3 * DAY_MS
        child.open("b")
        assert (child.present.day_number, child.sums_ms) == (TODAY + 3, (0, 0, 0))
        [old] = child.closed
        assert (old.session_id, old.day_number, old.used_ms, old.has_ended) == ("a", TODAY, 30_000, 1)

    def test_days_that_do_not_reach_from_the_running_day_to_now_are_asked_for(self, child: Child) -> None:
        child.allowances_ms = {}
        assert child.send(DAY_MS, days=[], watched_ms=0).status == Status.DAY
        assert child.send(0, days=[terms(TODAY)], watched_ms=0).status == Status.DAY
        assert child.send(DAY_MS, days=[terms(TODAY + 2)], watched_ms=0).status == Status.DAY
        child.beat(0, days=[terms(TODAY + 1), terms(TODAY + 2)], watched_ms=0)

    def test_another_day_than_the_running_one_is_refused(self, child: Child) -> None:
        assert child.send(days=[terms(TODAY - 1)]).status == Status.DAY

    def test_after_a_long_absence_the_days_may_leave_a_gap(self, child: Child) -> None:
        child.at_ms = child.present.day_ends_ms + RULES.long_absence_ms
        late = child.at_ms // DAY_MS
        assert child.send(-1, session_id="", new_session_id="b", days=[terms(late - 1)]).status == Status.DAY
        child.beat(1, session_id="", new_session_id="b", days=[terms(late)])
        assert child.present.day_number == late


class TestAllowance:
    def test_what_is_watched_beyond_it_is_kept_apart(self) -> None:
        child = Child(allowance_ms=MINUTE_MS)
        child.open()
        child.beats(2 * MINUTE_MS)
        assert child.sums_ms == (MINUTE_MS, 0, MINUTE_MS)

    def test_it_may_end_between_two_beats(self) -> None:
        child = Child(allowance_ms=40_000)
        child.open()
        child.beat()
        outcome = child.beat()
        assert (child.sums_ms, outcome.counted_ms) == ((40_000, 0, 20_000), 10_000)
        assert outcome.session_total_ms == 60_000

    def test_a_quarter_more_gives_a_quarter_of_an_hour(self) -> None:
        child = Child(allowance_ms=MINUTE_MS)
        child.open()
        child.beats(10 * MINUTE_MS)
        child.allowance_ms += 15 * MINUTE_MS
        child.beats(15 * MINUTE_MS)
        assert child.sums_ms == (16 * MINUTE_MS, 0, 9 * MINUTE_MS)
        child.beat()
        assert child.sums_ms == (16 * MINUTE_MS, 0, 9 * MINUTE_MS + 30_000)

    def test_lowered_below_what_was_used_nothing_more_is_used(self, child: Child) -> None:
        child.beats(10 * MINUTE_MS)
        child.allowance_ms = MINUTE_MS
        child.beat()
        assert child.sums_ms == (10 * MINUTE_MS, 0, 30_000)

    def test_unlimited_knows_no_overrun(self) -> None:
        child = Child(allowance_ms=UNLIMITED)
        child.open()
        child.beats(10 * HOUR_MS)
        assert child.sums_ms == (10 * HOUR_MS, 0, 0)

    def test_the_limit_of_the_day_is_kept_with_the_counters(self, child: Child) -> None:
        child.allowance_ms = 3 * HOUR_MS
        child.beat()
        assert (child.present.limit_ms, child.present.allowance_ms) == (3 * HOUR_MS, 3 * HOUR_MS)


class TestEducational:
    def test_it_is_counted_apart_while_exempt(self) -> None:
        child = Child(allowance_ms=0)
        child.open(is_educational=1)
        child.beat(is_educational=1)
        assert child.sums_ms == (0, 30_000, 0)

    def test_it_is_deducted_when_not_exempt(self) -> None:
        child = Child()
        child.open(is_educational=1, is_exempt=0)
        child.beat(is_educational=1, is_exempt=0)
        assert child.sums_ms == (30_000, 0, 0)

    def test_the_toggle_acts_from_the_next_heartbeat_on(self) -> None:
        child = Child()
        child.open(is_educational=1)
        child.beat(is_educational=1)
        child.beat(is_educational=1, is_exempt=0)
        child.beat(is_educational=1, is_exempt=1)
        assert child.sums_ms == (30_000, 60_000, 0)

    def test_a_title_that_becomes_educational_was_not_so_before(self, child: Child) -> None:
        child.beat(is_educational=1)
        child.beat(is_educational=1)
        child.beat(is_educational=0)
        child.beat(is_educational=0)
        assert child.sums_ms == (60_000, 60_000, 0)

    def test_the_time_before_a_change_of_title_is_the_old_titles(self, child: Child) -> None:
        child.beat(title_id="course", is_educational=1, new_session_id="b")
        child.beat(session_id="b", title_id="course", is_educational=1)
        child.beat(session_id="b", title_id="film", is_educational=0, new_session_id="c")
        assert child.sums_ms == (30_000, 60_000, 0)


class TestTitleChange:
    def test_it_closes_the_session_and_opens_another(self, child: Child) -> None:
        outcome = child.beat(title_id="other", new_session_id="b")
        assert (outcome.session_id, outcome.session_total_ms, outcome.used_ms) == ("b", 0, 30_000)
        [old] = child.closed
        assert (old.session_id, old.title_id, old.session_used_ms, old.has_ended) == ("a", "film", 30_000, 1)
        child.beat(session_id="b", title_id="other")
        assert child.present.session_total_ms == 30_000

    def test_it_asks_for_an_id_when_none_came_with_the_beat(self, child: Child) -> None:
        assert child.send(title_id="other").status == Status.NEEDS_ID

    def test_repeated_because_the_answer_was_lost_it_goes_on_with_the_new_session(self, child: Child) -> None:
        child.beat(title_id="other", new_session_id="b")
        outcome = child.beat(title_id="other")
        assert (outcome.session_id, outcome.session_total_ms, child.sums_ms) == ("b", 30_000, (60_000, 0, 0))
        assert len(child.closed) == 1

    @pytest.mark.parametrize("different", [{"title_id": "film"}, {"device_id": "phone"}])
    def test_any_other_beat_on_the_old_session_is_told_that_it_is_over(
        self, child: Child, different: dict[str, Any]
    ) -> None:
        child.beat(title_id="other", new_session_id="b")
        outcome = child.send(**{"title_id": "other", "issued_at_ms": NOON_MS, **different})
        assert (outcome.status, outcome.ended_ms) == (Status.SUPERSEDED, NOON_MS + 30_000)

    def test_after_silence_a_claim_is_credited_before_the_title_changes(self, child: Child) -> None:
        child.beat(HOUR_MS, watched_ms=20 * MINUTE_MS, title_id="other", new_session_id="b")
        assert child.sums_ms == (20 * MINUTE_MS, 0, 0)
        assert child.present.previous_end_reason == EndReason.TITLE

    def test_it_gives_a_pause_a_new_grace(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        child.beats(10 * MINUTE_MS, is_paused=1)
        child.beat(0, is_paused=1, title_id="other", new_session_id="b")
        child.beats(10 * MINUTE_MS, is_paused=1, session_id="b", title_id="other")
        assert child.sums_ms == (10 * MINUTE_MS, 0, 0)


class TestTakeOver:
    def test_it_settles_and_ends_the_running_session(self, child: Child) -> None:
        child.beat()
        child.at_ms += 290_000
        outcome = child.open("b", device_id="phone", device_type="mobile")
        assert (outcome.session_id, outcome.superseded_id) == ("b", "a")
        assert (outcome.used_ms, outcome.counted_ms, outcome.session_total_ms) == (320_000, 290_000, 0)
        [old] = child.closed
        assert (old.session_id, old.has_ended, old.last_beat_ms) == ("a", 1, NOON_MS + 320_000)
        assert old.session_total_ms == 320_000

    @pytest.mark.parametrize(("gap_ms", "counted_ms"), [(299_999, 299_999), (300_000, 300_000), (300_001, 0)])
    def test_a_gap_of_up_to_five_minutes_before_it_counts(self, child: Child, gap_ms: int, counted_ms: int) -> None:
        child.at_ms += gap_ms
        child.open("b")
        assert child.sums_ms == (counted_ms, 0, 0)

    def test_two_devices_that_open_again_after_each_refusal_add_up_to_wall_time(self, child: Child) -> None:
        issued_ms = {"0": NOON_MS}
        child.open("0", device_id="sofa")
        for turn in range(1, 91):
            child.at_ms += 5_000
            child.open(str(turn), device_id=("sofa", "phone")[turn % 2])
            issued_ms[str(turn)] = child.at_ms
            loser = str(turn - 1)
            child.at_ms += 5_000
            outcome = child.send(0, session_id=loser, issued_at_ms=issued_ms[loser], watched_ms=HOUR_MS)
            assert outcome.status == Status.SUPERSEDED, "a claim does not count the settled time again"
        child.beat(0, session_id="90")
        assert child.sums_ms == (900_000, 0, 0)
        assert sum(old.session_total_ms for old in [*child.closed, child.present]) == 900_000

    def test_a_paused_session_is_settled_up_to_the_end_of_the_grace(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        child.beats(4 * MINUTE_MS, is_paused=1)
        child.at_ms += 2 * MINUTE_MS
        child.open("b")
        assert child.sums_ms == (5 * MINUTE_MS, 0, 0)
        assert child.closed[-1].uncounted == (NOON_MS + 5 * MINUTE_MS, NOON_MS + 6 * MINUTE_MS)

    def test_the_settled_time_is_split_at_the_reset(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10_000)
        child.open()
        child.at_ms += 30_000
        child.open("b")
        assert child.sums_ms == (20_000, 0, 0)
        shares = [(old.session_id, old.day_number, old.session_used_ms) for old in child.closed]
        assert shares == [("a", TODAY, 10_000), ("a", TODAY + 1, 20_000)]

    def test_the_settled_time_keeps_its_kind(self, child: Child) -> None:
        child.open("course", is_educational=1)
        child.at_ms += 40_000
        child.open("film")
        assert child.sums_ms == (0, 40_000, 0)

    def test_what_is_settled_beyond_the_allowance_is_overrun(self) -> None:
        child = Child(allowance_ms=10_000)
        child.open()
        child.at_ms += 40_000
        child.open("b")
        assert child.sums_ms == (10_000, 0, 30_000)

    def test_what_was_synced_is_not_settled(self, child: Child) -> None:
        child.at_ms += 40_000
        child.open("b", synced=((NOON_MS + 10_000, NOON_MS + 20_000),))
        assert child.sums_ms == (30_000, 0, 0)
        assert child.closed[-1].uncounted == (NOON_MS + 10_000, NOON_MS + 20_000)

    def test_a_session_taken_up_again_ends_the_known_one_when_it_was_issued(self) -> None:
        """The day of the one that ends may be over by then."""
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - MINUTE_MS)
        child.open()
        child.allowances_ms[TODAY] = 30_000
        child.counters = msgspec.structs.replace(child.present, allowance_ms=30_000)
        child.beat(90_000, session_id="lost", issued_at_ms=MIDNIGHT_MS + DAY_MS - 20_000)
        assert [(old.session_id, old.session_used_ms, old.session_overrun_ms) for old in child.closed[:1]] == [
            ("a", 30_000, 10_000)
        ]
        assert child.sums_ms == (30_000, 0, 0)

    def test_the_other_device_learns_by_whom_and_when_at_its_next_beat(self, child: Child) -> None:
        child.at_ms += 10_000
        child.open("b", device_id="phone", device_type="mobile")
        assert child.send().status == Status.UNKNOWN
        outcome = child.send(0, issued_at_ms=NOON_MS)
        assert (outcome.status, outcome.by_device_type, outcome.ended_ms) == (
            Status.SUPERSEDED,
            "mobile",
            NOON_MS + 10_000,
        )

    def test_of_two_opening_beats_at_once_one_lives(self, child: Child) -> None:
        child.open("b")
        child.open("c")
        assert child.send(session_id="b", issued_at_ms=NOON_MS).status == Status.SUPERSEDED
        child.beat(0, session_id="c")
        assert child.sums_ms == (30_000, 0, 0)

    def test_whoever_was_superseded_stays_so_when_the_clock_of_its_id_ran_ahead(self, child: Child) -> None:
        child.at_ms += MINUTE_MS
        child.open("b")
        assert child.send(issued_at_ms=NOON_MS + HOUR_MS).status == Status.SUPERSEDED

    def test_a_session_that_fell_silent_was_not_superseded(self, child: Child) -> None:
        child.at_ms += HOUR_MS
        outcome = child.open("b")
        assert (outcome.superseded_id, child.present.previous_end_reason) == ("", EndReason.ENDED)
        assert child.present.previous_ended_ms == NOON_MS

    def test_a_session_from_before_the_previous_one_is_superseded_too(self, child: Child) -> None:
        child.at_ms += 1000
        child.open("b")
        child.at_ms += 1000
        child.open("c")
        outcome = child.send(issued_at_ms=NOON_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.SUPERSEDED, NOON_MS + 2000)


class TestAbandonedSessions:
    """Opened, with a lease, and left alone: no second beat, no end, more than five minutes of silence."""

    def open_every(self, child: Child, gap_ms: int, times: int, **fields: Any) -> list[tuple[int, int, int]]:
        """The sums after each of some opening beats."""
        sums_ms = []
        for turn in range(times):
            child.at_ms += gap_ms if turn else 0
            child.open(f"s{turn}", **fields)
            sums_ms.append(child.sums_ms)
        return sums_ms

    def test_the_first_two_of_a_day_cost_nothing_and_each_further_one_its_lease(self) -> None:
        sums_ms = self.open_every(Child(), 320_000, 6)
        assert [used_ms for used_ms, _, _ in sums_ms] == [0, 0, 0, 300_000, 600_000, 900_000]

    def test_openings_that_come_in_time_are_settled_and_blocked_at_the_limit(self) -> None:
        child = Child(allowance_ms=15 * MINUTE_MS)
        sums_ms = self.open_every(child, 299_000, 25)
        assert sums_ms[3] == (897_000, 0, 0)
        assert sums_ms[4] == (900_000, 0, 296_000)
        assert sum(sums_ms[-1]) == 24 * 299_000, "two hours of wall time"

    def test_they_are_blocked_at_the_limit_when_they_come_late(self) -> None:
        child = Child(allowance_ms=15 * MINUTE_MS)
        self.open_every(child, 320_000, 22)
        assert child.sums_ms == (900_000, 0, 0), "a blocked player gets no lease"

    def test_a_lease_shortened_by_the_allowance_costs_that(self) -> None:
        child = Child(allowance_ms=310_000)
        assert self.open_every(child, 320_000, 6)[-2:] == [(310_000, 0, 0), (310_000, 0, 0)]

    def test_a_grant_after_the_opening_does_not_lengthen_its_lease(self) -> None:
        child = Child(allowance_ms=60_000)
        self.open_every(child, 320_000, 3)
        child.allowance_ms = HOUR_MS
        child.at_ms += 320_000
        child.open("next")
        assert child.sums_ms == (60_000, 0, 0)

    def test_a_charge_ends_at_the_next_opening(self) -> None:
        child = Child(rules=Rules(lease_ms=HOUR_MS))
        assert self.open_every(child, 320_000, 4)[-1] == (320_000, 0, 0)

    def test_a_charged_session_knows_what_was_counted_in_it(self) -> None:
        child = Child()
        self.open_every(child, 320_000, 4)
        charged = child.closed[-1]
        assert (charged.session_started_ms, charged.last_beat_ms) == (NOON_MS + 640_000, NOON_MS + 940_000)
        assert (charged.session_total_ms, charged.has_ended, child.present.previous_end_reason) == (
            300_000,
            1,
            EndReason.ENDED,
        )

    def test_a_claim_on_a_charged_session_counts_nothing_again(self) -> None:
        child = Child()
        self.open_every(child, 320_000, 4)
        outcome = child.send(session_id="s2", issued_at_ms=NOON_MS + 640_000, watched_ms=320_000)
        assert outcome.status == Status.ENDED
        assert child.sums_ms == (300_000, 0, 0)

    def test_what_was_synced_meanwhile_is_not_charged(self) -> None:
        child = Child()
        self.open_every(child, 320_000, 3)
        child.at_ms += 320_000
        child.open("next", synced=((NOON_MS + 640_000, NOON_MS + 740_000),))
        assert child.sums_ms == (200_000, 0, 0)

    def test_the_opening_call_repeated_charges_once(self) -> None:
        child = Child()
        self.open_every(child, 320_000, 4)
        child.open("s3")
        assert child.sums_ms == (300_000, 0, 0)

    @pytest.mark.parametrize("proof_of_use", [{}, {"is_end": 1, "title_id": "", "device_id": ""}])
    def test_a_second_beat_or_an_end_proves_a_session(self, proof_of_use: dict[str, Any]) -> None:
        child = Child()
        for turn in range(5):
            child.open(f"s{turn}")
            child.beat(1000, session_id=f"s{turn}", **proof_of_use)
            child.at_ms += 320_000
        assert (child.sums_ms, child.present.abandoned_sessions) == ((5_000, 0, 0), 0)

    def test_a_claim_after_silence_proves_a_session(self) -> None:
        child = Child()
        for turn in range(5):
            child.open(f"s{turn}")
            child.beat(320_000, session_id=f"s{turn}", watched_ms=0)
            child.at_ms += 320_000
        assert (child.sums_ms, child.present.abandoned_sessions) == ((0, 0, 0), 0)

    def test_a_session_that_a_change_of_title_opened_may_be_abandoned_too(self) -> None:
        child = Child()
        for turn in range(4):
            child.open(f"a{turn}")
            child.beat(1000, session_id=f"a{turn}", title_id="other", new_session_id=f"b{turn}")
            child.at_ms += 320_000
        assert (child.sums_ms, child.present.abandoned_sessions) == ((304_000, 0, 0), 3)

    def test_each_viewing_day_has_two_of_its_own(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - HOUR_MS)
        self.open_every(child, 320_000, 3)
        child.at_ms += HOUR_MS
        child.open("tomorrow")
        assert (child.present.day_number, child.present.abandoned_sessions) == (TODAY + 1, 0)
        assert child.closed[-1].used_ms == 300_000, "the third of the day before is charged to that day"
        assert self.open_every(child, 320_000, 3)[-1] == (0, 0, 0)

    def test_a_charge_is_split_at_the_reset(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 640_000 - MINUTE_MS)
        self.open_every(child, 320_000, 4)
        assert child.sums_ms == (4 * MINUTE_MS, 0, 0)
        assert {old.day_number: old.session_used_ms for old in child.closed if old.session_id == "s2"} == {
            TODAY: MINUTE_MS,
            TODAY + 1: 4 * MINUTE_MS,
        }

    @pytest.mark.parametrize(
        ("closed", "lease_ms"),
        [
            ([(120_000, 600_000)], 120_000),
            ([(-60_000, 600_000)], 0),
            ([(-60_000, 0), (240_000, 250_000)], 240_000),
            ([(-60_000, 0)], 300_000),
            ([(300_001, 600_000)], 300_000),
        ],
    )
    def test_a_lease_ends_where_playback_closes(self, closed: list[tuple[int, int]], lease_ms: int) -> None:
        child = Child()
        child.open(closed=[(NOON_MS + from_ms, NOON_MS + to_ms) for from_ms, to_ms in closed])
        assert child.present.lease_ms == lease_ms

    def test_a_lease_is_kept_only_until_the_second_beat(self, child: Child) -> None:
        assert child.present.lease_ms == 300_000
        child.beat()
        assert child.present.lease_ms == 0


class TestUncountedRanges:
    """The time ranges of a session and what of them was not counted: the rest is what it was credited."""

    @staticmethod
    def time_range(from_minutes: int, to_minutes: int) -> tuple[int, int]:
        return NOON_MS + from_minutes * MINUTE_MS, NOON_MS + to_minutes * MINUTE_MS

    def test_what_counts_whole_leaves_none(self, child: Child) -> None:
        child.beats(HOUR_MS)
        assert child.present.uncounted == ()

    def test_of_a_pause_all_but_the_grace(self, child: Child) -> None:
        child.beats(2 * MINUTE_MS)
        child.beat(0, is_paused=1)
        child.beats(63 * MINUTE_MS, is_paused=1)
        assert child.present.uncounted == self.time_range(7, 65)
        child.beats(MINUTE_MS)
        assert child.present.uncounted == (NOON_MS + 7 * MINUTE_MS, NOON_MS + 65 * MINUTE_MS + 30_000)
        assert child.sums_ms == (7 * MINUTE_MS + 30_000, 0, 0)

    def test_of_silence_what_was_not_claimed(self, child: Child) -> None:
        child.beats(MINUTE_MS)
        child.beat(HOUR_MS, watched_ms=21 * MINUTE_MS)
        assert child.present.uncounted == self.time_range(21, 61)

    def test_what_was_synced(self, child: Child) -> None:
        child.beat(20 * MINUTE_MS, watched_ms=10 * MINUTE_MS, synced=(self.time_range(1, 6),))
        assert child.present.uncounted == (*self.time_range(1, 6), *self.time_range(15, 20))

    def test_each_day_has_its_own(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10 * MINUTE_MS)
        child.open()
        child.beat(0, is_paused=1)
        child.beats(20 * MINUTE_MS, is_paused=1)
        [yesterday] = child.closed
        reset_ms = MIDNIGHT_MS + DAY_MS
        assert yesterday.uncounted == (reset_ms - 5 * MINUTE_MS, yesterday.last_beat_ms)
        assert child.present.uncounted == (reset_ms, child.at_ms)

    def test_another_session_begins_without_any(self, child: Child) -> None:
        child.beat(HOUR_MS, watched_ms=0)
        child.open("b")
        assert (child.present.uncounted, child.closed[-1].uncounted) == ((), self.time_range(0, 60))

    def test_what_another_session_counted_before_this_one_was_taken_up(self, child: Child) -> None:
        child.beats(MINUTE_MS)
        child.present.session_started_ms = NOON_MS - 1
        child.beat(session_id="lost", issued_at_ms=NOON_MS)
        assert child.present.uncounted == self.time_range(0, 1)

    def test_of_more_than_are_kept_the_shortest_is_taken_for_counted(self, child: Child) -> None:
        for seconds in range(1, MAX_UNCOUNTED + 3):
            child.beat(6 * MINUTE_MS + seconds * 1000, watched_ms=child.present.watched_ms + 6 * MINUTE_MS)
        lengths_ms = [ends_ms - starts_ms for starts_ms, ends_ms in child.present.uncounted_ranges]
        assert lengths_ms == [seconds * 1000 for seconds in range(3, MAX_UNCOUNTED + 3)]

    def test_after_a_large_step_back_of_the_clock_none_is_known(self, child: Child) -> None:
        child.beat(HOUR_MS, watched_ms=0)
        child.beat(-HOUR_MS)
        assert child.present.uncounted == ()

    def test_what_is_reserved_for_a_sync_is_not_claimed(self, child: Child) -> None:
        child.present.uncounted = self.time_range(10, 20)
        child.beat(HOUR_MS, watched_ms=30 * MINUTE_MS)
        assert child.sums_ms == (30 * MINUTE_MS, 0, 0)
        assert child.present.uncounted_ranges == [self.time_range(10, 20), self.time_range(40, 60)]

    def test_nor_is_it_claimed_for_a_session_that_was_lost(self, child: Child) -> None:
        child.present.uncounted = self.time_range(10, 20)
        child.beat(HOUR_MS, session_id="lost", issued_at_ms=NOON_MS + 1, watched_ms=HOUR_MS)
        assert child.sums_ms == (50 * MINUTE_MS, 0, 0)

    @given(
        acts=st.lists(
            st.tuples(
                st.sampled_from([1, 30_000, 299_000, 301_000, HOUR_MS]),
                st.sampled_from(["beat", "pause", "claim", "open"]),
            ),
            max_size=25,
        )
    )
    @settings(deadline=None, max_examples=200)
    def test_the_rest_of_a_session_is_what_it_was_credited(self, acts: list[tuple[int, str]]) -> None:
        child = Child(allowance_ms=UNLIMITED)
        child.open("0")
        synced = ((NOON_MS + 10 * MINUTE_MS, NOON_MS + 11 * MINUTE_MS), (NOON_MS + HOUR_MS, NOON_MS + 2 * HOUR_MS))
        for turn, (gap_ms, act) in enumerate(acts):
            if act == "open":
                child.at_ms += gap_ms
                child.open(f"s{turn}", synced=synced)
            else:
                claim_ms = child.present.watched_ms + gap_ms // 2 if act == "claim" else NO_CLAIM
                child.send(
                    gap_ms,
                    session_id=child.present.session_id,
                    is_paused=int(act == "pause"),
                    watched_ms=claim_ms,
                    synced=synced,
                )
        for part in [*child.closed, child.present]:
            span_ms = part.last_beat_ms - max(part.session_started_ms, part.day_starts_ms)
            left_out_ms = sum(ends_ms - starts_ms for starts_ms, ends_ms in part.uncounted_ranges)
            assert span_ms - left_out_ms == part.session_used_ms


class TestEnd:
    def test_it_credits_the_time_since_the_last_beat(self, child: Child) -> None:
        outcome = child.end()
        assert (outcome.status, outcome.session_total_ms, outcome.ended_ms) == (Status.OK, 30_000, NOON_MS + 30_000)

    def test_repeated_it_answers_the_same_and_changes_nothing(self, child: Child) -> None:
        first = child.end()
        before = msgspec.structs.replace(child.present)
        again = child.end(HOUR_MS)
        assert (again.status, again.session_total_ms, again.ended_ms) == (Status.OK, 30_000, first.ended_ms)
        assert child.present == before

    def test_a_beat_after_it_is_told_so(self, child: Child) -> None:
        child.end()
        assert child.send().status == Status.ENDED

    def test_after_silence_the_session_had_ended_at_its_last_beat(self, child: Child) -> None:
        child.beat()
        outcome = child.end(HOUR_MS)
        assert (outcome.status, outcome.session_total_ms, outcome.ended_ms) == (Status.OK, 30_000, NOON_MS + 30_000)
        assert child.sums_ms == (30_000, 0, 0)

    def test_after_silence_a_claim_is_credited(self, child: Child) -> None:
        outcome = child.end(HOUR_MS, watched_ms=20 * MINUTE_MS)
        assert (outcome.session_total_ms, child.sums_ms) == (20 * MINUTE_MS, (20 * MINUTE_MS, 0, 0))

    def test_it_keeps_what_played(self, child: Child) -> None:
        child.end()
        assert (child.present.title_id, child.present.device_type) == ("film", "tv")

    def test_an_ended_session_is_set_aside_at_once(self, child: Child) -> None:
        """It sends no beat that could restore it, should Redis be lost before it is flushed."""
        child.end()
        [ended] = child.closed
        assert (ended.session_id, ended.has_ended, ended.last_beat_ms) == ("a", 1, NOON_MS + 30_000)
        assert (ended.used_ms, ended.session_used_ms) == (30_000, 30_000)
        assert _flushed([ended]) == _flushed([ended, child.present])

    def test_another_that_opens_does_not_supersede_it(self, child: Child) -> None:
        child.end()
        child.at_ms += 1000
        assert child.open("b").superseded_id == ""
        assert {(old.session_id, old.has_ended, old.last_beat_ms) for old in child.closed} == {
            ("a", 1, NOON_MS + 30_000)
        }


class TestLoss:
    """Counters that know less than the players do: Redis forgot, and came back from what was flushed."""

    def test_a_session_is_taken_up_again_where_it_was_issued(self) -> None:
        child = Child()
        outcome = child.beat(session_id="lost", issued_at_ms=NOON_MS)
        assert (outcome.session_id, child.sums_ms) == ("lost", (30_000, 0, 0))
        assert child.present.session_started_ms == NOON_MS

    def test_without_proof_it_is_asked_for(self) -> None:
        assert Child().send(session_id="lost").status == Status.UNKNOWN

    def test_from_the_last_beat_that_was_counted_when_that_is_later(self, child: Child) -> None:
        """Of its last minute 30 s are known already: they were another session's, as far as anybody knows."""
        child.beat()
        child.present.session_started_ms = NOON_MS - 1
        outcome = child.beat(session_id="lost", issued_at_ms=NOON_MS)
        assert (outcome.superseded_id, child.sums_ms) == ("a", (60_000, 0, 0))

    def test_silent_for_longer_than_five_minutes_it_has_ended(self) -> None:
        child = Child()
        outcome = child.send(GAP_MS + 1, session_id="lost", issued_at_ms=NOON_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.ENDED, NOON_MS)

    def test_silent_for_longer_a_claim_is_credited_up_to_the_time_since_it_was_issued(self) -> None:
        child = Child()
        child.beat(HOUR_MS, session_id="lost", issued_at_ms=NOON_MS, watched_ms=40 * MINUTE_MS)
        assert child.sums_ms == (40 * MINUTE_MS, 0, 0)
        generous = Child()
        generous.beat(HOUR_MS, session_id="lost", issued_at_ms=NOON_MS, watched_ms=HOUR_MS + 1)
        assert generous.sums_ms == (HOUR_MS, 0, 0)

    def test_the_session_that_runs_is_set_aside(self, child: Child) -> None:
        child.beat()
        child.beat(session_id="lost", issued_at_ms=NOON_MS + 40_000)
        [old] = child.closed
        assert (old.session_id, old.used_ms, child.sums_ms) == ("a", 40_000, (60_000, 0, 0))

    def test_one_issued_before_the_session_that_runs_is_superseded(self, child: Child) -> None:
        outcome = child.send(session_id="older", issued_at_ms=NOON_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.SUPERSEDED, NOON_MS)

    def test_one_older_than_two_days_is_not_taken_up(self) -> None:
        child = Child()
        two_days_ms = RULES.longest_unknown_ms
        assert child.send(0, session_id="lost", issued_at_ms=NOON_MS - two_days_ms - 1, watched_ms=1).status == (
            Status.SUPERSEDED
        )
        child.beat(0, session_id="lost", issued_at_ms=NOON_MS - two_days_ms, watched_ms=1)

    def test_a_proof_from_a_clock_ahead_credits_nothing(self) -> None:
        child = Child()
        child.beat(session_id="lost", issued_at_ms=NOON_MS + HOUR_MS)
        assert child.sums_ms == (0, 0, 0)

    def test_no_counters_are_cold(self) -> None:
        beat = Beat(**Child().fields())
        recorded = record(None, beat, at_ms=NOON_MS, rules=RULES)
        assert (recorded.counters, recorded.outcome) == (None, Outcome(Status.COLD, NOON_MS))

    def test_counters_of_an_older_generation_are_cold(self, child: Child) -> None:
        child.present.generation = 1
        child.generation = 2
        assert child.send().status == Status.COLD
        child.generation = 1
        child.beat()


class TestClock:
    @pytest.mark.parametrize("back_ms", [1, 30_000, 300_000])
    def test_a_small_step_back_credits_nothing_until_the_clock_has_caught_up(self, child: Child, back_ms: int) -> None:
        child.beat()
        child.beat(-back_ms)
        child.beat(back_ms - 1)
        assert child.sums_ms == (30_000, 0, 0)
        child.beat(1001)
        assert child.sums_ms == (31_000, 0, 0)

    def test_after_a_large_step_back_time_counts_on_from_there(self, child: Child) -> None:
        child.beat()
        child.beat(-300_001)
        child.beat()
        assert child.sums_ms == (60_000, 0, 0)

    def test_a_step_back_before_the_reset_stays_in_the_day_that_runs(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + 10_000)
        child.open()
        outcome = child.beat(-20_000)
        assert outcome.day_number == TODAY
        child.beat(30_000)
        assert child.sums_ms == (10_000, 0, 0)

    def test_a_step_ahead_of_more_than_five_minutes_credits_nothing(self, child: Child) -> None:
        assert child.send(HOUR_MS).status == Status.ENDED

    def test_versions_grow_when_the_clock_falls(self, child: Child) -> None:
        before = child.present.version
        child.beat(-HOUR_MS)
        assert child.present.version == before + 1


class TestPolicy:
    def test_an_older_policy_than_the_one_already_used_is_refused(self, child: Child) -> None:
        child.beat(policy_version=3)
        outcome = child.send(policy_version=2)
        assert (outcome.status, outcome.policy_version) == (Status.STALE, 3)

    def test_a_child_that_floods_is_told_to_slow_down(self) -> None:
        child = Child(rules=Rules(beat_spacing_ms=100, beat_burst=3))
        child.open()
        assert [child.send(1).status for _ in range(4)] == [Status.OK, Status.OK, Status.TOO_FAST, Status.TOO_FAST]
        child.beat(98)
        assert child.sums_ms == (102, 0, 0), "nothing is lost by waiting"


class TestWhatTheFlushFinds:
    def test_a_version_is_the_instant_of_the_beat(self, child: Child) -> None:
        child.beat()
        assert child.present.version == NOON_MS + 30_000

    def test_counters_are_dirty_from_the_first_beat_that_was_not_flushed(self, child: Child) -> None:
        child.present.dirty_since_ms = 0
        child.beat()
        child.beat()
        assert child.present.dirty_since_ms == NOON_MS + 30_000

    def test_what_goes_on_is_newer_than_what_was_set_aside(self, child: Child) -> None:
        """Both tell of the same day: the newer one knows all of it."""
        child.beat()
        child.beat(session_id="lost", issued_at_ms=NOON_MS + 40_000)
        assert [old.version for old in child.closed] < [child.present.version]
        assert _flushed([*child.closed, child.present])[TODAY] == 60_000

    def test_everything_set_aside_adds_up_whatever_comes_first(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - MINUTE_MS)
        child.open()
        child.beat()
        child.beat(60_000, session_id="lost", issued_at_ms=MIDNIGHT_MS + DAY_MS - 20_000)
        expected = {TODAY: 60_000, TODAY + 1: 30_000}
        assert _flushed([*child.closed, child.present]) == expected
        assert _flushed([child.present, *reversed(child.closed)]) == expected

    def test_a_day_that_was_flushed_and_grew_no_more_is_not_set_aside(self, child: Child) -> None:
        child.end()
        child.present.dirty_since_ms = 0
        child.closed.clear()
        child.at_ms += DAY_MS
        child.open("b")
        assert child.closed == []

    def test_a_running_session_is_set_aside_with_its_end_even_if_it_was_flushed(self, child: Child) -> None:
        child.present.dirty_since_ms = 0
        child.open("b")
        assert [(old.session_id, old.has_ended) for old in child.closed] == [("a", 1)]

    def test_a_day_that_grew_after_the_flush_is_set_aside(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10_000)
        child.open()
        child.present.dirty_since_ms = 0
        child.beat()
        assert [day.used_ms for day in child.closed] == [10_000]


def _flushed(entries: list[Counters]) -> dict[int, int]:
    """What each day comes to when, of several entries for it, the newest wins."""
    newest: dict[int, Counters] = {}
    for entry in entries:
        if entry.day_number not in newest or entry.version > newest[entry.day_number].version:
            newest[entry.day_number] = entry
    return {day: entry.used_ms + entry.educational_ms + entry.overrun_ms for day, entry in newest.items()}


STEPS = st.lists(
    st.fixed_dictionaries(
        {
            "after_ms": st.sampled_from([0, 1, 29_999, 299_999, 300_000, 300_001, HOUR_MS, DAY_MS])
            | st.integers(0, 2 * DAY_MS),
            "session_id": st.sampled_from(["", "a", "b"]),
            "new_session_id": st.sampled_from(["a", "b", "c"]),
            "issued_at_ms": st.sampled_from([0, NOON_MS, NOON_MS + HOUR_MS, NOON_MS + 3 * DAY_MS]),
            "title_id": st.sampled_from(["film", "course"]),
            "is_educational": st.integers(0, 1),
            "is_exempt": st.integers(0, 1),
            "is_paused": st.integers(0, 1),
            "is_end": st.sampled_from([0, 0, 0, 0, 1]),
            "watched_ms": st.sampled_from([NO_CLAIM, 0, HOUR_MS, 10**15]),
        }
    ),
    max_size=30,
)


@given(steps=STEPS, allowance_ms=st.sampled_from([UNLIMITED, 0, MINUTE_MS, HOUR_MS]))
@settings(max_examples=200)
def test_no_beats_whatsoever_credit_more_than_wall_time(steps: list[dict[str, Any]], allowance_ms: int) -> None:
    child = Child(allowance_ms=allowance_ms)
    for step in steps:
        before = msgspec.structs.replace(child.present)
        outcome = child.send(**step)
        entries = [*child.closed, child.present]
        by_day = _flushed(entries)
        assert sum(by_day.values()) <= child.at_ms - NOON_MS
        assert all(credited_ms <= DAY_MS for credited_ms in by_day.values())
        if allowance_ms != UNLIMITED:
            assert all(entry.used_ms <= allowance_ms for entry in entries), "used never passes the allowance"
        assert child.present == before or child.present.version > before.version
        if outcome.day_number == before.day_number:
            grown = [
                now - then
                for now, then in zip(
                    child.sums_ms, (before.used_ms, before.educational_ms, before.overrun_ms), strict=True
                )
            ]
            assert min(grown) >= 0, "present only grow"
            assert outcome.counted_ms == grown[0]
