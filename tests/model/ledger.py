"""PostgreSQL's part of the flush, in memory: newer rows win, and growing counters never fall.

The contract suite keeps it equal to ``PostgresUsage``.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from app.clock import Clock
from app.domain.checkpoint import NO_CHECKPOINTS, Checkpoint
from app.domain.counters import Counters, Share
from app.domain.unflushed import Unflushed
from app.rollback_guard.ports import Settling

DAY_MS = 86_400_000
RECOVERED_MS = 3 * DAY_MS
_OF_THE_DAY = ("used_ms", "educational_ms", "overrun_ms")
_OF_THE_SESSION = ("session_used_ms", "session_educational_ms", "session_overrun_ms")
_GROWS = (
    *_OF_THE_DAY,
    *_OF_THE_SESSION,
    "last_beat_ms",
    "watched_ms",
    "session_earlier_ms",
    "abandoned_sessions",
    "borrowed_ms",
    "owed_ms",
)
_OF_THE_BALANCE = ("abandoned_sessions", "unbroken_ms", "played_until_ms", "borrowed_ms", "owed_ms", "finish_until_ms")
_OF_THE_PART = (*_OF_THE_SESSION, "session_earlier_ms", "lease_ms", "uncounted")
_STAYS = ("day_starts_ms", "day_ends_ms", "title_id", "device_id", "device_type", "session_started_ms")


class MemoryLedger:
    """Balances by child and day, sessions by id, day and start, each as the counters that told of it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.balances: dict[tuple[str, int], Counters] = {}
        self.sessions: dict[tuple[str, int, int], tuple[str, Counters]] = {}
        self.parked: list[Unflushed] = []
        self.marks: dict[int, Checkpoint] = {}

    async def upsert(
        self, entries: Sequence[tuple[str, Counters]], marks: Mapping[int, Checkpoint] = NO_CHECKPOINTS
    ) -> None:
        for bucket, mark in marks.items():
            noted = self.marks.get(bucket, Checkpoint())
            self.marks[bucket] = Checkpoint(
                max(mark.watermark, noted.watermark), max(mark.generation, noted.generation)
            )
        balances = {(owner, counters.day_number): counters for owner, counters in _oldest_first(entries)}
        for day, counters in balances.items():
            self.balances[day] = _newer(counters, self.balances.get(day))
        parts = {
            (counters.session_id, counters.day_number): (owner, counters) for owner, counters in _oldest_first(entries)
        }
        for (session_id, day_number), (owner, counters) in parts.items():
            if counters.has_session_part:
                part = session_id, day_number, max(counters.session_started_ms, counters.day_starts_ms)
                _, known = self.sessions.get(part, (owner, None))
                self.sessions[part] = owner, _newer(counters, known)

    async def dead_letter(self, entry: Unflushed, error: str, *, at_ms: int) -> None:
        raise AssertionError(f"{error} at {at_ms}: {entry}")

    async def note_flush(self, buckets: Sequence[int], *, at_ms: int) -> None:
        """When PostgreSQL was last up to date is nobody's question here."""

    async def recover(self, profile_ids: Sequence[str]) -> list[Counters | None]:
        return [self._newest(profile_id) for profile_id in profile_ids]

    async def shares(self, profile_id: str, session_id: str) -> list[Share]:
        return [
            Share(day, sum(getattr(counters, name) for name in _OF_THE_SESSION), counters.last_beat_ms)
            for (found, day, _), (owner, counters) in sorted(self.sessions.items())
            if (owner, found) == (profile_id, session_id)
        ]

    def sums_ms(self, profile_id: str) -> dict[int, tuple[int, int, int]]:
        """Used, educational and overrun time by day."""
        return {
            day: (counters.used_ms, counters.educational_ms, counters.overrun_ms)
            for (owner, day), counters in sorted(self.balances.items())
            if owner == profile_id
        }

    def _newest(self, profile_id: str) -> Counters | None:
        since_ms = self._clock() - RECOVERED_MS
        days = [day for owner, day in self.balances if owner == profile_id and day >= since_ms // DAY_MS]
        if not days:
            return None
        balance = self.balances[profile_id, max(days)]
        counters = Counters(
            version=balance.version,
            generation=0,
            policy_version=0,
            dirty_since_ms=0,
            **{
                name: getattr(balance, name)
                for name in (
                    "day_number",
                    "day_starts_ms",
                    "day_ends_ms",
                    "limit_ms",
                    "allowance_ms",
                    *_OF_THE_DAY,
                    *_OF_THE_BALANCE,
                )
            },
        )
        sessions = [
            (started_ms, part)
            for (_, _, started_ms), (owner, part) in self.sessions.items()
            if owner == profile_id and started_ms >= since_ms
        ]
        if not sessions:
            return counters
        _, part = max(sessions, key=lambda found: found[0])
        told = {
            name: getattr(part, name)
            for name in ("session_id", "title_id", "is_educational", "device_id", "device_type", "session_started_ms")
        }
        told |= {name: getattr(part, name) for name in ("last_beat_ms", "paused_since_ms", "watched_ms", "has_ended")}
        if part.day_number == counters.day_number:
            told |= {name: getattr(part, name) for name in _OF_THE_PART}
        else:
            told["session_earlier_ms"] = part.session_total_ms
        return msgspec.structs.replace(counters, version=max(balance.version, part.version), **told)


class MemoryMarks:
    """The marks that a ledger in memory has noted."""

    def __init__(self, ledger: MemoryLedger) -> None:
        self._ledger = ledger

    async def read(self, buckets: int) -> list[Checkpoint]:
        return [self._ledger.marks.get(bucket, Checkpoint()) for bucket in range(buckets)]

    async def settle(self, buckets: int, settling: Settling) -> list[Checkpoint]:
        settled = list(await settling(await self.read(buckets)))
        self._ledger.marks.update({bucket: settled[bucket] for bucket in self._ledger.marks})
        return settled


def _oldest_first(entries: Iterable[tuple[str, Counters]]) -> list[tuple[str, Counters]]:
    return sorted(entries, key=lambda entry: entry[1].version)


def _newer(counters: Counters, known: Counters | None) -> Counters:
    """The row that holds after ``live`` came to a table that may know of it."""
    if known is None:
        return msgspec.structs.replace(counters)
    if counters.version <= known.version:
        return known
    stays = {name: getattr(known, name) for name in _STAYS}
    grown = {name: max(getattr(counters, name), getattr(known, name)) for name in _GROWS}
    return msgspec.structs.replace(counters, **stays, **grown)
