"""Flow 3, the flush: peek → raise the watermark → upsert where newer → forget if unchanged.

A crash at any point loses nothing: what was not forgotten is written again, and writing again changes nothing. A
second flusher is harmless for the same reason; a lock keeps it idle.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import structlog

from app.clock import Clock
from app.domain.checkpoint import Checkpoint
from app.domain.unflushed import Backlog, RowRefused, Unflushed
from app.errors import CountersUnavailable, RowsLocked
from app.flushing.ports import LeaderLock, RollbackGuard, UnflushedCounters, UsageStore
from app.observability import tracing, worker_metrics
from app.observability.worker_metrics import FLUSH_SECONDS

log = structlog.get_logger(__name__)
_LANES = 2
_BUCKETS_AT_ONCE = 8
_UNKNOWN = "unknown"
"""A server by no name: some server is away."""


@dataclass(frozen=True, kw_only=True)
class Flushed:
    """What one cycle did. ``postponed`` are buckets left to the next one."""

    entries: int = 0
    parked: int = 0
    postponed: int = 0
    was_ours: bool = True


@dataclass
class _FlushCount:
    """What a cycle has done so far."""

    entries: int = 0
    parked: int = 0
    complete: list[int] = field(default_factory=list)
    postponed: set[int] = field(default_factory=set)


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
        usage_store: UsageStore,
        lock: LeaderLock,
        rollback_guard: RollbackGuard,
        clock: Clock,
        age_ms: int,
        batch: int,
    ) -> None:
        self._counters = counters
        self._usage_store = usage_store
        self._lock = lock
        self._rollback_guard = rollback_guard
        self._clock = clock
        self._age_ms = age_ms
        self._batch = batch

    async def cycle(self, *, age_ms: int | None = None) -> Flushed:
        """Write everything that is due.

        Args:
            age_ms: another age than the usual one; 0 writes all.

        Raises:
            CountersUnavailable: a server is away; the buckets of all others are written.
            DatabaseUnavailable: some rows may be written; the next cycle writes the rest.
        """
        if not await self._lock.is_ours():
            return Flushed(was_ours=False)
        with FLUSH_SECONDS.time(), tracing.job_span("flush"):
            return await self._cycle(age_ms)

    async def _cycle(self, age_ms: int | None) -> Flushed:
        away: dict[str, CountersUnavailable] = {}
        try:
            await self._rollback_guard.check()
        except CountersUnavailable as error:  # of several servers others may answer; ``advance`` compares once more
            away[_UNKNOWN] = error
        began_ms = self._clock()
        age_ms = self._age_ms if age_ms is None else age_ms
        tally = _FlushCount()
        waiting = self._groups()

        async def lane() -> None:
            for server, buckets in waiting:
                if server in away:
                    continue
                try:
                    await self._flush_buckets(buckets, age_ms, tally)
                except CountersUnavailable as error:
                    away[server] = error

        # While some buckets are written to PostgreSQL, the next are read from Redis. Their rows have nothing in common.
        ends = await asyncio.gather(*(lane() for _ in range(_LANES)), return_exceptions=True)
        for end in ends:
            if end is not None:
                raise end
        await self._usage_store.note_flush(tally.complete, at_ms=began_ms)
        for failure in away.values():
            raise failure
        return Flushed(entries=tally.entries, parked=tally.parked, postponed=len(tally.postponed))

    async def drain(self) -> Flushed:
        """Write everything, however young."""
        return await self.cycle(age_ms=0)

    async def backlog(self) -> Backlog:
        return await self._counters.backlog()

    def _groups(self) -> Iterator[tuple[str, Sequence[int]]]:
        """Buckets of one server, some at once: a transaction and a trip to Redis cost the same for few entries."""
        by_server: dict[str, list[int]] = defaultdict(list)
        for bucket in range(self._counters.buckets):
            by_server[self._counters.server_of(bucket)].append(bucket)
        for server, buckets in by_server.items():
            for first in range(0, len(buckets), _BUCKETS_AT_ONCE):
                yield server, buckets[first : first + _BUCKETS_AT_ONCE]

    async def _flush_buckets(self, buckets: Sequence[int], age_ms: int, tally: _FlushCount) -> None:
        """Write what is due in some buckets, batch by batch; in each up to a batch in which a row is locked."""
        waiting = buckets
        while waiting:
            share = max(1, self._batch // len(waiting))
            due = await self._counters.peek(waiting, older_than_ms=age_ms, limit=share)
            due = {bucket: entries for bucket, entries in due.items() if entries}
            if due:
                await self._write_buckets(due, await self._rollback_guard.advance(list(due)), tally)
            waiting = [
                bucket for bucket, entries in due.items() if len(entries) == share and bucket not in tally.postponed
            ]
        tally.complete += [bucket for bucket in buckets if bucket not in tally.postponed]

    async def _write_buckets(
        self, due: Mapping[int, Sequence[Unflushed]], marks: Mapping[int, Checkpoint], tally: _FlushCount
    ) -> None:
        """Write and forget what is due, by bucket. Where a row is locked each bucket goes alone, and its own waits."""
        try:
            parked = await self._write([entry for entries in due.values() for entry in entries], marks)
        except RowsLocked:
            if len(due) > 1:
                for bucket, entries in due.items():
                    await self._write_buckets({bucket: entries}, {bucket: marks[bucket]}, tally)
                return
            log.warning("flush_postponed", buckets=list(due), entries=sum(map(len, due.values())))
            tally.postponed.update(due)
            return
        tally.parked += parked  # read and written without an await between: the other lane counts here too
        for bucket, entries in due.items():
            await self._counters.forget(bucket, entries)
            tally.entries += len(entries)
            worker_metrics.FLUSHED.inc(len(entries))

    async def _write(self, entries: Sequence[Unflushed], marks: Mapping[int, Checkpoint]) -> int:
        """Write a batch; where a row in it can never be written, halve until only that row is left, and park it."""
        try:
            await self._usage_store.upsert([(entry.profile_id, entry.counters) for entry in entries], marks)
        except RowRefused as error:
            if len(entries) == 1:
                log.warning("row_dead_lettered", profile_id=entries[0].profile_id, error=str(error))
                await self._usage_store.dead_letter(entries[0], str(error), at_ms=self._clock())
                worker_metrics.DEAD_LETTERS.inc()  # here, since a cycle that fails later on answers no number
                return 1
            middle = len(entries) // 2
            first = await self._write(entries[:middle], marks)
            return first + await self._write(entries[middle:], marks)
        return 0
