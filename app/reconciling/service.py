"""Compare usage in Redis with PostgreSQL, and both with the players' ledgers.

Each child is read in Redis, then in PostgreSQL, then in Redis again. Counters only grow. On a running service
PostgreSQL must have at least the flushed usage of the first read, and at most the usage of the second read.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from app.domain.day_usage import BufferedUsage, DayUsage
from app.domain.playback_bounds import PlaybackBounds, bounds_ms
from app.reconciling.ports import BufferedUsageSource, StoredUsageSource

ALL_DAYS = -1
_SINCE_ALWAYS = 0
_BATCH = 1000
_FOR_EVER_MS = 2**53


class DifferenceKind(StrEnum):
    """Kinds of differences of a child's day."""

    UNMARKED = "unmarked"
    """Redis has more than PostgreSQL, and no flush is due for it."""
    BEHIND = "behind"
    """Redis has less than PostgreSQL: it came back with older data that was not merged."""
    DEAD_LETTERS = "parked"
    """PostgreSQL refused the row; it is a dead letter."""
    LOST = "lost"
    """The player watched more than was counted."""
    DOUBLED = "doubled"
    """More was counted than the player watched."""


@dataclass(frozen=True, kw_only=True)
class UsageDifference:
    """One day of a child with a difference, in seconds. ``day_number`` is `ALL_DAYS` for a sum over all days."""

    kind: DifferenceKind
    profile_id: str
    day_number: int
    expected: float
    found: float

    @property
    def seconds(self) -> float:
        return abs(self.expected - self.found)


@dataclass(kw_only=True)
class Findings:
    """The result of a comparison. ``waiting`` is the number of days that wait for the flush."""

    profiles: int = 0
    waiting: int = 0
    differences: list[UsageDifference] = field(default_factory=list)

    def seconds(self, *kinds: DifferenceKind) -> float:
        return sum(difference.seconds for difference in self.differences if difference.kind in kinds)


class Reconciliation:
    """Compares the stores. It changes nothing."""

    def __init__(self, *, held: BufferedUsageSource, kept: StoredUsageSource) -> None:
        self._held = held
        self._kept = kept

    async def compare(self, ledger: Sequence[PlaybackBounds] = ()) -> Findings:
        """Compare Redis with PostgreSQL, and every child of the ledger with both.

        Raises:
            CountersUnavailable, DatabaseUnavailable: a store is away.
        """
        findings = Findings()
        parked = await self._kept.parked()
        findings.differences += [_difference(DifferenceKind.DEAD_LETTERS, tally, tally.total_ms, 0) for tally in parked]
        aside = {tally.key for tally in parked}
        seen: set[str] = set()
        async for batch in self._held.profiles():
            fresh = [profile_id for profile_id in batch if profile_id not in seen]
            seen.update(fresh)
            await self._compare_stores(fresh, findings, aside)
        await self._compare_players(ledger, findings)
        findings.profiles = len(seen | {session.profile_id for session in ledger})
        return findings

    async def _compare_stores(
        self, profile_ids: Sequence[str], findings: Findings, aside: Collection[tuple[str, int]]
    ) -> None:
        before = await self._held.buffered(profile_ids)
        since_day = min((held.tally.day_number for held in before), default=_SINCE_ALWAYS)
        kept = {tally.key: tally for tally in await self._kept.kept(profile_ids, since_day=since_day)}
        after = _by_day(await self._held.buffered(profile_ids))
        waiting = {held.tally.key for held in before if held.waits}
        for key, tally in _by_day(before).items():
            row = kept.get(key)
            missing_ms = row.lacks(tally) if row else tally.total_ms
            if missing_ms and key in waiting:
                findings.waiting += 1
            elif missing_ms and key not in aside:
                findings.differences.append(
                    _difference(DifferenceKind.UNMARKED, tally, tally.total_ms, row.total_ms if row else 0)
                )
            now = after.get(key)
            if row is not None and now is not None and now.lacks(row):
                findings.differences.append(_difference(DifferenceKind.BEHIND, tally, row.total_ms, now.total_ms))

    async def _compare_players(self, ledger: Iterable[PlaybackBounds], findings: Findings) -> None:
        watched: dict[str, list[PlaybackBounds]] = {}
        for session in ledger:
            watched.setdefault(session.profile_id, []).append(session)
        profile_ids = list(watched)
        for first in range(0, len(profile_ids), _BATCH):
            batch = profile_ids[first : first + _BATCH]
            days = _by_day(await self._held.buffered(batch))
            for row in await self._kept.kept(batch, since_day=_SINCE_ALWAYS):
                days[row.key] = row.merged(days.get(row.key))
            counted: dict[str, list[DayUsage]] = {profile_id: [] for profile_id in batch}
            for tally in days.values():
                counted[tally.profile_id].append(tally)
            for profile_id in batch:
                findings.differences += _against_player(profile_id, watched[profile_id], counted[profile_id])


def _by_day(held: Iterable[BufferedUsage]) -> dict[tuple[str, int], DayUsage]:
    days: dict[tuple[str, int], DayUsage] = {}
    for each in held:
        days[each.tally.key] = each.tally.merged(days.get(each.tally.key))
    return days


def _against_player(
    profile_id: str, sessions: Sequence[PlaybackBounds], days: Sequence[DayUsage]
) -> list[UsageDifference]:
    """Compare each day and the sum of all days. The sum also detects a missing day.

    If the sum is wrong, only the sum is reported, because it includes the days.
    """
    found = []
    spans = [(tally.day_number, tally.starts_ms, tally.ends_ms, tally.total_ms) for tally in days]
    spans.append((ALL_DAYS, 0, _FOR_EVER_MS, sum(tally.total_ms for tally in days)))
    for day_number, starts_ms, ends_ms, counted_ms in spans:
        least_ms, most_ms = bounds_ms(sessions, starts_ms, ends_ms)
        if least_ms <= counted_ms <= most_ms:
            continue
        is_lost = counted_ms < least_ms
        found.append(
            UsageDifference(
                kind=DifferenceKind.LOST if is_lost else DifferenceKind.DOUBLED,
                profile_id=profile_id,
                day_number=day_number,
                expected=(least_ms if is_lost else most_ms) / 1000,
                found=counted_ms / 1000,
            )
        )
    return found[-1:] if found and found[-1].day_number == ALL_DAYS else found


def _difference(kind: DifferenceKind, tally: DayUsage, expected_ms: int, found_ms: int) -> UsageDifference:
    return UsageDifference(
        kind=kind,
        profile_id=tally.profile_id,
        day_number=tally.day_number,
        expected=expected_ms / 1000,
        found=found_ms / 1000,
    )
