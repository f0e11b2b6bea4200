"""Flow 3, the flush: peek → raise the watermark → upsert where newer → forget if unchanged.

A crash at any point loses nothing: what was not forgotten is written again, and writing again changes nothing. A
second flusher is harmless for the same reason; a lock keeps it idle.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import structlog

from app.clock import Clock
from app.domain.unflushed import Backlog, RowRefused, Unflushed
from app.domain.watermark import Mark
from app.errors import CountersUnavailable, RowsLocked
from app.flushing.ports import Continuity, Ledger, SoleFlusher, UnflushedCounters

log = structlog.get_logger(__name__)
_LANES = 2
_UNKNOWN = "unknown"
"""A server by no name: some server is away."""


@dataclass(frozen=True, kw_only=True)
class Flushed:
    """What one cycle did. ``postponed`` are buckets left to the next one."""

    entries: int = 0
    parked: int = 0
    postponed: int = 0
    was_ours: bool = True


class Flusher:
    """Writes unflushed counters, the oldest first.

    Args:
        age_ms: a running child is written when its counters have been dirty so long: about once a minute.
        batch: entries in one transaction.
    """

    def __init__(
        self,
        *,
        counters: UnflushedCounters,
        ledger: Ledger,
        lock: SoleFlusher,
        continuity: Continuity,
        clock: Clock,
        age_ms: int,
        batch: int,
    ) -> None:
        self._counters = counters
        self._ledger = ledger
        self._lock = lock
        self._continuity = continuity
        self._clock = clock
        self._age_ms = age_ms
        self._batch = batch

    async def cycle(self, *, age_ms: int | None = None) -> Flushed:
        """Write everything that is due.

        Args:
            age_ms: another age than the usual one; 0 writes all.

        Raises:
            CountersUnavailable: a server is away; the buckets of all others are written.
            DatabaseUnavailable: some may be written; the next cycle goes on.
        """
        if not await self._lock.is_ours():
            return Flushed(was_ours=False)
        away: dict[str, CountersUnavailable] = {}
        try:
            await self._continuity.check()
        except CountersUnavailable as error:  # of several servers others may answer; ``advance`` compares once more
            away[_UNKNOWN] = error
        began_ms = self._clock()
        age_ms = self._age_ms if age_ms is None else age_ms
        flushed: dict[int, Flushed] = {}
        waiting = iter(range(self._counters.buckets))

        async def lane() -> None:
            for bucket in waiting:
                server = self._counters.server_of(bucket)
                if server in away:
                    continue
                try:
                    flushed[bucket] = await self._flush_bucket(bucket, age_ms)
                except CountersUnavailable as error:
                    away[server] = error

        # While one bucket is written to PostgreSQL, the next is read from Redis. Their rows have nothing in common.
        ends = await asyncio.gather(*(lane() for _ in range(_LANES)), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end
        complete = [bucket for bucket, each in flushed.items() if not each.postponed]
        await self._ledger.note_flush(complete, at_ms=began_ms)
        for failure in away.values():
            raise failure
        return Flushed(
            entries=sum(each.entries for each in flushed.values()),
            parked=sum(each.parked for each in flushed.values()),
            postponed=sum(each.postponed for each in flushed.values()),
        )

    async def drain(self) -> Flushed:
        """Write everything, however young."""
        return await self.cycle(age_ms=0)

    async def backlog(self) -> Backlog:
        return await self._counters.backlog()

    async def _flush_bucket(self, bucket: int, age_ms: int) -> Flushed:
        """Write what is due in a bucket, batch by batch; up to a batch in which a row is locked."""
        entries = parked = 0
        while True:
            batch = await self._counters.peek(bucket, older_than_ms=age_ms, limit=self._batch)
            if batch:
                marks = {bucket: await self._continuity.advance(bucket)}
                try:
                    parked += await self._write(batch, marks)
                except RowsLocked:
                    log.warning("flush_postponed", bucket=bucket, entries=len(batch))
                    return Flushed(entries=entries, parked=parked, postponed=1)
                await self._counters.forget(bucket, batch)
                entries += len(batch)
            if len(batch) < self._batch:
                return Flushed(entries=entries, parked=parked)

    async def _write(self, entries: Sequence[Unflushed], marks: Mapping[int, Mark]) -> int:
        """Write a batch; where a row in it can never be written, halve until only that row is left, and park it."""
        try:
            await self._ledger.upsert([(entry.profile_id, entry.live) for entry in entries], marks)
        except RowRefused as error:
            if len(entries) == 1:
                log.warning("row_parked", profile_id=entries[0].profile_id, error=str(error))
                await self._ledger.park(entries[0], str(error), at_ms=self._clock())
                return 1
            middle = len(entries) // 2
            return await self._write(entries[:middle], marks) + await self._write(entries[middle:], marks)
        return 0
