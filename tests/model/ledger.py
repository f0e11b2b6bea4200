"""PostgreSQL's part of the flush, in memory: newer rows win, what only grows never falls.

The contract suite holds it equal to ``PostgresUsage``.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.clock import Clock
from app.continuity.ports import Settling
from app.domain.accounting import Live, Share
from app.domain.unflushed import Unflushed
from app.domain.watermark import NO_MARKS, Mark

DAY_MS = 86_400_000
RECOVERED_MS = 3 * DAY_MS
_OF_THE_DAY = ("used_ms", "educational_ms", "overrun_ms")
_OF_THE_SESSION = ("session_used_ms", "session_educational_ms", "session_overrun_ms")
_GROWS = (*_OF_THE_DAY, *_OF_THE_SESSION, "last_beat_ms", "watched_ms", "session_earlier_ms")
_STAYS = ("day_starts_ms", "day_ends_ms", "title_id", "device_id", "device_type", "session_started_ms")


class MemoryLedger:
    """Balances by child and day, sessions by id, day and start, each as the counters that told of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.balances: dict[tuple[str, int], Live] = {}
        self.sessions: dict[tuple[str, int, int], tuple[str, Live]] = {}
        self.parked: list[Unflushed] = []
        self.marks: dict[int, Mark] = {}

    async def upsert(self, entries: Sequence[tuple[str, Live]], marks: Mapping[int, Mark] = NO_MARKS) -> None:
        for bucket, mark in marks.items():
            noted = self.marks.get(bucket, Mark())
            self.marks[bucket] = Mark(max(mark.watermark, noted.watermark), max(mark.generation, noted.generation))
        balances = {(owner, live.day_number): live for owner, live in _oldest_first(entries)}
        for day, live in balances.items():
            self.balances[day] = _newer(live, self.balances.get(day))
        parts = {(live.session_id, live.day_number): (owner, live) for owner, live in _oldest_first(entries)}
        for (session_id, day_number), (owner, live) in parts.items():
            if session_id:
                part = session_id, day_number, max(live.session_started_ms, live.day_starts_ms)
                _, known = self.sessions.get(part, (owner, None))
                self.sessions[part] = owner, _newer(live, known)

    async def park(self, entry: Unflushed, error: str, *, at_ms: int) -> None:
        raise AssertionError(f"{error} at {at_ms}: {entry}")

    async def note_flush(self, buckets: Sequence[int], *, at_ms: int) -> None:
        """When PostgreSQL was last up to date is nobody's question here."""

    async def recover(self, profile_ids: Sequence[str]) -> list[Live | None]:
        return [self._newest(profile_id) for profile_id in profile_ids]

    async def shares(self, profile_id: str, session_id: str) -> list[Share]:
        return [
            Share(day, sum(getattr(live, name) for name in _OF_THE_SESSION), live.last_beat_ms)
            for (found, day, _), (owner, live) in sorted(self.sessions.items())
            if (owner, found) == (profile_id, session_id)
        ]

    def sums_ms(self, profile_id: str) -> dict[int, tuple[int, int, int]]:
        """Used, educational and overrun time by day."""
        return {
            day: (live.used_ms, live.educational_ms, live.overrun_ms)
            for (owner, day), live in sorted(self.balances.items())
            if owner == profile_id
        }

    def _newest(self, profile_id: str) -> Live | None:
        since_ms = self._clock() - RECOVERED_MS
        days = [day for owner, day in self.balances if owner == profile_id and day >= since_ms // DAY_MS]
        if not days:
            return None
        balance = self.balances[profile_id, max(days)]
        live = Live(
            version=balance.version,
            generation=0,
            policy_version=0,
            dirty_since_ms=0,
            **{
                name: getattr(balance, name)
                for name in ("day_number", "day_starts_ms", "day_ends_ms", "limit_ms", "allowance_ms", *_OF_THE_DAY)
            },
        )
        sessions = [
            (started_ms, part)
            for (_, _, started_ms), (owner, part) in self.sessions.items()
            if owner == profile_id and started_ms >= since_ms
        ]
        if not sessions:
            return live
        _, part = max(sessions, key=lambda found: found[0])
        told = {
            name: getattr(part, name)
            for name in ("session_id", "title_id", "is_educational", "device_id", "device_type", "session_started_ms")
        }
        told |= {name: getattr(part, name) for name in ("last_beat_ms", "paused_since_ms", "watched_ms", "has_ended")}
        if part.day_number == live.day_number:
            told |= {name: getattr(part, name) for name in (*_OF_THE_SESSION, "session_earlier_ms")}
        else:
            told["session_earlier_ms"] = part.session_total_ms
        return msgspec.structs.replace(live, version=max(balance.version, part.version), **told)


class MemoryMarks:
    """The marks that a ledger in memory has noted."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    async def read(self, buckets: int) -> list[Mark]:
        return [self._ledger.marks.get(bucket, Mark()) for bucket in range(buckets)]

    async def settle(self, buckets: int, settling: Settling) -> list[Mark]:
        settled = list(await settling(await self.read(buckets)))
        self._ledger.marks.update({bucket: settled[bucket] for bucket in self._ledger.marks})
        return settled


def _oldest_first(entries: Iterable[tuple[str, Live]]) -> list[tuple[str, Live]]:
    return sorted(entries, key=lambda entry: entry[1].version)


def _newer(live: Live, known: Live | None) -> Live:
    """The row that holds after ``live`` came to a table that may know of it."""
    if known is None:
        return msgspec.structs.replace(live)
    if live.version <= known.version:
        return known
    stays = {name: getattr(known, name) for name in _STAYS}
    grown = {name: max(getattr(live, name), getattr(known, name)) for name in _GROWS}
    return msgspec.structs.replace(live, **stays, **grown)
