"""Playback without a connection, credited afterwards: the union of what was watched, each time range counted once."""

from collections.abc import Callable, Iterable, Sequence

import msgspec

from app.domain.counters import Counters, Rules
from app.domain.finishing import less_owed
from app.domain.past_terms import FOREVER_MS
from app.domain.policy import UNLIMITED, DayTerms, OfflineUse
from app.domain.viewing_day import ViewingDay

TimeRange = tuple[int, int]
"""From an instant up to another, in ms."""


class OfflineInterval(msgspec.Struct, frozen=True):
    """A time range in which a device played offline. ``watched_ms`` is its own measurement, at most the whole range."""

    starts_ms: int
    ends_ms: int
    watched_ms: int
    is_educational: bool


class OfflineBatch(msgspec.Struct, frozen=True):
    """A batch as stored. ``around`` is the time range that its credit can lie in, by the server's clock."""

    profile_id: str
    device_id: str
    batch_id: str
    is_tampered: bool
    titles: tuple[str, ...]
    around: TimeRange
    at_ms: int


class DayUse(msgspec.Struct, frozen=True):
    """What a viewing day may still take: its terms, and what of its allowance beats, syncs and penalties took.

    ``owed_ms`` is what it owes to the day before.
    """

    terms: DayTerms
    used_ms: int
    owed_ms: int = 0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What an interval was credited in one time range of a viewing day in which nothing was counted before.

    ``place`` is the position of the interval in its batch. The whole range is taken, even if less was watched. A
    settled one is taken without a credit: it was charged elsewhere.
    """

    place: int
    starts_ms: int
    ends_ms: int
    day_number: int
    used_ms: int = 0
    educational_ms: int = 0
    overrun_ms: int = 0
    is_educational: bool = False
    is_settled: bool = False

    @property
    def credited_ms(self) -> int:
        return self.used_ms + self.educational_ms + self.overrun_ms

    @property
    def time_range(self) -> TimeRange:
        return self.starts_ms, self.ends_ms


class Settlement(msgspec.Struct, frozen=True):
    """The result of a batch: the credit of each interval in order, its parts, and the credit of each day.

    ``terms`` are the terms of the days in the order of ``by_day``, with nothing deducted; ``owed_ms`` is what they owe.
    """

    credited_ms: tuple[int, ...]
    parts: tuple[Part, ...]
    by_day: tuple[OfflineUse, ...]
    terms: tuple[DayTerms, ...]
    owed_ms: tuple[int, ...]

    @property
    def penalty_ms(self) -> int:
        return sum(use.penalty_ms for use in self.by_day)


class Synced(msgspec.Struct, frozen=True):
    """The answer to a batch: the credit of each interval in ms, the penalty, and whether its clock was wrong."""

    credited_ms: tuple[int, ...]
    penalty_ms: int
    is_tampered: bool


def counted_until_ms(counters: Counters, *, at_ms: int, rules: Rules) -> int:
    """The instant up to which the running or last session is counted.

    The next beat counts a session that is not silent up to now, and a paused one up to the end of the grace.
    """
    if counters.is_over(at_ms, rules.max_gap_ms):
        return counters.last_beat_ms
    until_ms = min(at_ms, counters.paused_since_ms + rules.pause_grace_ms) if counters.paused_since_ms else at_ms
    return max(counters.last_beat_ms, until_ms)


def counted_ranges(counters: Counters, *, until_ms: int) -> list[TimeRange]:
    """The time ranges up to an instant in which the session was counted, of its part in the running day."""
    if not counters.session_id:
        return []
    return uncovered((max(counters.session_started_ms, counters.day_starts_ms), until_ms), counters.uncounted_ranges)


def settle(
    intervals: Sequence[OfflineInterval],
    *,
    covered: Sequence[TimeRange],
    day_at: Callable[[int], ViewingDay],
    use_of: Callable[[ViewingDay], DayUse],
    exempt_at: Callable[[int], tuple[bool, int]],
) -> Settlement:
    """Credit intervals where nothing was counted yet, each part to its own day.

    Args:
        intervals: in the order sent; they may overlap each other.
        covered: time ranges in which something was counted already.
        day_at: the viewing day of an instant.
        use_of: what a day may still take.
        exempt_at: whether educational titles were exempt at an instant, and until when.
    """
    counted: list[TimeRange] = list(covered)
    settling = _Settling(day_at, use_of, exempt_at)
    for interval in intervals:
        time_range = interval.starts_ms, interval.ends_ms
        left_ms = interval.watched_ms
        settling.begin()
        for starts_ms, ends_ms in uncovered(time_range, counted):
            part_ms = min(left_ms, ends_ms - starts_ms)
            settling.credit((starts_ms, ends_ms), part_ms, is_educational=interval.is_educational)
            left_ms -= part_ms
        counted.append(time_range)
    return settling.settlement()


def settle_tampered(
    intervals: Sequence[OfflineInterval],
    *,
    named: Sequence[tuple[int, TimeRange]],
    covered: Sequence[TimeRange],
    today: ViewingDay,
    day_at: Callable[[int], ViewingDay],
    use: DayUse,
    at_ms: int,
) -> Settlement:
    """Charge all to today: as used time where nothing was counted today, and the rest as a penalty.

    Args:
        intervals: in the order sent.
        named: the time ranges of the batch by either clock, with the position of their interval. They are settled.
        covered: time ranges in which something was counted already.
        today: the running day.
        day_at: the viewing day of an instant.
        use: what today may still take.
        at_ms: now.
    """
    settling = _Settling(day_at, lambda _: use, _never_exempt)
    free = uncovered((today.starts_ms, at_ms), covered)
    for interval in intervals:
        left_ms = interval.watched_ms
        settling.begin()
        while left_ms and free:
            starts_ms, ends_ms = free.pop(0)
            part_ms = min(left_ms, ends_ms - starts_ms)
            settling.credit((starts_ms, starts_ms + part_ms), part_ms, is_educational=interval.is_educational)
            left_ms -= part_ms
            if starts_ms + part_ms < ends_ms:
                free.insert(0, (starts_ms + part_ms, ends_ms))
        settling.punish(today, left_ms)
    for place, time_range in named:
        settling.take(place, time_range, covered)
    return settling.settlement()


def _never_exempt(_: int) -> tuple[bool, int]:
    return False, FOREVER_MS


def uncovered(time_range: TimeRange, covered: Sequence[TimeRange]) -> list[TimeRange]:
    """The parts of a time range that none of the others covers, ascending."""
    cursor_ms, ends_ms = time_range
    free: list[TimeRange] = []
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


def union(ranges: Iterable[TimeRange]) -> tuple[TimeRange, ...]:
    """The same time as time ranges apart from each other, ascending."""
    apart: list[TimeRange] = []
    for starts_ms, ends_ms in sorted(ranges):
        if apart and starts_ms <= apart[-1][1]:
            apart[-1] = apart[-1][0], max(apart[-1][1], ends_ms)
        else:
            apart.append((starts_ms, ends_ms))
    return tuple(apart)


def credited(parts: Iterable[Part]) -> tuple[TimeRange, ...]:
    """The time ranges in which anything was credited or settled, apart from each other: no beat counts them again."""
    return union(part.time_range for part in parts if part.credited_ms or part.is_settled)


class _Settling:
    """Collects the credit of intervals and days."""

    def __init__(
        self,
        day_at: Callable[[int], ViewingDay],
        use_of: Callable[[ViewingDay], DayUse],
        exempt_at: Callable[[int], tuple[bool, int]],
    ) -> None:
        self._day_at = day_at
        self._use_of = use_of
        self._exempt_at = exempt_at
        self._credited_ms: list[int] = []
        self._parts: list[Part] = []
        self._by_day: dict[int, OfflineUse] = {}
        self._uses: dict[int, DayUse] = {}

    def begin(self) -> None:
        """The next interval's credit follows."""
        self._credited_ms.append(0)

    def credit(self, time_range: TimeRange, credit_ms: int, *, is_educational: bool) -> None:
        """Take a time range for the interval and credit it from its beginning on.

        It is split where a day ends, and where educational titles begin or cease to be exempt.
        """
        starts_ms, ends_ms = time_range
        place = len(self._credited_ms) - 1
        self._credited_ms[-1] += credit_ms
        while starts_ms < ends_ms:
            day = self._day_at(starts_ms)
            is_exempt, changes_ms = self._exempt_at(starts_ms) if is_educational else (False, ends_ms)
            until_ms = min(ends_ms, day.ends_ms, changes_ms)
            share_ms = min(credit_ms, until_ms - starts_ms)
            use = self._credit_day(day, share_ms, is_exempt=is_exempt)
            self._parts.append(
                Part(
                    place=place,
                    starts_ms=starts_ms,
                    ends_ms=until_ms,
                    day_number=day.number,
                    used_ms=use.used_ms,
                    educational_ms=use.educational_ms,
                    overrun_ms=use.overrun_ms,
                    is_educational=is_educational,
                )
            )
            starts_ms, credit_ms = until_ms, credit_ms - share_ms

    def punish(self, day: ViewingDay, penalty_ms: int) -> None:
        """Charge time that cannot have been watched on a day."""
        if penalty_ms:
            self._add(day, OfflineUse(day.number, penalty_ms=penalty_ms))

    def take(self, place: int, time_range: TimeRange, covered: Sequence[TimeRange]) -> None:
        """Settle a time range, where nothing is counted or taken, so that nothing counts it later."""
        taken = [*covered, *(part.time_range for part in self._parts)]
        for starts_ms, ends_ms in uncovered(time_range, taken):
            number = self._day_at(starts_ms).number
            self._parts.append(
                Part(place=place, starts_ms=starts_ms, ends_ms=ends_ms, day_number=number, is_settled=True)
            )

    def settlement(self) -> Settlement:
        uses = [self._uses[number] for number in self._by_day]
        return Settlement(
            tuple(self._credited_ms),
            tuple(self._parts),
            tuple(self._by_day.values()),
            tuple(use.terms for use in uses),
            tuple(use.owed_ms for use in uses),
        )

    def _credit_day(self, day: ViewingDay, share_ms: int, *, is_exempt: bool) -> OfflineUse:
        if not share_ms:
            return OfflineUse(day.number)
        known = self._by_day.get(day.number, OfflineUse(day.number))
        educational_ms = share_ms if is_exempt else 0
        counted_ms = share_ms - educational_ms
        use = self._use_of(day)
        if use.terms.allowance_ms != UNLIMITED:
            allowance_ms = less_owed(use.terms.allowance_ms, use.owed_ms)
            counted_ms = min(counted_ms, max(0, allowance_ms - use.used_ms - known.used_ms))
        overrun_ms = share_ms - educational_ms - counted_ms
        credited = OfflineUse(day.number, counted_ms, educational_ms, overrun_ms)
        self._add(day, credited)
        return credited

    def _add(self, day: ViewingDay, use: OfflineUse) -> None:
        self._by_day[day.number] = self._by_day.get(day.number, OfflineUse(day.number)).plus(use)
        self._uses[day.number] = self._use_of(day)
