"""Viewing days: when a child's day begins and ends.

A day begins at the reset hour and bears the local date on which it began. The next day starts exactly where the last
one ended and runs to the first reset instant of the rule then in force that is at least 12 hours later; names strictly
increase. So days never overlap, never leave a gap, and a change of zone or reset hour never touches a running day.

A calendar makes every day since its anchor a pure function of settings: each process, and each later reading,
computes the same days.
"""

from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from typing import Self
from zoneinfo import ZoneInfo, available_timezones

import msgspec

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
MIN_DAY_MS = 12 * HOUR_MS
LONG_ABSENCE_MS = 60 * DAY_MS
_EPOCH = date(1970, 1, 1)
_DAYS_TO_SETTLE = 3
"""Counting days from any reset so long before leads to the same days, also where a zone dropped a date between."""

TIMEZONES = frozenset(available_timezones() - {"Factory", "localtime", "posixrules"})
"""The names a config may use: the IANA list."""


class ViewingDay(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A viewing day: ``starts_ms`` ≤ instant < ``ends_ms`` in UTC ms; ``number`` is its name as a day number."""

    number: int
    starts_ms: int
    ends_ms: int

    @property
    def date(self) -> date:
        """The name: a local date."""
        return date_of(self.number)

    def holds(self, at_ms: int) -> bool:
        return self.starts_ms <= at_ms < self.ends_ms


class DayRule(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A zone and reset hour that shape every day which begins at or after ``effective_ms``."""

    effective_ms: int
    timezone: str
    reset_hour: int


class Calendar(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Every viewing day of one child from ``anchor`` on.

    Rules ascend by ``effective_ms``; the first shaped the anchor. Those of the last ``LONG_ABSENCE_MS`` are kept: a
    child that comes back continues from the day that was pinned when it left, and must find the same days on the way.
    """

    anchor: ViewingDay
    rules: tuple[DayRule, ...]

    @classmethod
    def opened(cls, at_ms: int, *, timezone: str, reset_hour: int) -> Self:
        """The calendar of a child whose settings begin at ``at_ms``."""
        rule = DayRule(effective_ms=at_ms, timezone=timezone, reset_hour=reset_hour)
        return cls(anchor=_grid_day(at_ms, timezone, reset_hour), rules=(rule,))

    def changed(self, at_ms: int, *, timezone: str, reset_hour: int) -> Self:
        """The calendar after a change at ``at_ms``: the running day stays, what follows obeys the new rule."""
        running = self.day_at(max(at_ms, self.anchor.starts_ms))
        in_force = [rule for rule in self.rules if rule.effective_ms < running.ends_ms]
        if (in_force[-1].timezone, in_force[-1].reset_hour) != (timezone, reset_hour):
            in_force.append(DayRule(effective_ms=running.ends_ms, timezone=timezone, reset_hour=reset_hour))
        anchor = self.day_at(max(running.starts_ms - LONG_ABSENCE_MS, self.anchor.starts_ms))
        first = in_force.index(self._rule_at(anchor.starts_ms))
        return type(self)(anchor=anchor, rules=tuple(in_force[first:]))

    def canonical(self) -> Self:
        """The same days, whatever the instant on the anchor at which the first rule was made."""
        first = self.rules[0]
        if first.effective_ms <= self.anchor.starts_ms:
            return self
        first = DayRule(self.anchor.starts_ms, first.timezone, first.reset_hour)
        return type(self)(anchor=self.anchor, rules=(first, *self.rules[1:]))

    def pending(self, at_ms: int) -> DayRule | None:
        """The rule that waits for the running day to end, if there is one."""
        return self.rules[-1] if self.rules[-1].effective_ms > at_ms and len(self.rules) > 1 else None

    def day_at(self, at_ms: int) -> ViewingDay:
        """The day that holds an instant. Instants before the anchor answer by the grid of the first rule."""
        if at_ms < self.anchor.starts_ms:
            return self._day_before_anchor(at_ms)
        if at_ms < self.anchor.ends_ms:
            return self.anchor
        return self.days_after(self.anchor, until_ms=at_ms)[-1]

    def days_from(self, pinned: ViewingDay | None, at_ms: int) -> list[ViewingDay]:
        """The days from the one that counters have pinned (None: none is) to the running one, which is the last.

        Everybody who needs the running day of a child asks here. An instant before the pinned day is within it.
        """
        first = pinned or self.day_at(at_ms)
        return self.days_after(first, until_ms=at_ms) or [first]

    def days_after(self, last: ViewingDay, *, until_ms: int) -> list[ViewingDay]:
        """The days that follow ``last``, up to the one that holds ``until_ms``; long absences are skipped."""
        days: list[ViewingDay] = []
        day = last
        while day.ends_ms <= until_ms:
            rule = self.rules[-1]
            # The first day under a rule leads over to its resets; from the second on they can be told from afar.
            if until_ms - day.ends_ms > LONG_ABSENCE_MS and day.starts_ms > rule.effective_ms:
                day = _leap(day, rule, until_ms - LONG_ABSENCE_MS // 2)
                days.clear()
            day = self._following(day)
            days.append(day)
        return days

    def _following(self, day: ViewingDay) -> ViewingDay:
        if day.ends_ms == self.anchor.starts_ms:
            return self.anchor
        rule = self._rule_at(day.ends_ms)
        following = next_day(day, rule.timezone, rule.reset_hour)
        if following.starts_ms < self.anchor.starts_ms < following.ends_ms:
            return ViewingDay(following.number, following.starts_ms, self.anchor.starts_ms)
        return following

    def rule_of(self, day: ViewingDay) -> DayRule:
        """The rule that shaped a day."""
        return self._rule_at(day.starts_ms)

    def _rule_at(self, at_ms: int) -> DayRule:
        for rule in reversed(self.rules):
            if rule.effective_ms <= at_ms:
                return rule
        return self.rules[0]

    def _day_before_anchor(self, at_ms: int) -> ViewingDay:
        rule = self.rules[0]
        day = _grid_day(at_ms, rule.timezone, rule.reset_hour)
        ends_ms = min(day.ends_ms, self.anchor.starts_ms)
        return ViewingDay(min(day.number, self.anchor.number - 1), day.starts_ms, ends_ms)


@lru_cache(maxsize=65_536)
def next_day(day: ViewingDay, timezone: str, reset_hour: int) -> ViewingDay:
    """The day that starts where ``day`` ends, under one rule. Children who share a rule share the answer."""
    starts_ms = day.ends_ms
    number = max(_local_day_number(starts_ms, timezone), day.number + 1)
    earliest_ms = starts_ms + MIN_DAY_MS
    candidate = _local_day_number(earliest_ms, timezone) - 1
    while (ends_ms := reset_ms(candidate, timezone, reset_hour)) < earliest_ms:
        candidate += 1
    return ViewingDay(number, starts_ms, ends_ms)


@lru_cache(maxsize=65_536)
def reset_ms(day_number: int, timezone: str, reset_hour: int) -> int:
    """The instant at which the reset of a local date acts.

    An hour that does not exist acts at the first instant after the gap; one that occurs twice at its first occurrence.
    """
    zone = ZoneInfo(timezone)
    day = date_of(day_number)
    first = datetime(day.year, day.month, day.day, reset_hour, tzinfo=zone)
    at_s = int(first.timestamp())
    if datetime.fromtimestamp(at_s, zone).replace(tzinfo=None) == first.replace(tzinfo=None):
        return at_s * 1000
    # The hour lies in a gap: reading it with the offset after the gap gives an instant before the gap, and reading it
    # with the offset before gives one after it. The gap itself lies between them.
    before_s, after_s = int(first.replace(fold=1).timestamp()), at_s
    offset_after = datetime.fromtimestamp(after_s, zone).utcoffset()
    while after_s - before_s > 1:
        middle_s = (before_s + after_s) // 2
        if datetime.fromtimestamp(middle_s, zone).utcoffset() == offset_after:
            after_s = middle_s
        else:
            before_s = middle_s
    return after_s * 1000


def date_of(day_number: int) -> date:
    return _EPOCH + timedelta(days=day_number)


def day_number_of(day: date) -> int:
    return (day - _EPOCH).days


def _grid_day(at_ms: int, timezone: str, reset_hour: int) -> ViewingDay:
    """The day that holds an instant, had the rule always been in force."""
    number = _local_day_number(at_ms, timezone) - _DAYS_TO_SETTLE
    ends_ms = reset_ms(number, timezone, reset_hour)
    day = ViewingDay(number - 1, ends_ms - DAY_MS, ends_ms)
    while day.ends_ms <= at_ms:
        day = next_day(day, timezone, reset_hour)
    return day


def _leap(day: ViewingDay, rule: DayRule, at_ms: int) -> ViewingDay:
    """A day weeks ahead. Under one rule names advance with the local date, so their distance to it is kept."""
    ahead = max(0, day.number - _local_day_number(day.starts_ms, rule.timezone))
    landed = _grid_day(at_ms, rule.timezone, rule.reset_hour)
    return ViewingDay(landed.number + ahead, landed.starts_ms, landed.ends_ms)


@lru_cache(maxsize=65_536)
def _local_day_number(at_ms: int, timezone: str) -> int:
    local = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(ZoneInfo(timezone))
    return day_number_of(local.date())
