"""The weekly limit: what the earlier days of a week have used, and what that leaves of a day's limit.

Of each day the week counts what was used of the day's own limit; extra time is on top of the week as well. The script
that counts beats keeps the earlier days of the running week in the counters, as they ended. PostgreSQL adds what was
flushed before that, and offline playback. Both only grow, so the larger value is right.
"""

from collections.abc import Sequence

import msgspec

from app.domain.limits import weekday_of
from app.domain.policy import MINUTE_MS, UNLIMITED, DayTerms, EarlierDay, Policy


class WeekTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A weekly limit, as it is sent with a beat.

    Attributes:
        limit_ms: what the seven days may use together.
        starts_on: the weekday on which a week begins, Monday = 0.
        days: days as PostgreSQL has them.

    The order of the fields is what the scripts read.
    """

    limit_ms: int
    starts_on: int
    days: tuple[EarlierDay, ...] = ()

    def first_day(self, number: int) -> int:
        """The number of the first day of the week of a day."""
        return number - (weekday_of(number) - self.starts_on) % 7

    def earlier_days(self, kept: Sequence[EarlierDay], number: int) -> tuple[EarlierDay, ...]:
        """The days of a week before one of its days.

        Args:
            kept: days as the counters have seen them end.
            number: the day in question.
        """
        first = self.first_day(number)
        found: dict[int, EarlierDay] = {}
        for day in (*kept, *self.days):
            if first <= day.number < number:
                known = found.get(day.number, day)
                used_ms, offline_ms = max(known.used_ms, day.used_ms), max(known.offline_ms, day.offline_ms)
                found[day.number] = EarlierDay(day.number, used_ms, known.limit_ms, offline_ms)
        return tuple(found.values())

    def is_before(self, number: int) -> bool:
        """Whether all of its days are earlier ones of the week of a day, each once and in order."""
        if not self.days:
            return True
        first = self.first_day(number)
        for day in self.days:
            if not first <= day.number < number:
                return False
            first = day.number + 1
        return True

    def left_ms(self, earlier: Sequence[EarlierDay]) -> int:
        """What earlier days leave of the weekly limit."""
        return max(0, self.limit_ms - sum(day.of_week_ms for day in earlier)) if earlier else self.limit_ms

    def within(self, terms: DayTerms, earlier: Sequence[EarlierDay]) -> DayTerms:
        """The terms of a day after the earlier days of its week: no limit above what is left of the week."""
        return cut(terms, self.left_ms(earlier))


def week_of(policy: Policy, *, starts_on: int) -> WeekTerms | None:
    """The weekly limit of a child; None without one."""
    minutes = policy.limits.weekly_minutes
    return None if minutes is None else WeekTerms(minutes * MINUTE_MS, starts_on, policy.week)


def with_days(policy: Policy, days: Sequence[EarlierDay]) -> Policy:
    """A policy that knows more days of the week than PostgreSQL had when it was read."""
    return msgspec.structs.replace(policy, week=(*days, *policy.week)) if days else policy


def cut(terms: DayTerms, left_ms: int) -> DayTerms:
    """The terms of a day of which the week leaves so much. Extra time stays."""
    if terms.limit_ms <= left_ms:
        return terms
    allowance_ms = terms.allowance_ms
    if allowance_ms != UNLIMITED:
        allowance_ms = max(0, allowance_ms - (terms.limit_ms - left_ms))
    return DayTerms(terms.number, terms.starts_ms, terms.ends_ms, left_ms, allowance_ms)
