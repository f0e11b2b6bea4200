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
    """A batch as it is kept. ``around`` is the time that what is credited can lie in, by the server's clock."""

    profile_id: str
    device_id: str
    batch_id: str
    is_tampered: bool
    titles: tuple[str, ...]
    around: Stretch
    at_ms: int


class DayUse(msgspec.Struct, frozen=True):
    """What a viewing day may still take: its allowance (-1 unlimited), and what beats and earlier syncs used of it."""

    allowance_ms: int
    used_ms: int


class Part(msgspec.Struct, frozen=True):
    """What an interval was credited in one stretch in which nothing was counted before.

    ``place`` is that of the interval in its batch. The stretch is taken, also where less of it was watched.
    """

    place: int
    starts_ms: int
    ends_ms: int
    credited_ms: int

    @property
    def stretch(self) -> Stretch:
        return self.starts_ms, self.ends_ms


class Settlement(msgspec.Struct, frozen=True):
    """What comes of a batch: the credit of each interval in order, where it lies, and what each day is credited."""

    credited_ms: tuple[int, ...]
    parts: tuple[Part, ...]
    by_day: tuple[OfflineUse, ...]


def counted_until_ms(live: Live, *, at_ms: int, max_gap_ms: int) -> int:
    """Up to when the running or last session is counted; one that is not silent counts up to now with its next beat."""
    return live.last_beat_ms if live.is_over(at_ms, max_gap_ms) else max(live.last_beat_ms, at_ms)


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
    settling = _Settling(day_at, use_of)
    for interval in intervals:
        stretch = interval.starts_ms, interval.ends_ms
        left_ms = interval.watched_ms
        settling.begin()
        for starts_ms, ends_ms in uncovered(stretch, counted):
            part_ms = min(left_ms, ends_ms - starts_ms)
            settling.credit((starts_ms, ends_ms), part_ms, is_exempt=interval.is_exempt)
            left_ms -= part_ms
        counted.append(stretch)
    return settling.settlement()


def settle_tampered(
    intervals: Sequence[OfflineInterval],
    *,
    covered: Sequence[Stretch],
    today: ViewingDay,
    use: DayUse,
    at_ms: int,
) -> Settlement:
    """Credit all to today, to the child's disadvantage, in the first time that nothing was counted in."""
    settling = _Settling(lambda _: today, lambda _: use)
    free = uncovered((today.starts_ms, at_ms), covered)
    for interval in intervals:
        left_ms = interval.watched_ms
        settling.begin()
        while left_ms and free:
            starts_ms, ends_ms = free.pop(0)
            part_ms = min(left_ms, ends_ms - starts_ms)
            settling.credit((starts_ms, starts_ms + part_ms), part_ms, is_exempt=False)
            left_ms -= part_ms
            if starts_ms + part_ms < ends_ms:
                free.insert(0, (starts_ms + part_ms, ends_ms))
    return settling.settlement()


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


def credited(parts: Iterable[Part]) -> tuple[Stretch, ...]:
    """The stretches in which anything was credited, apart from each other: those that no beat counts again."""
    return union(part.stretch for part in parts if part.credited_ms)


class _Settling:
    """What intervals and days are credited, growing."""

    def __init__(self, day_at: Callable[[int], ViewingDay], use_of: Callable[[ViewingDay], DayUse]) -> None:
        self._day_at = day_at
        self._use_of = use_of
        self._credited_ms: list[int] = []
        self._parts: list[Part] = []
        self._by_day: dict[int, OfflineUse] = {}

    def begin(self) -> None:
        """The next interval's credit follows."""
        self._credited_ms.append(0)

    def credit(self, stretch: Stretch, part_ms: int, *, is_exempt: bool) -> None:
        """Take a stretch for the interval and credit it from its beginning on, split where a day ends."""
        starts_ms, ends_ms = stretch
        self._parts.append(Part(len(self._credited_ms) - 1, starts_ms, ends_ms, part_ms))
        self._credited_ms[-1] += part_ms
        while part_ms > 0:
            day = self._day_at(starts_ms)
            share_ms = min(part_ms, day.ends_ms - starts_ms)
            self._credit_day(day, share_ms, is_exempt=is_exempt)
            starts_ms, part_ms = starts_ms + share_ms, part_ms - share_ms

    def settlement(self) -> Settlement:
        return Settlement(tuple(self._credited_ms), tuple(self._parts), tuple(self._by_day.values()))

    def _credit_day(self, day: ViewingDay, share_ms: int, *, is_exempt: bool) -> None:
        known = self._by_day.get(day.number, OfflineUse(day.number))
        educational_ms = share_ms if is_exempt else 0
        counted_ms = share_ms - educational_ms
        use = self._use_of(day)
        if use.allowance_ms != UNLIMITED:
            counted_ms = min(counted_ms, max(0, use.allowance_ms - use.used_ms - known.used_ms))
        overrun_ms = share_ms - educational_ms - counted_ms
        self._by_day[day.number] = known.plus(OfflineUse(day.number, counted_ms, educational_ms, overrun_ms))
