"""When playback is open at all, whatever is left of an allowance.

A window is open by the clock on the wall: an instant lies in it if the local time does. A window does not exist where
the clock skips it in spring, and is open twice where the clock goes through it twice in autumn. The zone is that of the
viewing day. Extra time opens for its minutes from the moment it was given; a pause by a parent closes in any case.
"""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from zoneinfo import ZoneInfo

import msgspec

from app.domain.limits import Window, weekday_of
from app.domain.offline import TimeRange, union
from app.domain.policy import MINUTE_MS, Policy
from app.domain.viewing_day import DAY_MS, HOUR_MS, Calendar, ViewingDay

PARENT_PAUSE = "parent_pause"
WINDOW = "window"
_LOOKAHEAD_MS = 15 * DAY_MS
"""A window of one weekday may be skipped by a clock that goes forward; it is there again a week later."""
_CLOCKS_APART_MS = MINUTE_MS
"""The clock of the host that dated a grant may be ahead of the clock of the counters."""
_STEP_MS = 1_800_000
"""No zone changes its clock twice within so short a time."""


class OpeningHours(msgspec.Struct, frozen=True, gc=False):
    """Stretches of time in which playback is open or closed, in UTC ms. They follow each other without a gap.

    Attributes:
        begins_ms: when each stretch begins, ascending. The first one begins before every instant in question.
        closed_by: the rule that closes playback in each stretch, None where it is open.
    """

    begins_ms: tuple[int, ...]
    closed_by: tuple[str | None, ...]

    def place_of(self, at_ms: int) -> int:
        """The place of the stretch that holds an instant."""
        return max(0, bisect_right(self.begins_ms, at_ms) - 1)

    def begins_at_ms(self, at_ms: int) -> int:
        """When the stretch of an instant begins."""
        return self.begins_ms[self.place_of(at_ms)]

    def ends_ms(self, place: int) -> int | None:
        """When a stretch ends; None for the last one."""
        return self.begins_ms[place + 1] if place + 1 < len(self.begins_ms) else None

    def closes_ms(self, at_ms: int) -> int | None:
        """When playback that is open at an instant closes next; None where it is closed, or not known to close."""
        place = self.place_of(at_ms)
        return None if self.closed_by[place] is not None else self.ends_ms(place)

    def opens_ms(self, at_ms: int) -> int | None:
        """The first instant from ``at_ms`` on at which playback is open; None if it is not known to open."""
        for place in range(self.place_of(at_ms), len(self.begins_ms)):
            if self.closed_by[place] is None:
                return max(at_ms, self.begins_ms[place])
        return None

    def closed_within(self, day: ViewingDay) -> tuple[TimeRange, ...]:
        """The time ranges in which playback is closed that end after a day has begun and begin before it ends.

        Those that begin in the hour after it are among them: a lease may reach over the reset.
        """
        found: list[TimeRange] = []
        for place, closed_by in enumerate(self.closed_by):
            begins_ms, ends_ms = self.begins_ms[place], self.ends_ms(place)
            ends_ms = day.ends_ms + DAY_MS if ends_ms is None else ends_ms
            if closed_by is not None and begins_ms < day.ends_ms + HOUR_MS and ends_ms > day.starts_ms:
                found.append((begins_ms, ends_ms))
        return union(found)


def opening_hours_of(policy: Policy, day: ViewingDay, *, known_after_ms: int = 0) -> OpeningHours | None:
    """The opening hours of a child from a viewing day on. None where nothing closes playback but the allowance.

    The next opening after the day, after a pause and after ``known_after_ms`` is always known.
    """
    windows = policy.rules.windows if policy.rules is not None else ()
    paused_until_ms = policy.paused_until_ms or 0
    if policy.calendar is None or not (windows or paused_until_ms > day.starts_ms):
        return None
    begins_ms: list[int] = [0]
    closed_by: list[str | None] = [None]
    if windows:
        closed_by[0] = WINDOW
        after_ms = max(day.ends_ms, paused_until_ms, known_after_ms)
        opened = union([*_granted(policy, day), *_in_windows(windows, policy.calendar, day, after_ms)])
        for from_ms, until_ms in opened:
            begins_ms += (from_ms, until_ms)
            closed_by += (None, WINDOW)
    if paused_until_ms > day.starts_ms:
        place = bisect_right(begins_ms, paused_until_ms) - 1
        begins_ms = [0, paused_until_ms, *begins_ms[place + 1 :]]
        closed_by = [PARENT_PAUSE, *closed_by[place:]]
    return OpeningHours(tuple(begins_ms), tuple(closed_by))


def open_ranges(windows: Iterable[Window], timezone: str, from_ms: int, until_ms: int) -> tuple[TimeRange, ...]:
    """The parts of a span of time in which the clock of a zone shows a time of a window, apart and ascending."""
    found: list[TimeRange] = []
    for starts_ms, ends_ms, offset_ms in _offsets(timezone, from_ms, until_ms):
        first, last = (starts_ms + offset_ms) // DAY_MS - 1, (ends_ms + offset_ms) // DAY_MS
        for window in windows:
            for day_number in range(first, last + 1):
                if weekday_of(day_number) in window.days:
                    midnight_ms = day_number * DAY_MS - offset_ms
                    opens_ms = max(starts_ms, midnight_ms + window.from_minute * MINUTE_MS)
                    closes_ms = min(ends_ms, midnight_ms + window.closes_minute * MINUTE_MS)
                    if opens_ms < closes_ms:
                        found.append((opens_ms, closes_ms))
    return union(found)


def _in_windows(windows: tuple[Window, ...], calendar: Calendar, day: ViewingDay, after_ms: int) -> Sequence[TimeRange]:
    """The open time of a day and of those that follow, until an opening after an instant and its end are known."""
    found: tuple[TimeRange, ...] = ()
    for each in (day, *calendar.days_after(day, until_ms=after_ms + _LOOKAHEAD_MS)):
        rule = calendar.rule_of(each)
        found = union([*found, *_open_in_day(windows, rule.timezone, each.starts_ms, each.ends_ms)])
        if any(after_ms < until_ms < each.ends_ms for _, until_ms in found):
            break
    return found


@lru_cache(maxsize=16_384)
def _open_in_day(windows: tuple[Window, ...], timezone: str, starts_ms: int, ends_ms: int) -> tuple[TimeRange, ...]:
    """Children with equal windows share the answer."""
    return open_ranges(windows, timezone, starts_ms, ends_ms)


def _granted(policy: Policy, day: ViewingDay) -> list[TimeRange]:
    """The time that extra time of a day opens: its minutes from its instant on, one grant after the other.

    It ends with its day: the next one knows nothing of it, and no answer may promise time beyond that.
    """
    found: list[TimeRange] = []
    open_until_ms = 0
    for at_ms, minutes in sorted(
        ((grant.at_ms, grant.minutes) for grant in policy.grants if grant.day_number == day.number and grant.at_ms),
        key=lambda grant: grant[0],
    ):
        from_ms = max(at_ms, open_until_ms)
        open_until_ms = day.ends_ms if minutes is None else min(day.ends_ms, from_ms + minutes * MINUTE_MS)
        if from_ms < open_until_ms:
            found.append((from_ms - _CLOCKS_APART_MS, open_until_ms))
    return found


@lru_cache(maxsize=16_384)
def _offsets(timezone: str, from_ms: int, until_ms: int) -> tuple[tuple[int, int, int], ...]:
    """The parts of a span of time in which a zone keeps its offset from UTC: from, until and offset in ms."""
    zone = ZoneInfo(timezone)
    parts: list[tuple[int, int, int]] = []
    starts_ms = from_ms
    offset_ms = _offset_ms(zone, from_ms)
    for step_ms in (*range(from_ms + _STEP_MS, until_ms, _STEP_MS), until_ms):
        after_ms = _offset_ms(zone, step_ms)
        if after_ms != offset_ms:
            changes_ms = _change_between(zone, max(starts_ms, step_ms - _STEP_MS), step_ms)
            if changes_ms < until_ms:
                parts.append((starts_ms, changes_ms, offset_ms))
                starts_ms, offset_ms = changes_ms, after_ms
    return (*parts, (starts_ms, until_ms, offset_ms))


def _change_between(zone: ZoneInfo, before_ms: int, after_ms: int) -> int:
    """The instant, between two, from which on a zone has the offset of the second one."""
    before_s, after_s = before_ms // 1000, after_ms // 1000
    offset_ms = _offset_ms(zone, after_s * 1000)
    while after_s - before_s > 1:
        middle_s = (before_s + after_s) // 2
        if _offset_ms(zone, middle_s * 1000) == offset_ms:
            after_s = middle_s
        else:
            before_s = middle_s
    return after_s * 1000


def _offset_ms(zone: ZoneInfo, at_ms: int) -> int:
    offset = datetime.fromtimestamp(at_ms // 1000, UTC).astimezone(zone).utcoffset()
    return 0 if offset is None else int(offset.total_seconds() * 1000)
