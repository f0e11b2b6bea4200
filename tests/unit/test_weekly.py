"""The weekly limit: months of watching against a plain reckoning, through losses of the counters."""

from dataclasses import dataclass, field

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.counters import NO_CLAIM, Beat, Counters, Outcome, Rules, Status, cold
from app.domain.enforcement import WEEKLY_LIMIT
from app.domain.limits import LimitRules, Window
from app.domain.markets import Market, Markets
from app.domain.policy import MINUTE_MS, EarlierDay, Grant, OfflineUse, Policy
from app.domain.reference import apply_policy, record
from app.domain.viewing_day import DAY_MS, HOUR_MS, Calendar
from app.domain.weekly import cut
from app.viewing.effective_policy import EffectivePolicy, EffectivePolicyPool
from app.viewing.service import has_just_blocked

RULES = Rules()
MONDAY_MS = 1_772_431_200_000
"""2026-03-02, 06:00 UTC."""
MINUTES = st.sampled_from([0, 5, 15, 30, 60, 120])


def reckoned(days: list[tuple[int, int]], *, daily: int | None, weekly: int, starts_on: int) -> list[tuple[int, int]]:
    """Minutes used and left over on each day, from minutes watched and granted; the first day is a Monday."""
    left, found = weekly, []
    for place, (watched, granted) in enumerate(days):
        if (place - starts_on) % 7 == 0:
            left = weekly
        own = left if daily is None else min(daily, left)
        used = min(watched, own + granted)
        left -= min(used, own)
        found.append((used, watched - used))
    return found


@dataclass
class Home:
    """A child that watches, with counters that may be lost after a flush, and processes that may know old policies."""

    daily: int | None
    weekly: int
    starts_on: int
    windows: tuple[Window, ...] = ()
    counters: Counters | None = None
    balances: dict[int, Counters] = field(default_factory=dict)
    grants: tuple[Grant, ...] = ()
    offline: tuple[OfflineUse, ...] = ()
    version: int = 1
    known: Policy | None = None

    def __post_init__(self) -> None:
        self.pool = EffectivePolicyPool(Markets(Market(week_starts_on=self.starts_on)))

    def loads(self) -> Policy:
        """The policy as PostgreSQL has it."""
        offline = {use.day_number: use.used_ms for use in self.offline}
        numbers = sorted({*self.balances, *offline})
        week = tuple(self._kept(number, offline.get(number, 0)) for number in numbers)
        calendar = Calendar.opened(MONDAY_MS, timezone="UTC", reset_hour=6)
        rules = LimitRules(weekly_limit_minutes=self.weekly, windows=self.windows)
        self.known = Policy(
            "p", "a", self.version, True, 1, self.daily, self.daily, True, (15, 5), calendar,
            grants=self.grants, offline=self.offline, rules=rules, week=week,
        )  # fmt: skip
        return self.known

    def _kept(self, number: int, offline_ms: int) -> EarlierDay:
        kept = self.balances.get(number)
        return EarlierDay(number, kept.used_ms if kept else 0, kept.limit_ms if kept else -1, offline_ms)

    def effective(self, at_ms: int) -> EffectivePolicy:
        pinned = None if self.counters is None else self.counters.day
        return self.pool.of(self.known or self.loads(), pinned, at_ms)

    def changes(self, at_ms: int) -> None:
        """A new policy is put beside the counters."""
        self.version += 1
        policy = self.loads()
        effective = self.effective(at_ms)
        if self.counters is not None:
            self.counters = apply_policy(
                self.counters,
                version=policy.version,
                terms=effective.days[-1],
                synced=(),
                is_exempt=True,
                at_ms=at_ms,
                max_gap_ms=RULES.max_gap_ms,
                week=effective.week,
            )

    def beat(self, at_ms: int, session_id: str) -> Outcome:
        effective = self.effective(at_ms)
        if self.counters is None:
            effective = self.pool.of(self.loads(), None, at_ms)
            self.counters = cold(terms=effective.days[-1], policy_version=self.version, at_ms=at_ms)
        beat = Beat(
            session_id=session_id, new_session_id="" if session_id else f"s{at_ms}", issued_at_ms=0, title_id="t",
            is_educational=0, is_exempt=1, is_paused=0, is_end=0, watched_ms=NO_CLAIM, device_id="d", device_type="tv",
            policy_version=self.version, days=effective.days, week=effective.week,
        )  # fmt: skip
        recorded = record(self.counters, beat, at_ms=at_ms, rules=RULES)
        assert recorded.outcome.status == Status.OK
        self.counters = recorded.counters
        for state in (*recorded.closed, recorded.counters):
            if state is not None:
                self.balances[state.day_number] = state
        return recorded.outcome

    def watches(self, from_ms: int, minutes: int) -> None:
        session_id = self.beat(from_ms, "").session_id
        for minute in range(5, minutes + 1, 5):
            self.beat(from_ms + minute * MINUTE_MS, session_id)

    def loses_counters(self) -> None:
        """What is restored has no earlier days: those come with the policy, which is read again."""
        newest = self.balances.get(max(self.balances, default=-1))
        self.counters = None if newest is None else msgspec.structs.replace(newest, week=())
        self.loads()


DAY = st.tuples(MINUTES, st.sampled_from([0, 0, 0, 15, 60]), st.sampled_from(["", "", "", "lost", "old policy"]))


@settings(max_examples=60)
@given(
    days=st.lists(DAY, min_size=8, max_size=31),
    daily=st.sampled_from([None, 60, 120]),
    weekly=st.sampled_from([15, 60, 150, 300, 10_080]),
    starts_on=st.integers(0, 6),
)
def test_a_month_agrees_with_a_plain_reckoning(
    days: list[tuple[int, int, str]], daily: int | None, weekly: int, starts_on: int
) -> None:
    home = Home(daily, weekly, starts_on)
    expected = reckoned([day[:2] for day in days], daily=daily, weekly=weekly, starts_on=starts_on)
    first = Calendar.opened(MONDAY_MS, timezone="UTC", reset_hour=6).anchor.number
    for place, (watched, granted, what) in enumerate(days):
        from_ms = MONDAY_MS + place * DAY_MS + HOUR_MS
        if what == "lost":
            home.loses_counters()
        if granted:
            home.grants = (Grant(first + place, granted),)
            home.changes(from_ms - 1)
        elif what != "old policy":
            home.loads()
        home.watches(from_ms, watched)
        balance = home.balances[first + place]
        assert (balance.used_ms, balance.overrun_ms) == tuple(MINUTE_MS * minutes for minutes in expected[place]), place


class TestDecision:
    def home(
        self, *, daily: int | None = 60, weekly: int = 90, starts_on: int = 0, windows: tuple[Window, ...] = ()
    ) -> Home:
        home = Home(daily, weekly, starts_on, windows)
        home.watches(MONDAY_MS, 60)
        return home

    def decide(self, home: Home, at_ms: int) -> tuple[str, int | None, str | None, int | None, int | None]:
        effective = home.effective(at_ms)
        counters = home.counters
        assert counters is not None
        terms, left_ms = effective.within_week(effective.days[-1], counters)
        found = effective.decision(
            terms, counters, at_ms, is_exempt=False, week_left_ms=left_ms, interval_ms=30_000,
            longest_lease_ms=300_000,
        )  # fmt: skip
        return (
            found.enforcement,
            found.remaining_ms and found.remaining_ms // MINUTE_MS,
            found.reason,
            found.stop_at_ms,
            found.available_again_ms,
        )

    def test_the_weekly_limit_is_named_where_it_is_stricter(self) -> None:
        home = self.home()
        assert self.decide(home, MONDAY_MS + HOUR_MS)[:3] == ("blocked", 0, "daily_limit")
        tuesday_ms = MONDAY_MS + DAY_MS + HOUR_MS
        home.beat(tuesday_ms, "")
        assert self.decide(home, tuesday_ms)[:3] == ("allowed", 30, WEEKLY_LIMIT)

    def test_a_week_that_is_used_up_ends_with_the_next_week(self) -> None:
        home = self.home(weekly=60)
        tuesday_ms = MONDAY_MS + DAY_MS + HOUR_MS
        home.beat(tuesday_ms, "")
        again_ms = MONDAY_MS + 7 * DAY_MS
        assert self.decide(home, tuesday_ms) == ("blocked", 0, WEEKLY_LIMIT, tuesday_ms, again_ms)
        home = self.home(weekly=60, starts_on=3)
        home.beat(tuesday_ms, "")
        assert self.decide(home, tuesday_ms)[-1] == MONDAY_MS + 3 * DAY_MS

    def test_a_week_that_is_used_up_ends_with_the_first_window_of_the_next_one(self) -> None:
        home = self.home(weekly=60, windows=(Window(days=tuple(range(7)), from_minute=0, until_minute=20 * 60 - 5),))
        tuesday_ms = MONDAY_MS + DAY_MS + HOUR_MS
        home.beat(tuesday_ms, "")
        assert self.decide(home, tuesday_ms)[-1] == MONDAY_MS + 7 * DAY_MS
        home.windows = (Window(days=tuple(range(7)), from_minute=8 * 60, until_minute=20 * 60),)
        home.changes(tuesday_ms)
        for at_ms in (tuesday_ms, tuesday_ms + 4 * HOUR_MS):  # closed and open
            assert self.decide(home, at_ms)[-1] == MONDAY_MS + 7 * DAY_MS + 2 * HOUR_MS

    @pytest.mark.parametrize("windows", [(), (Window(days=tuple(range(7)), from_minute=0, until_minute=22 * 60),)])
    def test_the_end_of_a_week_is_an_event_once_also_within_a_window(self, windows: tuple[Window, ...]) -> None:
        home = self.home(daily=None, weekly=90, windows=windows)
        tuesday_ms = MONDAY_MS + DAY_MS + HOUR_MS
        session_id = home.beat(tuesday_ms, "").session_id
        told = []
        for minute in range(5, 41, 5):
            at_ms = tuesday_ms + minute * MINUTE_MS
            outcome, effective = home.beat(at_ms, session_id), home.effective(at_ms)
            terms = cut(effective.days[-1], outcome.week_left_ms)
            decision = effective.decision(
                terms, outcome, at_ms, is_exempt=False, week_left_ms=outcome.week_left_ms,
                interval_ms=30_000, longest_lease_ms=300_000,
            )  # fmt: skip
            if has_just_blocked(outcome, decision, effective):
                told.append((minute, decision.reason))
        assert told == [(30, WEEKLY_LIMIT)]

    def test_playback_into_the_next_day_goes_on_with_what_the_week_leaves_then(self) -> None:
        home = self.home(daily=None, weekly=90)
        late_ms = MONDAY_MS + DAY_MS - 10 * MINUTE_MS
        home.beat(late_ms, "")
        assert self.decide(home, late_ms)[1:4] == (30, WEEKLY_LIMIT, late_ms + 30 * MINUTE_MS)
        home = self.home(daily=None, weekly=90, starts_on=1)
        home.beat(late_ms, "")
        assert self.decide(home, late_ms)[3] == MONDAY_MS + DAY_MS + 90 * MINUTE_MS, "the next week begins"

    @pytest.mark.parametrize(("offline", "left"), [(15, 45), (30, 30), (90, 30)])
    def test_offline_playback_of_an_earlier_day_counts_up_to_its_limit(self, offline: int, left: int) -> None:
        home = Home(60, 90, 0)
        home.watches(MONDAY_MS, 30)
        number = next(iter(home.balances))
        tuesday_ms = MONDAY_MS + DAY_MS + HOUR_MS
        home.offline = (OfflineUse(number, offline * MINUTE_MS),)
        home.changes(tuesday_ms)
        home.beat(tuesday_ms, "")
        assert self.decide(home, tuesday_ms)[1] == left

    def test_a_change_of_settings_keeps_the_day_to_what_is_left_of_the_week(self) -> None:
        """Also where no beat follows: the limit is kept with the balance of the day."""
        home = self.home()
        tuesday_ms = MONDAY_MS + DAY_MS + HOUR_MS
        home.beat(tuesday_ms, "")
        home.changes(tuesday_ms + MINUTE_MS)
        assert home.counters is not None
        assert (home.counters.limit_ms, home.counters.allowance_ms) == (30 * MINUTE_MS, 30 * MINUTE_MS)
