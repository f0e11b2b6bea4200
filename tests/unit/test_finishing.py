"""Finished titles: the promise, what is borrowed for it, and what the next day has less."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.counters import NO_CLAIM, Beat, Counters, EndReason, Outcome, Rules, Status, carried_into, cold
from app.domain.enforcement import Decision
from app.domain.finishing import FinishTerms, finish_of, less_owed
from app.domain.grants import running_allowance
from app.domain.limits import NO_RULES, LimitRules, Window
from app.domain.markets import Market, Markets
from app.domain.policy import MINUTE_MS, UNLIMITED, EarlierDay, Grant, Policy, exceeded_ms
from app.domain.reference import apply_policy, merge_generations, record
from app.domain.viewing_day import DAY_MS, HOUR_MS, Calendar
from app.parents.used import Used
from app.viewing.effective_policy import EffectivePolicy, EffectivePolicyPool

RULES = Rules()
MONDAY_MS = 1_772_431_200_000
"""2026-03-02, 06:00 UTC: a viewing day begins."""
EVERY_DAY = tuple(range(7))
SECOND_MS = 1000


@dataclass
class Home:
    """A child with a limit of 60 minutes that may finish titles within 15 minutes, and what a parent changes."""

    minutes: int | None = 60
    rules: LimitRules = field(default_factory=lambda: LimitRules(finish_title_minutes=15))
    at_ms: int = MONDAY_MS
    grants: tuple[Grant, ...] = ()
    week: tuple[EarlierDay, ...] = ()
    paused_until_ms: int | None = None
    exempts: bool = True
    version: int = 1
    title: str = "film"
    ends_ms: int | None = None
    """When the title ends, as its player tells; None if it tells nothing."""
    session_id: str = ""
    closed: list[Counters] = field(default_factory=list)
    outcome: Outcome = field(default_factory=lambda: Outcome(0, 0))

    def __post_init__(self) -> None:
        self.pool = EffectivePolicyPool(Markets(Market()))
        self.counters = cold(terms=self.effective.days[-1], policy_version=1, at_ms=self.at_ms)

    @property
    def policy(self) -> Policy:
        calendar = Calendar.opened(MONDAY_MS, timezone="UTC", reset_hour=6)
        return Policy(
            "p", "a", self.version, True, 1, self.minutes, self.minutes, self.exempts, (15, 5), calendar,
            grants=self.grants, rules=None if self.rules == NO_RULES else self.rules, week=self.week,
            paused_until_ms=self.paused_until_ms,
        )  # fmt: skip

    @property
    def effective(self) -> EffectivePolicy:
        counters: Counters | None = getattr(self, "counters", None)
        return self.pool.of(self.policy, None if counters is None else counters.day, self.at_ms)

    @property
    def sums(self) -> tuple[float, float, float, float]:
        """Minutes used, overrun, borrowed and owed on the running day."""
        now = self.counters
        return tuple(ms / MINUTE_MS for ms in (now.used_ms, now.overrun_ms, now.borrowed_ms, now.owed_ms))  # type: ignore[return-value]

    @property
    def promised_minutes(self) -> float:
        """For how long the title may be played on, whatever is left."""
        return max(0, self.counters.finish_until_ms - self.at_ms) / MINUTE_MS

    def beat(self, **fields: Any) -> Outcome:
        effective = self.effective
        left_ms = None if self.ends_ms is None else max(0, self.ends_ms - self.at_ms)
        values: dict[str, Any] = {
            "session_id": self.session_id, "new_session_id": "" if self.session_id else f"s{self.at_ms}",
            "issued_at_ms": 0, "title_id": self.title, "is_educational": 0, "is_exempt": 1, "is_paused": 0,
            "is_end": 0, "watched_ms": NO_CLAIM, "device_id": "d", "device_type": "tv",
            "policy_version": self.version, "days": effective.days, "closed": effective.closed,
            "week": effective.week, "finish": None if left_ms is None else finish_of(self.policy.rules, left_ms),
        }  # fmt: skip
        recorded = record(self.counters, Beat(**values | fields), at_ms=self.at_ms, rules=RULES)
        self.outcome = recorded.outcome
        if self.outcome.status == Status.NEEDS_ID:
            return self.beat(**fields | {"new_session_id": f"t{self.at_ms}"})
        assert self.outcome.status == Status.OK
        assert recorded.counters is not None
        self.counters = recorded.counters
        self.closed += recorded.closed
        self.session_id = self.outcome.session_id
        return self.outcome

    def opens(self, title: str = "film", *, lasts: float | None = None) -> Outcome:
        """A player opens a title that lasts so many minutes."""
        self.session_id, self.title = "", title
        self.ends_ms = None if lasts is None else self.at_ms + round(lasts * MINUTE_MS)
        return self.beat()

    def plays(self, minutes: float, **fields: Any) -> None:
        """Heartbeats for a while, every 30 s."""
        until_ms = self.at_ms + round(minutes * MINUTE_MS)
        while self.at_ms < until_ms:
            self.at_ms = min(until_ms, self.at_ms + 30 * SECOND_MS)
            self.beat(**fields)

    def changes(self, **values: Any) -> None:
        """A new policy is put beside the counters."""
        for name, value in values.items():
            setattr(self, name, value)
        self.version += 1
        effective, is_exempt = self.effective, self.policy.educational_exempt
        self.counters = apply_policy(
            self.counters, version=self.version, terms=effective.days[-1], synced=(),
            is_exempt=is_exempt, at_ms=self.at_ms, max_gap_ms=RULES.max_gap_ms, week=effective.week,
        )  # fmt: skip

    def is_given(self, minutes: int | None) -> int:
        """Extra time, as a parent gives it: what the child is over is covered. Answers what is left then, in ms."""
        used = Used(self.counters, finished_ms=self.counters.finished_since_ms(self.at_ms, RULES.max_gap_ms))
        day = self.effective.days[-1].day
        week_left_ms = used.week_left_ms(self.policy, day, Market())
        over_ms = exceeded_ms(
            self.policy, day, used_ms=used.used_ms(self.policy, day), weekend_days=(5, 6), week_left_ms=week_left_ms,
            owed_ms=used.owed_ms(day),
        )  # fmt: skip
        covered_ms = 0 if minutes is None else over_ms
        self.changes(grants=(*self.grants, Grant(day.number, minutes, covered_ms, self.at_ms)))
        allowance = running_allowance(
            self.policy, at_ms=self.at_ms, weekend_days=(5, 6), pinned=day, week_left_ms=week_left_ms,
            owed_ms=used.owed_ms(day),
        )  # fmt: skip
        remaining_ms = used.remaining_ms(self.policy, allowance)
        return -1 if remaining_ms is None else remaining_ms

    def reads(self) -> Counters:
        return carried_into(self.counters, self.effective.days, self.effective.week)

    def decided(self) -> Decision:
        effective, counters = self.effective, self.reads()
        terms, left_ms = effective.within_week(effective.days[-1], counters)
        return effective.decision(
            terms, counters, self.at_ms, is_exempt=False, week_left_ms=left_ms, interval_ms=30_000,
            longest_lease_ms=300_000,
        )  # fmt: skip

    @property
    def left(self) -> float | None:
        """Minutes that remain by the decision."""
        remaining_ms = self.decided().remaining_ms
        return None if remaining_ms is None else remaining_ms / MINUTE_MS

    def is_tomorrow(self, *, after_minutes: float = 60) -> None:
        self.at_ms = self.counters.day_ends_ms + round(after_minutes * MINUTE_MS)


@pytest.fixture
def home() -> Home:
    return Home()


class TestPromise:
    @pytest.mark.parametrize(
        ("left", "title_left", "promised"),
        [(10, 10, 0), (10, 10.5, 10.5), (10, 25, 25), (10, 25.5, 0), (60, 75, 75), (60, 30, 0)],
    )
    def test_a_title_that_ends_soon_after_the_limit_may_be_finished(
        self, left: float, title_left: float, promised: float
    ) -> None:
        home = Home()
        home.opens()
        home.plays(60 - left)
        home.ends_ms = home.at_ms + round(title_left * MINUTE_MS)
        outcome = home.beat()
        assert home.promised_minutes == promised
        assert outcome.finish_until_ms == (home.at_ms + promised * MINUTE_MS if promised else 0)

    def test_each_beat_before_the_limit_renews_the_promise_or_takes_it_back(self, home: Home) -> None:
        home.opens(lasts=70)
        assert home.promised_minutes == 70
        home.at_ms += 30_000
        home.ends_ms = MONDAY_MS + 74 * MINUTE_MS  # it stood still for a while
        home.beat()
        assert home.counters.finish_until_ms == home.ends_ms
        home.at_ms += 30_000
        home.ends_ms = None
        home.beat()
        assert home.promised_minutes == 0
        home.ends_ms = MONDAY_MS + 70 * MINUTE_MS
        home.beat(is_paused=1)
        assert home.counters.finish_until_ms == home.ends_ms

    def test_without_the_rule_nothing_is_promised(self) -> None:
        home = Home(rules=NO_RULES)
        home.opens(lasts=70)
        home.plays(65)
        assert (home.promised_minutes, home.sums) == (0, (60, 5, 0, 0))

    @pytest.mark.parametrize("minutes", [None, 60])
    def test_nor_without_a_limit_and_for_an_exempt_title(self, minutes: int | None) -> None:
        home = Home(minutes)
        home.opens(lasts=70)
        home.beat(is_educational=int(minutes is not None))
        assert home.counters.finish_until_ms == 0

    def test_a_title_that_is_educational_and_not_exempt_may_be_finished(self, home: Home) -> None:
        home.opens(lasts=70)
        home.beat(is_educational=1, is_exempt=0)
        assert home.promised_minutes == 70

    def test_nothing_is_promised_once_the_limit_is_used_up(self, home: Home) -> None:
        home.opens()
        home.plays(60)
        home.ends_ms = home.at_ms + 5 * MINUTE_MS
        home.beat()
        home.plays(1)
        assert (home.promised_minutes, home.sums) == (0, (60, 1, 0, 0))

    def test_it_ends_where_a_window_closes(self) -> None:
        closes = Window(days=EVERY_DAY, from_minute=0, until_minute=6 * 60 + 65)
        home = Home(rules=LimitRules(finish_title_minutes=15, windows=(closes,)))
        home.opens(lasts=70)
        assert home.promised_minutes == 65
        assert (home.left, home.decided().reason) == (65, "window")
        home.plays(70)
        assert home.sums == (65, 5, 5, 0)

    def test_it_is_void_if_a_window_closes_before_the_limit(self) -> None:
        closes = Window(days=EVERY_DAY, from_minute=0, until_minute=6 * 60 + 60)
        home = Home(rules=LimitRules(finish_title_minutes=15, windows=(closes,)))
        home.opens(lasts=70)
        assert home.promised_minutes == 0
        assert FinishTerms(900_000, 70 * MINUTE_MS).promised_until_ms(
            left_ms=60 * MINUTE_MS, at_ms=100, day_ends_ms=DAY_MS, closed=((0, 100), (200, 300))
        ) == 0  # fmt: skip

    def test_it_ends_with_the_day(self, home: Home) -> None:
        home.at_ms = MONDAY_MS + DAY_MS - 65 * MINUTE_MS
        home.opens(lasts=70)
        assert home.promised_minutes == 65
        home.at_ms = MONDAY_MS + DAY_MS - 5 * MINUTE_MS
        home.beat(watched_ms=60 * MINUTE_MS)
        assert home.left == 5
        home.at_ms += 5 * MINUTE_MS + 30_000
        home.beat(watched_ms=65 * MINUTE_MS + 30_000)
        assert home.closed[-1].borrowed_ms == 5 * MINUTE_MS, "what it takes of the day that ends"
        assert home.sums == (0.5, 0, 0, 5)
        assert home.left == 60 - 5 - 0.5

    def test_a_clock_that_falls_takes_it_back(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(62)
        home.at_ms -= HOUR_MS
        home.beat()
        assert (home.promised_minutes, home.left) == (0, 0)


class TestBorrowing:
    def test_what_is_played_beyond_the_limit_is_used_and_borrowed_until_the_title_ends(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(60)
        assert home.sums == (60, 0, 0, 0)
        home.plays(10)
        assert home.sums == (70, 0, 10, 0)
        home.plays(2)
        assert home.sums == (70, 2, 10, 0)
        assert (home.outcome.borrowed_ms, home.outcome.used_ms) == (10 * MINUTE_MS, 70 * MINUTE_MS)

    def test_a_gap_over_the_limit_and_over_the_end_is_split_exactly(self, home: Home) -> None:
        home.opens(lasts=62)
        home.plays(59)
        home.at_ms += 4 * MINUTE_MS
        home.beat()
        assert home.sums == (62, 1, 2, 0)

    def test_a_beat_right_at_the_limit_leaves_the_promise(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(59.5)
        home.at_ms += 30_000
        home.ends_ms = None
        home.beat()
        assert (home.sums, home.left) == ((60, 0, 0, 0), 10)

    def test_from_the_limit_on_the_end_stays(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(61)
        home.ends_ms = home.at_ms + 14 * MINUTE_MS
        home.plays(14)
        assert home.sums == (70, 5, 10, 0)

    def test_synced_time_is_not_borrowed_again(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(60)
        home.at_ms += 5 * MINUTE_MS
        home.beat(synced=((home.at_ms - 2 * MINUTE_MS, home.at_ms - MINUTE_MS),))
        assert home.sums == (64, 0, 4, 0)

    def test_a_pause_counts_up_to_its_grace(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(62)
        home.beat(is_paused=1)
        home.plays(7, is_paused=1)
        assert home.sums == (67, 0, 7, 0)
        home.beat()
        home.plays(2)
        assert home.sums == (68, 1, 8, 0), "the end stays where it was"

    def test_a_claim_after_silence_is_borrowed_as_far_as_the_title_went(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(60)
        home.at_ms += 20 * MINUTE_MS
        home.beat(watched_ms=80 * MINUTE_MS)
        assert home.sums == (70, 10, 10, 0)

    def test_time_that_became_exempt_is_not_borrowed(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(61)
        home.beat(is_educational=1)
        home.plays(5, is_educational=1)
        assert (home.sums, home.counters.educational_ms) == ((61, 0, 1, 0), 5 * MINUTE_MS)


class TestOnceADay:
    def test_another_title_ends_it(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(62)
        home.title, home.ends_ms = "cartoon", home.at_ms + 5 * MINUTE_MS
        home.beat()
        assert (home.promised_minutes, home.left) == (0, 0)
        home.plays(3)
        assert home.sums == (62, 3, 2, 0)

    def test_so_does_another_session_which_is_charged_nothing_of_it(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(62)
        home.at_ms += 30_000
        home.opens(lasts=7)
        assert home.counters.previous_end_reason == EndReason.SUPERSEDED
        assert (home.sums, home.left) == ((62.5, 0, 2.5, 0), 0)
        home.plays(3)
        assert home.sums == (62.5, 3, 2.5, 0)

    def test_so_does_a_session_that_is_taken_up_again_after_a_loss(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(61)
        issued_ms = home.at_ms
        home.at_ms += 3 * MINUTE_MS
        home.session_id = "lost"
        home.beat(issued_at_ms=issued_ms)
        assert home.sums == (61, 3, 1, 0)

    def test_so_does_an_end(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(62)
        home.at_ms += 30_000
        home.beat(is_end=1, title_id="", finish=None)
        assert (home.sums, home.left) == ((62.5, 0, 2.5, 0), 0)

    def test_a_take_over_before_the_limit_takes_only_that_promise(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(30)
        home.opens("cartoon", lasts=40)
        assert home.promised_minutes == 40
        home.plays(45)
        assert home.sums == (70, 5, 10, 0)

    def test_a_take_over_right_at_the_limit_ends_it(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(60)
        home.opens(lasts=10)
        home.plays(1)
        assert home.sums == (60, 1, 0, 0)

    def test_a_second_title_is_not_finished_on_the_same_day_whatever_is_given(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.is_given(15)
        home.opens(lasts=20)
        assert (home.promised_minutes, home.left) == (0, 15)
        home.plays(20)
        assert home.sums == (85, 5, 10, 0)

    def test_an_abandoned_session_is_charged_the_lease_that_a_promise_gave(self) -> None:
        home = Home()
        home.opens()
        home.plays(58)
        for _ in range(3):
            home.opens(lasts=6)
            assert home.counters.lease_ms == 300_000
            home.at_ms += 6 * MINUTE_MS
        home.opens()
        assert home.sums == (63, 0, 3, 0)


class TestNextDay:
    def test_it_has_so_much_less_and_the_day_after_owes_nothing(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.is_tomorrow()
        assert (home.left, home.reads().owed_ms) == (50, 10 * MINUTE_MS)
        home.opens()
        assert (home.sums, home.left) == ((0, 0, 0, 10), 50)
        home.plays(55)
        assert home.sums == (50, 5, 0, 10)
        home.is_tomorrow()
        assert home.left == 60
        home.opens()
        assert home.sums == (0, 0, 0, 0)

    def test_a_day_without_a_beat_is_flushed_with_what_it_owes(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.beat(is_end=1, title_id="", finish=None)
        home.at_ms = MONDAY_MS + 2 * DAY_MS + HOUR_MS
        home.closed.clear()
        assert home.left == 60
        home.opens()
        assert home.sums == (0, 0, 0, 0)
        assert (MONDAY_MS + DAY_MS, 10 * MINUTE_MS) in [(day.day_starts_ms, day.owed_ms) for day in home.closed]

    def test_after_a_long_absence_nothing_is_owed(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.at_ms = MONDAY_MS + 90 * DAY_MS
        home.opens()
        assert home.sums == (0, 0, 0, 0)

    def test_a_lower_limit_tomorrow_never_falls_below_nothing(self, home: Home) -> None:
        home.rules = LimitRules(finish_title_minutes=30)
        home.opens(lasts=90)
        home.plays(90)
        home.changes(minutes=15)
        home.is_tomorrow()
        assert home.left == 0
        found = home.decided()
        assert (found.reason, found.available_again_ms) == ("daily_limit", MONDAY_MS + 2 * DAY_MS)
        home.opens()
        home.plays(1)
        assert home.sums == (0, 1, 0, 30)
        assert home.is_given(15) == 15 * MINUTE_MS, "a grant gives its minutes from now on"
        home.plays(16)
        assert home.sums == (15, 2, 0, 30)

    def test_an_unlimited_day_owes_without_effect(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.changes(minutes=None)
        home.is_tomorrow()
        assert (home.left, home.reads().owed_ms) == (None, 10 * MINUTE_MS)
        home.opens(lasts=70)
        home.plays(80)
        assert home.sums == (80, 0, 0, 10)
        assert less_owed(UNLIMITED, 5) == UNLIMITED

    def test_it_may_finish_a_title_of_its_own(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.is_tomorrow()
        home.opens(lasts=60)
        assert home.promised_minutes == 60
        home.plays(60)
        assert home.sums == (60, 0, 10, 10)
        home.is_tomorrow()
        assert home.left == 50

    def test_a_blocked_child_plays_again_at_the_reset_unless_all_of_that_day_is_owed(self) -> None:
        home = Home(15, LimitRules(finish_title_minutes=30))
        home.opens(lasts=20)
        home.plays(20)
        assert home.decided().available_again_ms == MONDAY_MS + DAY_MS
        home = Home(15, LimitRules(finish_title_minutes=30))
        home.opens(lasts=40)
        home.plays(40)
        assert home.decided().available_again_ms == MONDAY_MS + 2 * DAY_MS

    def test_playback_over_the_reset_stops_when_the_next_day_has_spent_what_is_left_of_it(self, home: Home) -> None:
        home.at_ms = MONDAY_MS + DAY_MS - 65 * MINUTE_MS
        home.opens(lasts=70)
        assert home.decided().stop_at_ms == MONDAY_MS + DAY_MS + 55 * MINUTE_MS
        home.at_ms = MONDAY_MS + DAY_MS - 3 * MINUTE_MS
        home.beat(watched_ms=62 * MINUTE_MS)
        assert home.decided().stop_at_ms == MONDAY_MS + DAY_MS + 55 * MINUTE_MS


class TestWeek:
    def test_a_day_counts_what_it_owes_for_its_week(self) -> None:
        home = Home(60, LimitRules(finish_title_minutes=15, weekly_limit_minutes=120))
        home.opens(lasts=70)
        home.plays(70)
        assert home.counters.used_ms == 70 * MINUTE_MS
        home.is_tomorrow()
        home.opens()
        home.plays(10)
        assert home.left == 40, "60 less 10 owed less 10 used"
        home.is_tomorrow()
        home.opens()
        assert home.left == 40, "120 less 60 on Monday less 20 on Tuesday"
        assert [day.used_ms // MINUTE_MS for day in home.counters.week] == [70, 20]

    def test_extra_time_after_a_day_without_a_beat_leaves_what_that_day_owes_to_its_week(self) -> None:
        home = Home(60, rules=LimitRules(finish_title_minutes=15, weekly_limit_minutes=120))
        home.opens(lasts=70)
        home.plays(70)
        home.beat(is_end=1)
        home.at_ms += 2 * DAY_MS
        assert home.left == 120 - 60 - 10
        assert home.is_given(15) == (120 - 60 - 10 + 15) * MINUTE_MS
        assert home.left == 120 - 60 - 10 + 15

    def test_the_last_day_of_a_week_borrows_from_the_next_week(self) -> None:
        home = Home(None, LimitRules(finish_title_minutes=15, weekly_limit_minutes=60))
        home.at_ms = MONDAY_MS + 6 * DAY_MS
        home.opens(lasts=70)
        assert home.promised_minutes == 70
        home.plays(70)
        assert home.decided().available_again_ms == MONDAY_MS + 7 * DAY_MS
        home.is_tomorrow()
        home.opens()
        assert (home.sums, home.left) == ((0, 0, 0, 10), 50)
        home.plays(5)
        home.is_tomorrow()
        home.opens()
        assert home.left == 45

    def test_a_week_that_is_used_up_leaves_no_day_to_borrow_from_but_its_own_limit(self) -> None:
        home = Home(60, LimitRules(finish_title_minutes=15, weekly_limit_minutes=60))
        home.opens(lasts=70)
        home.plays(70)
        assert home.decided().available_again_ms == MONDAY_MS + 7 * DAY_MS
        home.is_tomorrow()
        assert (home.left, home.decided().available_again_ms) == (0, MONDAY_MS + 7 * DAY_MS)


class TestParents:
    def test_a_grant_while_a_title_is_finished_gives_its_minutes_and_the_title_still_ends(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(62)
        home.at_ms += 20 * SECOND_MS
        assert home.is_given(15) == 15 * MINUTE_MS
        assert home.counters.borrowed_ms == 140 * SECOND_MS, "what was played until then is borrowed"
        assert home.left == 15
        home.plays(16)
        assert home.sums == pytest.approx((62 + 20 / 60 + 15, 1, 140 / 60, 0))

    @pytest.mark.parametrize("exempts", [False, True])
    def test_a_learning_title_that_is_not_exempt_is_counted_first_too(self, home: Home, exempts: bool) -> None:
        home.exempts = False
        home.opens(lasts=70)
        home.plays(62, is_educational=1, is_exempt=0)
        home.at_ms += 20 * SECOND_MS
        home.exempts = exempts  # the next beat counts by it too
        assert home.is_given(15) == 15 * MINUTE_MS
        assert home.counters.borrowed_ms == (120 if exempts else 140) * SECOND_MS
        if not exempts:
            home.at_ms += 20 * SECOND_MS
            home.beat(is_educational=1, is_exempt=0)
            assert home.counters.borrowed_ms == 140 * SECOND_MS, "from the grant on its minutes are used"

    def test_what_is_played_beyond_the_limit_takes_nothing_from_extra_time(self) -> None:
        for is_educational in (0, 1):
            home = Home(rules=NO_RULES, exempts=False)
            home.opens()
            home.plays(61, is_educational=is_educational, is_exempt=0)
            home.at_ms += 20 * SECOND_MS
            home.is_given(15)
            home.beat(is_educational=is_educational, is_exempt=0)
            assert home.sums == pytest.approx((60, 1 + 1 / 3, 0, 0))
            assert home.left == 15

    def test_a_short_grant_does_not_end_it_sooner(self, home: Home) -> None:
        home.rules = LimitRules(finish_title_minutes=30)
        home.opens(lasts=90)
        home.plays(61)
        home.is_given(15)
        assert home.left == 29
        home.plays(30)
        assert home.sums == (90, 1, 1 + 14, 0)

    def test_a_lower_limit_leaves_what_is_being_finished_and_takes_a_promise_back(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(61)
        home.changes(minutes=30)
        assert home.left == 9
        other = Home()
        other.opens(lasts=70)
        other.plays(40)
        other.changes(minutes=30)
        other.plays(1)
        assert (other.sums, other.left) == ((40, 1, 0, 0), 0)
        near = Home()
        near.opens(lasts=70)
        near.plays(44.8)
        near.changes(minutes=45)  # 15 minutes after the limit would be too late for the title
        near.plays(1)
        assert near.sums == pytest.approx((45, 0.8, 0, 0))
        assert near.left == 0

    def test_a_higher_limit_leaves_what_was_borrowed(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.changes(minutes=120)
        assert home.left == 50
        home.is_tomorrow()
        assert home.left == 110

    def test_a_parent_that_pauses_ends_it_while_the_pause_lasts(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(62)
        home.changes(paused_until_ms=home.at_ms + 3 * MINUTE_MS)
        assert (home.decided().enforcement, home.decided().reason) == ("blocked", "parent_pause")
        home.at_ms += 4 * MINUTE_MS
        assert home.left == 4

    def test_the_rule_may_be_taken_away(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(30)
        home.changes(rules=NO_RULES)
        home.plays(31)
        assert home.sums == (60, 1, 0, 0)


class TestLoss:
    def test_the_later_of_two_generations_goes_on_and_what_was_borrowed_stays(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(61)
        survived = home.counters
        home.plays(4)
        recovered = msgspec.structs.replace(home.counters, generation=1)
        home.counters = merge_generations(survived, recovered, at_ms=home.at_ms)
        assert (home.sums, home.left) == ((65, 0, 5, 0), 5)
        home.plays(6)
        assert home.sums == (70, 1, 10, 0)

    def test_what_a_day_owes_survives_too(self, home: Home) -> None:
        home.opens(lasts=70)
        home.plays(70)
        home.is_tomorrow()
        home.opens()
        forgetful = msgspec.structs.replace(home.counters, owed_ms=0, last_beat_ms=home.at_ms + 1)
        recovered = msgspec.structs.replace(home.counters, generation=1)
        assert merge_generations(forgetful, recovered, at_ms=home.at_ms).owed_ms == 10 * MINUTE_MS


TITLES = st.lists(st.tuples(st.sampled_from([3, 10, 22, 45]) | st.integers(1, 50), st.booleans()), max_size=8)
DAYS = st.lists(TITLES, min_size=1, max_size=6)


def reckoned(days: list[list[tuple[int, bool]]], *, limit: int, longest: int) -> list[tuple[int, int, int]]:
    """Minutes watched, borrowed and owed by day, of a child that watches one title after the other until it is stopped.

    Each title is given by its length and whether its player tells it.
    """
    found, owed = [], 0
    for titles in days:
        own = max(0, limit - owed)
        watched = borrowed = 0
        for length, is_told in titles:
            over = watched + length - own
            if watched >= own:
                break
            if over <= 0:
                watched += length
            elif is_told and over <= longest:
                watched, borrowed = watched + length, over
            else:
                watched = own
        found.append((watched, borrowed, owed))
        owed = borrowed
    return found


@given(days=DAYS, limit=st.sampled_from([15, 30, 60]), longest=st.sampled_from([1, 15, 30]), gap=st.integers(1, 300))
@settings(max_examples=150, deadline=None)
def test_days_of_titles_agree_with_a_plain_reckoning(
    days: list[list[tuple[int, bool]]], limit: int, longest: int, gap: int
) -> None:
    home = Home(limit, LimitRules(finish_title_minutes=longest))
    found = []
    for place, titles in enumerate(days):
        home.at_ms = MONDAY_MS + place * DAY_MS + MINUTE_MS
        home.opens("trailer")
        for number, (length, is_told) in enumerate(titles):
            home.title = f"title-{number}"
            ends_ms = home.at_ms + length * MINUTE_MS
            home.ends_ms = ends_ms if is_told else None
            home.beat()
            while (found_now := home.decided()).may_play and home.at_ms < ends_ms:
                assert found_now.remaining_ms is not None
                home.at_ms = min(ends_ms, home.at_ms + min(gap * SECOND_MS, found_now.remaining_ms))
                home.beat()
        assert home.counters.overrun_ms == 0
        counted = home.counters.used_ms, home.counters.borrowed_ms, home.counters.owed_ms
        found.append(tuple(ms // MINUTE_MS for ms in counted))
    assert found == reckoned(days, limit=limit, longest=longest)
