"""Playback without a connection, credited afterwards: the union of what was watched, each stretch counted once."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from app.domain.accounting import Live
from app.domain.policy import UNLIMITED, OfflineUse
from app.domain.viewing_day import ViewingDay

Stretch = tuple[int, int]
"""From an instant up to another, in ms."""


class OfflineInterval(msgspec.Struct, frozen=True):
    """A stretch that a device played by itself. ``watched_ms`` is what it measured, never more than the stretch."""

    starts_ms: int
    ends_ms: int
    watched_ms: int
    is_exempt: bool


class OfflineBatch(msgspec.Struct, frozen=True):
    """A batch as it is kept: stretches by the server's clock."""

    profile_id: str
    device_id: str
    batch_id: str
    is_tampered: bool
    titles: tuple[str, ...]
    stretches: tuple[Stretch, ...]
    at_ms: int


class DayUse(msgspec.Struct, frozen=True):
    """What a viewing day may still take: its allowance (-1 unlimited), and what beats and earlier syncs used of it."""

    allowance_ms: int
    used_ms: int


class Settlement(msgspec.Struct, frozen=True):
    """What comes of a batch: the credit of each interval in order, and what each day is credited."""

    credited_ms: tuple[int, ...]
    by_day: tuple[OfflineUse, ...]


def counted_until_ms(live: Live, *, at_ms: int, max_gap_ms: int) -> int:
    """Up to when the running or last session is counted; one that is not silent counts up to now with its next beat."""
    is_over = bool(live.has_ended) or at_ms - live.last_beat_ms > max_gap_ms
    return live.last_beat_ms if is_over else max(live.last_beat_ms, at_ms)


def settle(
    intervals: Sequence[OfflineInterval],
    *,
    covered: Sequence[Stretch],
    day_at: Callable[[int], ViewingDay],
    use_of: Callable[[ViewingDay], DayUse],
) -> Settlement:
    """Credit intervals where nothing was counted yet, each part to its own day.

    Args:
        intervals: in the order sent; they may overlap each other.
        covered: stretches in which something was counted already.
        day_at: the viewing day of an instant.
        use_of: what a day may still take.
    """
    counted: list[Stretch] = list(covered)
    ledger = _Uses(day_at, use_of)
    credited: list[int] = []
    for interval in intervals:
        left_ms = interval.watched_ms
        for starts_ms, ends_ms in uncovered((interval.starts_ms, interval.ends_ms), counted):
            part_ms = min(left_ms, ends_ms - starts_ms)
            ledger.credit(starts_ms, part_ms, is_exempt=interval.is_exempt)
            left_ms -= part_ms
        credited.append(interval.watched_ms - left_ms)
        counted.append((interval.starts_ms, interval.ends_ms))
    return Settlement(tuple(credited), tuple(ledger.by_day.values()))


def settle_tampered(
    intervals: Sequence[OfflineInterval], *, today: ViewingDay, use: DayUse, counted_today_ms: int, at_ms: int
) -> Settlement:
    """Credit all to today, to the child's disadvantage, but never more than the time that today has had."""
    room_ms = max(0, at_ms - today.starts_ms - counted_today_ms)
    ledger = _Uses(lambda _: today, lambda _: use)
    credited: list[int] = []
    for interval in intervals:
        part_ms = min(interval.watched_ms, room_ms)
        ledger.credit(today.starts_ms, part_ms, is_exempt=False)
        room_ms -= part_ms
        credited.append(part_ms)
    return Settlement(tuple(credited), tuple(ledger.by_day.values()))


def uncovered(stretch: Stretch, covered: Sequence[Stretch]) -> list[Stretch]:
    """The parts of a stretch that none of the others covers, ascending."""
    cursor_ms, ends_ms = stretch
    free: list[Stretch] = []
    for other_starts_ms, other_ends_ms in sorted(covered):
        if other_ends_ms <= cursor_ms:
            continue
        if other_starts_ms >= ends_ms:
            break
        if other_starts_ms > cursor_ms:
            free.append((cursor_ms, other_starts_ms))
        cursor_ms = other_ends_ms
    if cursor_ms < ends_ms:
        free.append((cursor_ms, ends_ms))
    return free


def union(stretches: Iterable[Stretch]) -> tuple[Stretch, ...]:
    """The same time as stretches apart from each other, ascending."""
    apart: list[Stretch] = []
    for starts_ms, ends_ms in sorted(stretches):
        if apart and starts_ms <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(apart[-1][1], ends_ms)
        else:
            apart.append((starts_ms, ends_ms))
    return tuple(apart)


class _Uses:
    """What days are credited, growing."""

    def __init__(self, day_at: Callable[[int], ViewingDay], use_of: Callable[[ViewingDay], DayUse]) -> None:
        self._day_at = day_at
        self._use_of = use_of
        self.by_day: dict[int, OfflineUse] = {}

    def credit(self, starts_ms: int, part_ms: int, *, is_exempt: bool) -> None:
        """Credit a stretch from its beginning on, split where a day ends."""
        while part_ms > 0:
            day = self._day_at(starts_ms)
            share_ms = min(part_ms, day.ends_ms - starts_ms)
            self._credit_day(day, share_ms, is_exempt=is_exempt)
            starts_ms, part_ms = starts_ms + share_ms, part_ms - share_ms

    def _credit_day(self, day: ViewingDay, share_ms: int, *, is_exempt: bool) -> None:
        known = self.by_day.get(day.number, OfflineUse(day.number))
        educational_ms = share_ms if is_exempt else 0
        counted_ms = share_ms - educational_ms
        use = self._use_of(day)
        if use.allowance_ms != UNLIMITED:
            counted_ms = min(counted_ms, max(0, use.allowance_ms - use.used_ms - known.used_ms))
        self.by_day[day.number] = OfflineUse(
            day.number,
            known.used_ms + counted_ms,
            known.educational_ms + educational_ms,
            known.overrun_ms + share_ms - educational_ms - counted_ms,
        )
