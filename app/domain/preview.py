"""What settings would have meant for days that are past."""

from collections.abc import Collection, Sequence
from datetime import date

import msgspec

from app.domain.config import Config
from app.domain.policy import MINUTE_MS
from app.domain.report import DayTotals, SessionPart, limit_on


class BlockedDay(msgspec.Struct, frozen=True):
    """A viewing day on which the limit would have been reached, and when; None when its sessions are not known."""

    day: date
    limit_minutes: int
    counted_ms: int
    at_ms: int | None


def blocked_days(
    config: Config, days: Sequence[DayTotals], sessions: Sequence[SessionPart], *, weekend_days: Collection[int]
) -> list[BlockedDay]:
    """The days that settings would have blocked, in the order given.

    Days are judged by their names and bounds as they were, and by the limit alone: extra time was given under other
    settings. What was watched beyond the limit of then counts, as does educational time unless it would be exempt.
    """
    by_day: dict[date, list[SessionPart]] = {day.day: [] for day in days}
    for part in sorted(sessions, key=lambda part: part.started_ms):
        by_day.get(part.day, []).append(part)
    blocked = []
    for day in days:
        minutes = limit_on(
            day.day,
            weekday=config.weekday_limit_minutes,
            weekend=config.weekend_limit_minutes,
            weekend_days=weekend_days,
        )
        counted_ms = _counted_ms(day, config)
        if minutes is not None and counted_ms >= minutes * MINUTE_MS:
            at_ms = _reached_ms(by_day[day.day], config, limit_ms=minutes * MINUTE_MS)
            blocked.append(BlockedDay(day.day, minutes, counted_ms, at_ms))
    return blocked


def _counted_ms(time: DayTotals | SessionPart, config: Config) -> int:
    return time.total_ms - (time.educational_ms if config.educational_exempt else 0)


def _reached_ms(sessions: Sequence[SessionPart], config: Config, *, limit_ms: int) -> int | None:
    """The instant at which the sessions, one after the other, had used the limit up."""
    left_ms = limit_ms
    for part in sessions:
        counted_ms = _counted_ms(part, config)
        if counted_ms >= left_ms:
            return part.started_ms + left_ms
        left_ms -= counted_ms
    return None
