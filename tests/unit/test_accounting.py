"""The counting rules, one by one, against the rule book in Python. Its twin in Lua is held equal in tests/model."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.accounting import NO_CLAIM, Beat, Closing, Live, Outcome, Rules, Status, cold, record
from app.domain.policy import UNLIMITED, DayTerms

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
    """A child from a time on at which nothing was counted; beats say only what matters to a test."""

    at_ms: int = NOON_MS
    allowance_ms: int = 2 * HOUR_MS
    rules: Rules = RULES
    generation: int = 0
    live: Live | None = None
    closed: list[Live] = field(default_factory=list)
    allowances_ms: dict[int, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.live = cold(terms=self.terms(self.at_ms // DAY_MS), policy_version=1, at_ms=self.at_ms)

    @property
    def counters(self) -> Live:
        assert self.live is not None
        return self.live

    @property
    def sums_ms(self) -> tuple[int, int, int]:
        """Used, educational and overrun time of the running day."""
        return self.counters.used_ms, self.counters.educational_ms, self.counters.overrun_ms

    def terms(self, number: int) -> DayTerms:
        return terms(number, self.allowances_ms.get(number, self.allowance_ms))

    def days(self) -> list[DayTerms]:
        first = min(self.counters.day_number, self.at_ms // DAY_MS)
        return [self.terms(number) for number in range(first, max(self.counters.day_number, self.at_ms // DAY_MS) + 1)]

    def fields(self, **fields: Any) -> dict[str, Any]:
        """Those of a beat of session "a", but for what is given."""
        values: dict[str, Any] = {
            "session_id": "a", "new_session_id": "", "proof_ms": 0, "title_id": "film", "is_educational": 0,
            "is_exempt": 1, "is_paused": 0, "is_end": 0, "watched_ms": NO_CLAIM, "device_id": "sofa",
            "device_type": "tv", "policy_version": 1, "days": self.days(),
        }  # fmt: skip
        return values | fields

    def send(self, after_ms: int = 30_000, **fields: Any) -> Outcome:
        """A beat some time after the last one, whatever comes of it."""
        self.at_ms += after_ms
        beat = Beat(**self.fields(**fields))
        recorded = record(self.live, beat, at_ms=self.at_ms, rules=self.rules, generation=self.generation)
        if recorded.outcome.status != Status.OK:
            assert (recorded.live, recorded.closed) == (self.live, []), "a refusal changes nothing"
        self.live = recorded.live
        self.closed += recorded.closed
        return recorded.outcome

    def beat(self, after_ms: int = 30_000, **fields: Any) -> Outcome:
        """A beat that is counted."""
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
        outcome = child.send(proof_ms=NOON_MS, watched_ms=HOUR_MS)
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
        assert (child.closed[0].educational_ms, child.counters.educational_ms) == (10_000, 20_000)

    def test_a_claim_over_days_of_silence_fills_them_from_the_last_beat_on(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - HOUR_MS, allowance_ms=UNLIMITED)
        child.open()
        child.beat(50 * HOUR_MS, watched_ms=26 * HOUR_MS)
        assert [(day.day_number, day.used_ms) for day in child.closed] == [
            (TODAY, HOUR_MS),
            (TODAY + 1, 24 * HOUR_MS),
            (TODAY + 2, HOUR_MS),
        ]
        assert (child.counters.day_number, child.sums_ms) == (TODAY + 3, (0, 0, 0))
        assert child.counters.session_total_ms == 26 * HOUR_MS

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
        assert (child.counters.last_beat_ms, child.counters.watched_ms) == (child.at_ms, 30_000)

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
        lost.live = msgspec.structs.replace(yesterday, dirty_since_ms=0)
        child.beat(**fields)
        lost.beat(**fields)
        assert _flushed([yesterday, *lost.closed, lost.counters]) == _flushed([yesterday, child.counters])

    @pytest.mark.parametrize("place", range(3))
    def test_nor_of_what_was_claimed(self, place: int) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - HOUR_MS, allowance_ms=UNLIMITED)
        child.open()
        child.beat(50 * HOUR_MS, watched_ms=26 * HOUR_MS)
        lost = Child(at_ms=child.at_ms, allowance_ms=UNLIMITED)
        lost.live = msgspec.structs.replace(child.closed[place], dirty_since_ms=0)
        lost.beat(watched_ms=26 * HOUR_MS + 30_000)
        known = child.closed[: place + 1]
        assert sum(_flushed([*known, *lost.closed, lost.counters]).values()) == 26 * HOUR_MS + 30_000

    def test_a_session_opened_on_a_later_day_sets_the_old_one_aside(self, child: Child) -> None:
        child.beat()
        child.at_ms += 3 * DAY_MS
        child.open("b")
        assert (child.counters.day_number, child.sums_ms) == (TODAY + 3, (0, 0, 0))
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
        child.at_ms = child.counters.day_ends_ms + RULES.long_absence_ms
        late = child.at_ms // DAY_MS
        assert child.send(-1, session_id="", new_session_id="b", days=[terms(late - 1)]).status == Status.DAY
        child.beat(1, session_id="", new_session_id="b", days=[terms(late)])
        assert child.counters.day_number == late


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
        assert (child.counters.limit_ms, child.counters.allowance_ms) == (3 * HOUR_MS, 3 * HOUR_MS)


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
        assert child.counters.session_total_ms == 30_000

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
        outcome = child.send(**{"title_id": "other", "proof_ms": NOON_MS, **different})
        assert (outcome.status, outcome.ended_ms) == (Status.SUPERSEDED, NOON_MS + 30_000)

    def test_after_silence_a_claim_is_credited_before_the_title_changes(self, child: Child) -> None:
        child.beat(HOUR_MS, watched_ms=20 * MINUTE_MS, title_id="other", new_session_id="b")
        assert child.sums_ms == (20 * MINUTE_MS, 0, 0)
        assert child.counters.previous_closing == Closing.TITLE

    def test_it_gives_a_pause_a_new_grace(self, child: Child) -> None:
        child.beat(0, is_paused=1)
        child.beats(10 * MINUTE_MS, is_paused=1)
        child.beat(0, is_paused=1, title_id="other", new_session_id="b")
        child.beats(10 * MINUTE_MS, is_paused=1, session_id="b", title_id="other")
        assert child.sums_ms == (10 * MINUTE_MS, 0, 0)


class TestTakeOver:
    def test_it_ends_the_running_session_and_credits_nothing(self, child: Child) -> None:
        child.beat()
        child.at_ms += 10_000
        outcome = child.open("b", device_id="phone", device_type="mobile")
        assert (outcome.session_id, outcome.superseded_id, outcome.used_ms) == ("b", "a", 30_000)
        [old] = child.closed
        assert (old.session_id, old.has_ended, old.last_beat_ms) == ("a", 1, NOON_MS + 30_000)

    def test_the_other_device_learns_by_whom_and_when_at_its_next_beat(self, child: Child) -> None:
        child.at_ms += 10_000
        child.open("b", device_id="phone", device_type="mobile")
        assert child.send().status == Status.UNKNOWN
        outcome = child.send(0, proof_ms=NOON_MS)
        assert (outcome.status, outcome.by_device_type, outcome.ended_ms) == (
            Status.SUPERSEDED,
            "mobile",
            NOON_MS + 10_000,
        )

    def test_of_two_opening_beats_at_once_one_lives(self, child: Child) -> None:
        child.open("b")
        child.open("c")
        assert child.send(session_id="b", proof_ms=NOON_MS).status == Status.SUPERSEDED
        child.beat(0, session_id="c")
        assert child.sums_ms == (30_000, 0, 0)

    def test_whoever_was_superseded_stays_so_when_the_clock_of_its_id_ran_ahead(self, child: Child) -> None:
        child.at_ms += MINUTE_MS
        child.open("b")
        assert child.send(proof_ms=NOON_MS + HOUR_MS).status == Status.SUPERSEDED

    def test_a_session_that_fell_silent_was_not_superseded(self, child: Child) -> None:
        child.at_ms += HOUR_MS
        outcome = child.open("b")
        assert (outcome.superseded_id, child.counters.previous_closing) == ("", Closing.ENDED)
        assert child.counters.previous_ended_ms == NOON_MS

    def test_a_session_from_before_the_previous_one_is_superseded_too(self, child: Child) -> None:
        child.at_ms += 1000
        child.open("b")
        child.at_ms += 1000
        child.open("c")
        outcome = child.send(proof_ms=NOON_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.SUPERSEDED, NOON_MS + 2000)


class TestEnd:
    def test_it_credits_the_time_since_the_last_beat(self, child: Child) -> None:
        outcome = child.end()
        assert (outcome.status, outcome.session_total_ms, outcome.ended_ms) == (Status.OK, 30_000, NOON_MS + 30_000)

    def test_repeated_it_answers_the_same_and_changes_nothing(self, child: Child) -> None:
        first = child.end()
        before = msgspec.structs.replace(child.counters)
        again = child.end(HOUR_MS)
        assert (again.status, again.session_total_ms, again.ended_ms) == (Status.OK, 30_000, first.ended_ms)
        assert child.counters == before

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
        assert (child.counters.title_id, child.counters.device_type) == ("film", "tv")

    def test_an_ended_session_is_set_aside_at_once(self, child: Child) -> None:
        """It sends no beat that could restore it, should Redis be lost before it is flushed."""
        child.end()
        [ended] = child.closed
        assert (ended.session_id, ended.has_ended, ended.last_beat_ms) == ("a", 1, NOON_MS + 30_000)
        assert (ended.used_ms, ended.session_used_ms) == (30_000, 30_000)
        assert _flushed([ended]) == _flushed([ended, child.counters])

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
        outcome = child.beat(session_id="lost", proof_ms=NOON_MS)
        assert (outcome.session_id, child.sums_ms) == ("lost", (30_000, 0, 0))
        assert child.counters.session_started_ms == NOON_MS

    def test_without_proof_it_is_asked_for(self) -> None:
        assert Child().send(session_id="lost").status == Status.UNKNOWN

    def test_from_the_last_beat_that_was_counted_when_that_is_later(self, child: Child) -> None:
        """Of its last minute 30 s are known already: they were another session's, as far as anybody knows."""
        child.beat()
        child.counters.session_started_ms = NOON_MS - 1
        outcome = child.beat(session_id="lost", proof_ms=NOON_MS)
        assert (outcome.superseded_id, child.sums_ms) == ("a", (60_000, 0, 0))

    def test_silent_for_longer_than_five_minutes_it_has_ended(self) -> None:
        child = Child()
        outcome = child.send(GAP_MS + 1, session_id="lost", proof_ms=NOON_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.ENDED, NOON_MS)

    def test_silent_for_longer_a_claim_is_credited_up_to_the_time_since_it_was_issued(self) -> None:
        child = Child()
        child.beat(HOUR_MS, session_id="lost", proof_ms=NOON_MS, watched_ms=40 * MINUTE_MS)
        assert child.sums_ms == (40 * MINUTE_MS, 0, 0)
        generous = Child()
        generous.beat(HOUR_MS, session_id="lost", proof_ms=NOON_MS, watched_ms=HOUR_MS + 1)
        assert generous.sums_ms == (HOUR_MS, 0, 0)

    def test_the_session_that_runs_is_set_aside(self, child: Child) -> None:
        child.beat()
        child.beat(session_id="lost", proof_ms=NOON_MS + 40_000)
        [old] = child.closed
        assert (old.session_id, old.used_ms, child.sums_ms) == ("a", 30_000, (50_000, 0, 0))

    def test_one_issued_before_the_session_that_runs_is_superseded(self, child: Child) -> None:
        outcome = child.send(session_id="older", proof_ms=NOON_MS)
        assert (outcome.status, outcome.ended_ms) == (Status.SUPERSEDED, NOON_MS)

    def test_one_older_than_two_days_is_not_taken_up(self) -> None:
        child = Child()
        two_days_ms = RULES.longest_unknown_ms
        assert child.send(0, session_id="lost", proof_ms=NOON_MS - two_days_ms - 1, watched_ms=1).status == (
            Status.SUPERSEDED
        )
        child.beat(0, session_id="lost", proof_ms=NOON_MS - two_days_ms, watched_ms=1)

    def test_a_proof_from_a_clock_ahead_credits_nothing(self) -> None:
        child = Child()
        child.beat(session_id="lost", proof_ms=NOON_MS + HOUR_MS)
        assert child.sums_ms == (0, 0, 0)

    def test_no_counters_are_cold(self) -> None:
        beat = Beat(**Child().fields())
        recorded = record(None, beat, at_ms=NOON_MS, rules=RULES)
        assert (recorded.live, recorded.outcome) == (None, Outcome(Status.COLD, NOON_MS))

    def test_counters_of_an_older_generation_are_cold(self, child: Child) -> None:
        child.counters.generation = 1
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
        before = child.counters.version
        child.beat(-HOUR_MS)
        assert child.counters.version == before + 1


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
        assert child.counters.version == NOON_MS + 30_000

    def test_counters_are_dirty_from_the_first_beat_that_was_not_flushed(self, child: Child) -> None:
        child.counters.dirty_since_ms = 0
        child.beat()
        child.beat()
        assert child.counters.dirty_since_ms == NOON_MS + 30_000

    def test_what_goes_on_is_newer_than_what_was_set_aside(self, child: Child) -> None:
        """Both tell of the same day: the newer one knows all of it."""
        child.beat()
        child.beat(session_id="lost", proof_ms=NOON_MS + 40_000)
        assert [old.version for old in child.closed] < [child.counters.version]
        assert _flushed([*child.closed, child.counters])[TODAY] == 50_000

    def test_everything_set_aside_adds_up_whatever_comes_first(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - MINUTE_MS)
        child.open()
        child.beat()
        child.beat(60_000, session_id="lost", proof_ms=MIDNIGHT_MS + DAY_MS - 20_000)
        expected = {TODAY: 50_000, TODAY + 1: 30_000}
        assert _flushed([*child.closed, child.counters]) == expected
        assert _flushed([child.counters, *reversed(child.closed)]) == expected

    def test_a_day_that_was_flushed_and_grew_no_more_is_not_set_aside(self, child: Child) -> None:
        child.end()
        child.counters.dirty_since_ms = 0
        child.closed.clear()
        child.at_ms += DAY_MS
        child.open("b")
        assert child.closed == []

    def test_a_running_session_is_set_aside_with_its_end_even_if_it_was_flushed(self, child: Child) -> None:
        child.counters.dirty_since_ms = 0
        child.open("b")
        assert [(old.session_id, old.has_ended) for old in child.closed] == [("a", 1)]

    def test_a_day_that_grew_after_the_flush_is_set_aside(self) -> None:
        child = Child(at_ms=MIDNIGHT_MS + DAY_MS - 10_000)
        child.open()
        child.counters.dirty_since_ms = 0
        child.beat()
        assert [day.used_ms for day in child.closed] == [10_000]


def _flushed(entries: list[Live]) -> dict[int, int]:
    """What each day comes to when, of several entries for it, the newest wins."""
    newest: dict[int, Live] = {}
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
            "proof_ms": st.sampled_from([0, NOON_MS, NOON_MS + HOUR_MS, NOON_MS + 3 * DAY_MS]),
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
        before = msgspec.structs.replace(child.counters)
        outcome = child.send(**step)
        entries = [*child.closed, child.counters]
        by_day = _flushed(entries)
        assert sum(by_day.values()) <= child.at_ms - NOON_MS
        assert all(credited_ms <= DAY_MS for credited_ms in by_day.values())
        if allowance_ms != UNLIMITED:
            assert all(entry.used_ms <= allowance_ms for entry in entries), "used never passes the allowance"
        assert child.counters == before or child.counters.version > before.version
        if outcome.day_number == before.day_number:
            grown = [
                now - then
                for now, then in zip(
                    child.sums_ms, (before.used_ms, before.educational_ms, before.overrun_ms), strict=True
                )
            ]
            assert min(grown) >= 0, "counters only grow"
            assert outcome.counted_ms == grown[0]
