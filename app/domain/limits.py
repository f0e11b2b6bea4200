"""What a family's settings allow on a viewing day: the one place that knows the limit of a day."""

from collections.abc import Collection

import msgspec

MAX_HOLIDAYS = 50
MAX_WINDOWS = 21
MAX_WEEKLY_MINUTES = 10_080
MAX_BREAK_AFTER_MINUTES = 240
MAX_BREAK_MINUTES = 120
MAX_FINISH_TITLE_MINUTES = 30
_DAY_MINUTES = 1440
_MONDAY_OFFSET = 3  # 1970-01-01 was a Thursday


class Window(msgspec.Struct, frozen=True, kw_only=True):
    """A time of day at which playback is open, by the clock on the wall.

    Attributes:
        days: the local weekdays on which it begins, Monday = 0.
        from_minute: minutes after midnight.
        until_minute: minutes after midnight: of the next day where it is not after ``from_minute``.
    """

    days: tuple[int, ...]
    from_minute: int
    until_minute: int

    @property
    def closes_minute(self) -> int:
        """When it closes, in minutes after the midnight before it opens."""
        return self.until_minute + (0 if self.until_minute > self.from_minute else _DAY_MINUTES)


class LimitRules(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Rules beyond the limits of weekdays and weekends. Settings that use none of them have no such object.

    Attributes:
        daily_limits: limits in minutes from Monday to Sunday, None for unlimited. They replace weekday and weekend.
        holidays: ranges of day numbers, the first and the last day of each, ascending. They count as weekend.
        windows: outside of them nothing plays; none for playback at any time.
        weekly_limit_minutes: what the seven viewing days of a week may use together.
        break_after_minutes: how long may be played without a pause of ``break_minutes``; then such a pause is due.
        break_minutes: how long that pause is. Set exactly if ``break_after_minutes`` is.
        finish_title_minutes: a title that ends within so many minutes after the limit may be finished, once a day.
    """

    daily_limits: tuple[int | None, int | None, int | None, int | None, int | None, int | None, int | None] | None = (
        None
    )
    holidays: tuple[tuple[int, int], ...] = ()
    windows: tuple[Window, ...] = ()
    weekly_limit_minutes: int | None = None
    break_after_minutes: int | None = None
    break_minutes: int | None = None
    finish_title_minutes: int | None = None

    def has_holiday(self, day_number: int) -> bool:
        return any(first <= day_number <= last for first, last in self.holidays)


NO_RULES = LimitRules()


class DailyLimits(msgspec.Struct, frozen=True):
    """The limits of settings, in minutes; None for unlimited.

    Everything that needs the limit of a day asks here: decisions, reports, previews and offline credit.
    """

    weekday_minutes: int | None
    weekend_minutes: int | None
    rules: LimitRules | None = None

    @property
    def has_any(self) -> bool:
        """Whether any day has a limit."""
        if self.weekly_minutes is not None:
            return True
        if self.rules is not None and self.rules.daily_limits is not None:
            return any(minutes is not None for minutes in self.rules.daily_limits)
        return self.weekday_minutes is not None or self.weekend_minutes is not None

    @property
    def weekly_minutes(self) -> int | None:
        return None if self.rules is None else self.rules.weekly_limit_minutes

    def minutes_on(self, day_number: int, *, weekend_days: Collection[int]) -> int | None:
        """The most that a viewing day may use of its own: its daily limit, or the weekly one where that is less."""
        daily, weekly = self.daily_minutes_on(day_number, weekend_days=weekend_days), self.weekly_minutes
        if daily is None or weekly is None:
            return weekly if daily is None else daily
        return min(daily, weekly)

    def daily_minutes_on(self, day_number: int, *, weekend_days: Collection[int]) -> int | None:
        """The daily limit of a viewing day. The day's name decides which one holds (Monday = 0).

        A holiday counts as weekend. Where each day of the week has its own limit, it has that of the first weekend day.
        """
        weekday, rules = weekday_of(day_number), self.rules
        is_weekend = weekday in weekend_days
        if rules is None:
            return self.weekend_minutes if is_weekend else self.weekday_minutes
        is_holiday = not is_weekend and rules.has_holiday(day_number)
        if rules.daily_limits is None:
            return self.weekend_minutes if is_weekend or is_holiday else self.weekday_minutes
        return rules.daily_limits[min(weekend_days) if is_holiday and weekend_days else weekday]


def weekday_of(day_number: int) -> int:
    """The weekday of a day's name, Monday = 0."""
    return (day_number + _MONDAY_OFFSET) % 7
