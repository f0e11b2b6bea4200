"""Preview: past days under other settings."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import date
from types import MappingProxyType

import msgspec

from app.domain.breaks import BREAK, breaks_of
from app.domain.config import Config
from app.domain.enforcement import DAILY_LIMIT, WEEKLY_LIMIT
from app.domain.finishing import less_owed
from app.domain.offline import TimeRange, uncovered, union
from app.domain.opening_hours import WINDOW, open_ranges
from app.domain.policy import MINUTE_MS, UNLIMITED
from app.domain.report import DayTotals, ReportedDay, SessionPart, Source
from app.domain.viewing_day import day_number_of
from app.domain.weekly import WeekTerms

NO_WEEK: Mapping[date, int] = MappingProxyType({})


class BlockedDay(msgspec.Struct, frozen=True):
    """A viewing day on which a rule would have ended playback: a limit, a window or a break.

    That was at ``from_ms``, or, where what is kept does not tell exactly, by ``until_ms``.
    """

    day: date
    limit_minutes: int | None
    granted_minutes: int
    counted_ms: int
    from_ms: int
    until_ms: int
    reason: str = DAILY_LIMIT

    @property
    def at_ms(self) -> int | None:
        """When exactly; None where it is not known."""
        return self.from_ms if self.from_ms == self.until_ms else None


def blocked_days(
    config: Config,
    days: Sequence[ReportedDay],
    sessions: Mapping[date, Sequence[SessionPart]],
    *,
    weekend_days: Collection[int],
    pause_grace_ms: int,
    week_left_ms: Mapping[date, int] = NO_WEEK,
) -> list[BlockedDay]:
    """The days that settings would have blocked, in the order given.

    Days are judged by their names and bounds as they were, by the limit of the settings and the grants of that day.
    What was watched beyond the limit of then counts, as does educational time unless it would be exempt. Titles are
    taken to have been finished as they were, where the settings allow that at all.

    Args:
        config: the settings to be tried.
        days: what was watched in all, and the grants that stood when the day ended.
        sessions: of each day, offline playback included. What a day holds beyond them lies anywhere in it.
        weekend_days: Monday = 0.
        pause_grace_ms: how long the counted part of each pause is.
        week_left_ms: what the weekly limit leaves of days, as ``left_of_week`` tells it.
    """
    breaks_ms = _breaks(config, days, sessions, pause_grace_ms)
    found = []
    for day in days:
        name, parts = day.totals.day, sessions.get(day.totals.day, ())
        by_rule = (  # of those that end playback at the same instant the first one is named
            _by_windows(config, day, parts, weekend_days=weekend_days),
            _by_limit(config, day, parts, weekend_days, week_left_ms.get(name)),
            _stopped(config, day, weekend_days, at_ms=breaks_ms.get(name), reason=BREAK),
        )
        found.append(min((each for each in by_rule if each is not None), key=lambda each: each.from_ms, default=None))
    return [blocked for blocked in found if blocked is not None]


def left_of_week(
    config: Config, days: Sequence[ReportedDay], *, weekend_days: Collection[int], week_starts_on: int
) -> Mapping[date, int]:
    """What the weekly limit of settings would have left of each day, in ms; nothing without one.

    Days before the first one given are taken to have used nothing.
    """
    weekly = config.limits.weekly_minutes
    if weekly is None:
        return NO_WEEK
    week = WeekTerms(weekly * MINUTE_MS, week_starts_on)
    left_of: dict[int, int] = {}
    found: dict[date, int] = {}
    for totals in sorted((day.totals for day in days), key=lambda totals: totals.day):
        number = day_number_of(totals.day)
        first = week.first_day(number)
        left_ms = found[totals.day] = left_of.get(first, week.limit_ms)
        most = config.limits.minutes_on(number, weekend_days=weekend_days) or 0
        counted_ms = totals.total_ms - (totals.educational_ms if config.educational_exempt else 0)
        counted_ms += totals.owed_ms if config.may_finish_titles else 0
        left_of[first] = left_ms - min(counted_ms, left_ms, most * MINUTE_MS)
    return found


def may_be_blocked(
    config: Config, day: ReportedDay, *, weekend_days: Collection[int], week_left_ms: Mapping[date, int] = NO_WEEK
) -> bool:
    """Whether a rule can have ended playback on a day, judged without its sessions."""
    if config.rules is not None and (config.rules.windows or config.rules.break_minutes) and day.totals.total_ms > 0:
        return True
    exempt_ms = day.totals.educational_ms if config.educational_exempt else 0
    allowed_ms = _allowed_ms(config, day, weekend_days, week_left_ms.get(day.totals.day))
    return allowed_ms is not None and day.totals.total_ms - exempt_ms >= allowed_ms


def _by_windows(
    config: Config, day: ReportedDay, sessions: Sequence[SessionPart], *, weekend_days: Collection[int]
) -> BlockedDay | None:
    """The first instant outside of the windows at which something was watched. Exempt titles are judged as well.

    Only sessions count of which it is known when they played. Extra time of then opens nothing.
    """
    totals = day.totals
    if config.rules is None or not config.rules.windows:
        return None
    opened = open_ranges(config.rules.windows, config.timezone, totals.starts_ms, totals.ends_ms)
    closed = uncovered((totals.starts_ms, totals.ends_ms), opened)
    found = [
        max(from_ms, closes_ms)
        for part in sessions
        for from_ms, until_ms in _played(part, totals)
        for closes_ms, opens_ms in closed
        if max(from_ms, closes_ms) < min(until_ms, opens_ms)
    ]
    return _stopped(config, day, weekend_days, at_ms=min(found, default=None), reason=WINDOW)


def _stopped(
    config: Config, day: ReportedDay, weekend_days: Collection[int], *, at_ms: int | None, reason: str
) -> BlockedDay | None:
    """A day on which a rule would have ended playback whatever was left of a limit; None without an instant."""
    if at_ms is None:
        return None
    return BlockedDay(
        day=day.totals.day,
        limit_minutes=config.limits.minutes_on(day_number_of(day.totals.day), weekend_days=weekend_days),
        granted_minutes=day.granted.minutes,
        counted_ms=day.totals.total_ms,
        from_ms=at_ms,
        until_ms=at_ms,
        reason=reason,
    )


def _breaks(
    config: Config, days: Sequence[ReportedDay], sessions: Mapping[date, Sequence[SessionPart]], pause_grace_ms: int
) -> Mapping[date, int]:
    """When a break would first have been due on each day, in ms; days without one are left out.

    A break that is due is taken at once. Pauses that counted whole are not kept: they are taken for playback. Only
    sessions count of which it is known when they played, and no offline playback.
    """
    found: dict[date, int] = {}
    breaks = breaks_of(config.rules)
    if breaks is None:
        return found
    unbroken_ms = played_until_ms = over_ms = 0
    for totals in sorted((day.totals for day in days), key=lambda totals: totals.starts_ms):
        parts = [part for part in sessions.get(totals.day, ()) if part.source is Source.HEARTBEAT]
        for starts_ms, ends_ms in union(
            time_range for part in parts for time_range in _unpaused(part, totals, pause_grace_ms)
        ):
            from_ms = max(starts_ms, over_ms)
            while from_ms < ends_ms:
                left_ms = breaks.next_break(unbroken_ms, played_until_ms, at_ms=from_ms).left_ms
                until_ms = min(ends_ms, from_ms + left_ms)
                unbroken_ms, played_until_ms = breaks.played(
                    unbroken_ms, played_until_ms, from_ms=from_ms, until_ms=until_ms
                )
                from_ms = until_ms
                if unbroken_ms == breaks.after_ms:
                    found.setdefault(totals.day, until_ms)
                    from_ms = over_ms = until_ms + breaks.length_ms
    return found


def _unpaused(part: SessionPart, totals: DayTotals, pause_grace_ms: int) -> Sequence[TimeRange]:
    """Where a session played on a day, without the counted part of a pause, which is before the uncounted one."""
    counted_pauses = [(from_ms - pause_grace_ms, from_ms) for from_ms, _ in part.uncounted]
    return [rest for played in _played(part, totals) for rest in uncovered(played, counted_pauses)]


def _by_limit(
    config: Config,
    day: ReportedDay,
    sessions: Sequence[SessionPart],
    weekend_days: Collection[int],
    left_ms: int | None,
) -> BlockedDay | None:
    allowed_ms = _allowed_ms(config, day, weekend_days, left_ms)
    if allowed_ms is None:
        return None
    totals = day.totals
    counted = [counting for part in sessions if (counting := _counting_of(part, totals, config)).counted_ms > 0]
    if unknown_ms := _unknown_ms(totals, sessions, config):
        counted.append(_Counting(((totals.starts_ms, totals.ends_ms),), unknown_ms))
    counted_ms = sum(counting.counted_ms for counting in counted)
    if not counted or counted_ms < allowed_ms:
        return None
    granted_minutes = day.granted.minutes
    return BlockedDay(
        day=totals.day,
        limit_minutes=_limit_ms(config, day, weekend_days, left_ms) // MINUTE_MS,
        granted_minutes=granted_minutes,
        counted_ms=counted_ms,
        from_ms=_reached_ms([time_range for counting in counted for time_range in counting.earliest()], allowed_ms),
        until_ms=_reached_ms([time_range for counting in counted for time_range in counting.latest()], allowed_ms),
        reason=_reason(config, day, weekend_days, left_ms),
    )


def _reason(config: Config, day: ReportedDay, weekend_days: Collection[int], left_ms: int | None) -> str:
    """The stricter one of the daily and the weekly limit."""
    daily = config.limits.daily_minutes_on(day_number_of(day.totals.day), weekend_days=weekend_days)
    return WEEKLY_LIMIT if left_ms is not None and (daily is None or left_ms < daily * MINUTE_MS) else DAILY_LIMIT


def _allowed_ms(config: Config, day: ReportedDay, weekend_days: Collection[int], left_ms: int | None) -> int | None:
    """Limit + grants of a day, None for unlimited. ``left_ms`` is what the weekly limit leaves, None without one.

    Where titles may be finished, it is less by what the day owed, and more by what it borrowed.
    """
    limit_ms = _limit_ms(config, day, weekend_days, left_ms)
    if limit_ms == UNLIMITED or day.granted.unlimited:
        return None
    allowed_ms = limit_ms + day.granted.minutes * MINUTE_MS
    if not config.may_finish_titles:
        return allowed_ms
    return less_owed(allowed_ms, day.totals.owed_ms) + day.totals.borrowed_ms


def _limit_ms(config: Config, day: ReportedDay, weekend_days: Collection[int], left_ms: int | None) -> int:
    """The limit of a day, -1 for unlimited."""
    minutes = config.limits.minutes_on(day_number_of(day.totals.day), weekend_days=weekend_days)
    if minutes is None:
        return UNLIMITED
    return minutes * MINUTE_MS if left_ms is None else min(minutes * MINUTE_MS, left_ms)


class _Counting(msgspec.Struct, frozen=True):
    """Time that would have counted, somewhere in time ranges that are apart from each other and ascend."""

    within: tuple[TimeRange, ...]
    counted_ms: int

    def earliest(self) -> Iterator[TimeRange]:
        """The position of the part if it began as early as possible."""
        left_ms = self.counted_ms
        for starts_ms, ends_ms in self.within:
            part_ms = min(left_ms, ends_ms - starts_ms)
            yield starts_ms, starts_ms + part_ms
            left_ms -= part_ms

    def latest(self) -> Iterator[TimeRange]:
        """The position of the part if it ended as late as possible."""
        left_ms = self.counted_ms
        for starts_ms, ends_ms in reversed(self.within):
            part_ms = min(left_ms, ends_ms - starts_ms)
            yield ends_ms - part_ms, ends_ms
            left_ms -= part_ms


def _counting_of(part: SessionPart, totals: DayTotals, config: Config) -> _Counting:
    """What of a session would have counted. The kind of its title decides, not what was exempt then.

    A part that went on over the reset has no beat there: what it was credited shows how far it went.
    """
    counted_ms = part.total_ms
    if config.educational_exempt:
        counted_ms = 0 if part.is_educational else counted_ms - part.educational_ms
    played = _span(part, totals)
    if sum(until_ms - from_ms for from_ms, until_ms in played) < counted_ms:
        played = [(part.started_ms, totals.ends_ms)]  # more was counted than there is room for: it lies anywhere
    return _Counting(tuple(played), counted_ms)


def _span(part: SessionPart, totals: DayTotals) -> Sequence[TimeRange]:
    """Where a session may have played on a day."""
    paused_ms = sum(until_ms - from_ms for from_ms, until_ms in part.uncounted)
    ends_ms = min(totals.ends_ms, max(part.last_beat_ms, part.started_ms + part.total_ms + paused_ms))
    return uncovered((part.started_ms, ends_ms), part.uncounted)


def _played(part: SessionPart, totals: DayTotals) -> Sequence[TimeRange]:
    """Where a session played on a day; nothing where that is not known exactly."""
    span = _span(part, totals)
    return span if sum(until_ms - from_ms for from_ms, until_ms in span) == part.total_ms else ()


def _unknown_ms(totals: DayTotals, sessions: Sequence[SessionPart], config: Config) -> int:
    """The time that a day counted in sessions that are no longer kept."""
    counted_ms = totals.counted_ms + totals.overrun_ms - sum(part.counted_ms + part.overrun_ms for part in sessions)
    educational_ms = totals.educational_ms - sum(part.educational_ms for part in sessions)
    return max(0, counted_ms) + (0 if config.educational_exempt else max(0, educational_ms))


def _reached_ms(ranges: Sequence[TimeRange], allowed_ms: int) -> int:
    """The instant at which time ranges, which may overlap, add up to so much."""
    changes = sorted([(starts_ms, 1) for starts_ms, _ in ranges] + [(ends_ms, -1) for _, ends_ms in ranges])
    counted_ms, running, cursor_ms = 0, 0, changes[0][0]
    for at_ms, change in changes:
        if running and counted_ms + running * (at_ms - cursor_ms) >= allowed_ms:
            return cursor_ms + -(-(allowed_ms - counted_ms) // running)
        counted_ms += running * (at_ms - cursor_ms)
        cursor_ms, running = at_ms, running + change
    return cursor_ms
