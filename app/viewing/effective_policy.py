"""Effective policies: a policy applied to a viewing day, one shared object for all children with equal settings."""

from collections.abc import Collection, Iterator
from functools import lru_cache

import msgspec

from app.domain.breaks import BreakTerms, NextBreak, breaks_of
from app.domain.counters import Counted, Counters
from app.domain.enforcement import (
    BLOCKED,
    DAILY_LIMIT,
    WEEKLY_LIMIT,
    Decision,
    decide,
    decide_by_allowance,
    playable_always,
    playable_ranges,
)
from app.domain.finishing import borrowed_after_ms, less_owed
from app.domain.limits import LimitRules
from app.domain.markets import ENFORCE, Markets
from app.domain.offline import TimeRange
from app.domain.opening_hours import OpeningHours, opening_hours_of
from app.domain.policy import MINUTE_MS, NO_OFFLINE_USE, UNLIMITED, DayTerms, OfflineUse, Policy, terms_of
from app.domain.viewing_day import DAY_MS, Calendar, ViewingDay
from app.domain.weekly import WeekTerms, cut, week_of

_POOL_SIZE = 16_384
_LOOKAHEAD_MS = 15 * DAY_MS
"""Within two weeks every weekday comes twice, and with it a day with an allowance."""


class EffectivePolicy(msgspec.Struct, frozen=True, gc=False):
    """A policy without its owner, applied to one viewing day.

    Attributes:
        policy: the policy without profile, account and version.
        days: terms to send with a beat, ascending; the last one is the running day. Empty for an adult.
        next_allowance_ms: allowance of the day after the running one.
        offline: offline use of the running day.
        enforcement: whether decisions are enforced: `enforce`, `shadow` or `off`.
        opening_hours: when playback is open at all; None for always.
        closed: the time ranges of the running day in which it is not, to send with a beat; None without any.
        weekly: what a weekly limit needs; None without one.
        breaks: the rule of a break; None without one.
        weekend_days: the weekdays that have the limit of the weekend, Monday = 0.
    """

    policy: Policy
    days: tuple[DayTerms, ...] = ()
    next_allowance_ms: int = 0
    offline: OfflineUse = NO_OFFLINE_USE
    enforcement: str = ENFORCE
    opening_hours: OpeningHours | None = None
    closed: tuple[TimeRange, ...] | None = None
    weekly: "WeeklyLimit | None" = None
    breaks: BreakTerms | None = None
    weekend_days: Collection[int] = ()

    @property
    def week(self) -> WeekTerms | None:
        """The weekly limit, to send with a beat."""
        return None if self.weekly is None else self.weekly.week

    def within_week(self, terms: DayTerms, counters: Counters) -> tuple[DayTerms, int]:
        """The terms of the running day within the weekly limit, and what earlier days leave of it; 0 without one."""
        if (week := self.week) is None:
            return terms, 0
        left_ms = week.left_ms(week.earlier_days(counters.week, terms.number))
        return cut(terms, left_ms), left_ms

    def decision(  # noqa: PLR0917  every heartbeat comes here, and keywords cost
        self,
        terms: DayTerms,
        counted: Counted,
        at_ms: int,
        is_exempt: bool,
        week_left_ms: int,
        interval_ms: int,
        longest_lease_ms: int,
    ) -> Decision:
        """The decision on the running day, as if it were enforced.

        Args:
            terms: those of the day, within the weekly limit.
            counted: what beats were counted of it.
            at_ms: the instant.
            is_exempt: the title is educational and such titles are not deducted.
            week_left_ms: what earlier days leave of the weekly limit.
            interval_ms: the regular beat interval, jitter applied.
            longest_lease_ms: upper bound of the lease.
        """
        has_rules = self.opening_hours is not None or self.weekly is not None or self.breaks is not None
        is_plain = not (has_rules or counted.finish_until_ms or counted.borrowed_ms or counted.owed_ms)
        if is_plain:
            decision = decide_by_allowance(
                at_ms,
                counted.used_ms,
                terms.allowance_ms,
                is_exempt,
                terms.ends_ms,
                self.next_allowance_ms,
                self.policy.warning_minutes,
                interval_ms,
                longest_lease_ms,
            )
        else:
            decision = decide(
                at_ms=at_ms,
                used_ms=counted.used_ms,
                allowance_ms=less_owed(terms.allowance_ms, counted.owed_ms),
                is_exempt=is_exempt,
                day_ends_ms=terms.ends_ms,
                next_allowance_ms=self._next_allowance_ms(terms, counted, at_ms, week_left_ms),
                warning_minutes=self.policy.warning_minutes,
                interval_ms=interval_ms,
                longest_lease_ms=longest_lease_ms,
                opening_hours=self.opening_hours,
                limit_reason=DAILY_LIMIT if self.weekly is None else self.weekly.reason(week_left_ms),
                finish_until_ms=counted.finish_until_ms,
                next_break=self.next_break(counted, at_ms),
            )
        if decision.enforcement != BLOCKED:
            return decision
        if is_plain and self.next_allowance_ms:
            return msgspec.structs.replace(decision, available_again_ms=terms.ends_ms)
        playable = playable_ranges(
            self._with_time(terms, counted, at_ms, is_exempt=is_exempt, week_left_ms=week_left_ms),
            from_ms=self._rested_ms(counted, at_ms),
            opening_hours=self.opening_hours,
        )
        return msgspec.structs.replace(decision, available_again_ms=next((from_ms for from_ms, _ in playable), None))

    def playable(
        self, terms: DayTerms, counted: Counted, at_ms: int, is_exempt: bool, week_left_ms: int
    ) -> Iterator[TimeRange]:
        """The time ranges of two weeks in which the child may play, if nothing plays and nothing else changes.

        The arguments are as for ``decision``; the weekly limit need not be applied to ``terms``.
        """
        if self.enforcement != ENFORCE:
            return playable_always(at_ms)
        terms = terms if self.weekly is None else cut(terms, week_left_ms)
        hours = self.opening_hours
        if self.policy.has_windows:
            hours = opening_hours_of(self.policy, terms.day, known_after_ms=terms.ends_ms + _LOOKAHEAD_MS)
        return playable_ranges(
            self._with_time(terms, counted, at_ms, is_exempt=is_exempt, week_left_ms=week_left_ms),
            from_ms=self._rested_ms(counted, at_ms),
            opening_hours=hours,
        )

    def _rested_ms(self, counted: Counted, at_ms: int) -> int:
        """The first instant from ``at_ms`` on that is in no break, if nothing plays."""
        found = self.next_break(counted, at_ms)
        return at_ms if found is None or found.left_ms else found.ends_ms

    def _next_allowance_ms(self, terms: DayTerms, counted: Counted, at_ms: int, week_left_ms: int) -> int:
        """The allowance of the next day, if playback goes on until this one ends."""
        next_allowance_ms = self.next_allowance_ms
        if self.weekly is not None:
            next_allowance_ms = self.weekly.next_allowance_ms(
                terms, week_left_ms, used_ms=self.own_ms(counted), at_ms=at_ms
            )
        if not (counted.finish_until_ms or counted.borrowed_ms):
            return next_allowance_ms
        allowance_ms = less_owed(terms.allowance_ms, counted.owed_ms)
        left_ms = terms.ends_ms - at_ms if allowance_ms == UNLIMITED else max(0, allowance_ms - counted.used_ms)
        borrowed_ms = borrowed_after_ms(
            counted.borrowed_ms, left_ms=left_ms, finish_until_ms=counted.finish_until_ms, at_ms=at_ms
        )
        return less_owed(next_allowance_ms, borrowed_ms)

    def own_ms(self, counted: Counted) -> int:
        """What the running day has used so far, for its week."""
        return counted.used_ms + counted.owed_ms + self.offline.used_ms

    def _with_time(
        self, terms: DayTerms, counted: Counted, at_ms: int, *, is_exempt: bool, week_left_ms: int
    ) -> Iterator[TimeRange]:
        """The time ranges from an instant on in which something is left to play, if nothing plays until then."""
        allowance_ms = less_owed(terms.allowance_ms, counted.owed_ms)
        if is_exempt or allowance_ms == UNLIMITED or counted.used_ms < allowance_ms:
            yield at_ms, terms.ends_ms
        elif counted.finish_until_ms > at_ms:
            yield at_ms, counted.finish_until_ms
        used_ms, owed_ms = self.own_ms(counted), counted.borrowed_ms
        known_until_ms = terms.ends_ms + _LOOKAHEAD_MS
        while (following := self._following(terms.day)) is not None and following.starts_ms < known_until_ms:
            if (week := self.week) is not None:
                is_new_week = week.first_day(following.number) != week.first_day(terms.number)
                week_left_ms = week.limit_ms if is_new_week else max(0, week_left_ms - min(used_ms, terms.limit_ms))
                following = cut(following, week_left_ms)
            terms = following
            if is_exempt or less_owed(terms.allowance_ms, owed_ms):
                yield terms.starts_ms, terms.ends_ms
            used_ms, owed_ms = owed_ms, 0

    def next_break(self, counted: Counted | None, at_ms: int) -> NextBreak | None:
        """The break of the child, seen at an instant; None without breaks."""
        if self.breaks is None or counted is None:
            return None
        return self.breaks.next_break(counted.unbroken_ms, counted.played_until_ms, at_ms=at_ms)

    def changes_ms(self, counted: Counted | None, at_ms: int) -> int | None:
        """When playback opens or closes next for another reason than the allowance; None if that is not known.

        ``counted`` are the counters of a child with breaks.
        """
        instants_ms: list[int] = []
        if (hours := self.opening_hours) is not None and (ends_ms := hours.ends_ms(hours.place_of(at_ms))) is not None:
            instants_ms.append(ends_ms)
        if (found := self.next_break(counted, at_ms)) is not None and not found.left_ms:
            instants_ms.append(found.ends_ms)
        return min(instants_ms, default=None)

    def closes_ms(self, at_ms: int) -> int | None:
        """When playback that is open at an instant closes next, whatever is left; None where that is not known."""
        if self.opening_hours is None or self.enforcement != ENFORCE:
            return None
        return self.opening_hours.closes_ms(at_ms)

    def _following(self, day: ViewingDay) -> DayTerms | None:
        """The day after a day, before a weekly limit is applied to it."""
        if self.policy.calendar is None:
            return None
        [following] = self.policy.calendar.days_after(day, until_ms=day.ends_ms)
        return terms_of(self.policy, following, weekend_days=self.weekend_days)

    def holds(self, at_ms: int) -> bool:
        """Whether the running day contains an instant. An adult's policy holds always."""
        return not self.days or self.days[-1].starts_ms <= at_ms < self.days[-1].ends_ms


class WeeklyLimit(msgspec.Struct, frozen=True, gc=False):
    """A weekly limit on the running day.

    Attributes:
        week: the limit, and the days that PostgreSQL has of the week.
        daily_limit_ms: the daily limit of the running day, -1 for unlimited.
        following: the next day, with all that the weekly limit may leave of it.
        ends_week: whether the running day is the last one of its week.
    """

    week: WeekTerms
    daily_limit_ms: int
    following: DayTerms
    ends_week: bool

    def reason(self, left_ms: int) -> str:
        """The rule that is stricter today, where earlier days leave so much of the week."""
        return WEEKLY_LIMIT if self.daily_limit_ms == UNLIMITED or left_ms < self.daily_limit_ms else DAILY_LIMIT

    def next_allowance_ms(self, terms: DayTerms, left_ms: int, *, used_ms: int, at_ms: int) -> int:
        """The allowance of the next day, if playback goes on until this one ends."""
        if self.ends_week:
            return self.following.allowance_ms
        used_ms += max(0, terms.ends_ms - at_ms)
        return cut(self.following, max(0, left_ms - min(used_ms, terms.limit_ms))).allowance_ms


class EffectivePolicyPool:
    """Computes effective policies and shares equal ones: most children of a platform have the same settings.

    Args:
        markets: weekend days and enforcement by market.
    """

    def __init__(self, markets: Markets) -> None:
        self._markets = markets
        self._pool: dict[tuple[Policy, ViewingDay | None], EffectivePolicy] = {}

    def of(self, policy: Policy, pinned: ViewingDay | None, at_ms: int) -> EffectivePolicy:
        """The effective policy at an instant.

        Args:
            policy: a policy without its owner.
            pinned: the running day of the counters; None if there are no counters.
            at_ms: the instant.
        """
        effective = self._pool.get((policy, pinned))
        if effective is None or not effective.holds(at_ms):
            effective = self._compute(_intern(policy), pinned, at_ms)
            while len(self._pool) >= _POOL_SIZE:
                del self._pool[next(iter(self._pool))]
            self._pool[effective.policy, pinned] = effective
        return effective

    def clear(self) -> None:
        """Forget everything: the rules of markets have changed."""
        self._pool.clear()

    def _compute(self, policy: Policy, pinned: ViewingDay | None, at_ms: int) -> EffectivePolicy:
        calendar = policy.calendar
        if calendar is None:
            return EffectivePolicy(policy)
        days = calendar.days_from(pinned, at_ms)
        [following] = calendar.days_after(days[-1], until_ms=days[-1].ends_ms)
        weekly = self._weekly(policy, days[-1], following)
        known_after_ms = following.ends_ms
        if weekly is not None and policy.has_windows:
            known_after_ms = max(known_after_ms, _next_week_ms(calendar, weekly.week, days[-1]))
        opening_hours = opening_hours_of(policy, days[-1], known_after_ms=known_after_ms)
        return EffectivePolicy(
            policy,
            _intern_days(tuple(self._terms(policy, day) for day in days)),
            self._terms(policy, following).allowance_ms,
            policy.offline_use(days[-1].number),
            policy.enforcement or self._markets.of(policy.market).enforcement,
            opening_hours,
            None if opening_hours is None else opening_hours.closed_within(days[-1]) or None,
            weekly,
            breaks_of(policy.rules),
            self._markets.weekend_days(policy.market),
        )

    def _weekly(self, policy: Policy, day: ViewingDay, following: ViewingDay) -> WeeklyLimit | None:
        market = self._markets.of(policy.market)
        week = week_of(policy, starts_on=market.week_starts_on)
        if week is None:
            return None
        daily = policy.limits.daily_minutes_on(day.number, weekend_days=market.weekend_days)
        return WeeklyLimit(
            week,
            UNLIMITED if daily is None else daily * MINUTE_MS,
            self._terms(policy, following),
            week.first_day(day.number) != week.first_day(following.number),
        )

    def _terms(self, policy: Policy, day: ViewingDay) -> DayTerms:
        return terms_of(policy, day, weekend_days=self._markets.weekend_days(policy.market))


def _next_week_ms(calendar: Calendar, week: WeekTerms, day: ViewingDay) -> int:
    """When the first day of the week after that of a day begins."""
    later = day
    while week.first_day(later.number) <= day.number:
        [later] = calendar.days_after(later, until_ms=later.ends_ms)
    return later.starts_ms


@lru_cache(maxsize=4096)
def _intern_days(days: tuple[DayTerms, ...]) -> tuple[DayTerms, ...]:
    return days


@lru_cache(maxsize=65_536)
def _intern_calendar(calendar: Calendar) -> Calendar:
    return calendar


@lru_cache(maxsize=1024)
def _intern_thresholds(warning_minutes: tuple[int, ...]) -> tuple[int, ...]:
    return warning_minutes


@lru_cache(maxsize=4096)
def _intern_rules(rules: LimitRules) -> LimitRules:
    return rules


def _intern(policy: Policy) -> Policy:
    """An equal policy whose calendar, thresholds and rules are the objects that other policies share."""
    return msgspec.structs.replace(
        policy,
        calendar=policy.calendar and _intern_calendar(policy.calendar),
        warning_minutes=_intern_thresholds(policy.warning_minutes),
        rules=policy.rules and _intern_rules(policy.rules),
    )
