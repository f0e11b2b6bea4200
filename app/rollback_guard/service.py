"""The rollback guard: detects that Redis came back with less data than PostgreSQL has.

Each API process remembers the checkpoints that it last saw, and every script call compares one of them with Redis. So a
server that lost its memory, came back from an old snapshot or was a lagging replica is detected before it counts a
beat. The worker compares before each flush cycle and at each batch. The first process to notice raises the generation.
"""

import asyncio
from collections.abc import Mapping, Sequence

import structlog

from app.domain.checkpoint import Checkpoint, agreed
from app.errors import CountersUnavailable
from app.observability import metrics
from app.rollback_guard.ports import CounterCheckpoints, DatabaseCheckpoints

log = structlog.get_logger(__name__)


class RollbackGuard:
    """The checkpoints that one process last saw.

    Attributes:
        watermarks: by bucket, as last seen; changed in place.
        generations: likewise.
    """

    def __init__(self, *, marks: CounterCheckpoints, noted: DatabaseCheckpoints) -> None:
        self._marks = marks
        self._noted = noted
        self.watermarks = [0] * marks.buckets
        self.generations = [0] * marks.buckets
        self._checking = asyncio.Lock()
        self._checks = 0

    async def check(self) -> None:
        """Compare both sides, and raise the generation of buckets in which Redis is behind.

        Callers that come while another checks share its result.

        Raises:
            CountersUnavailable, DatabaseUnavailable: it is not known whether Redis may be trusted.
        """
        checks = self._checks
        async with self._checking:
            if self._checks == checks:
                await self._compare()
                self._checks += 1

    async def advance(self, buckets: Sequence[int]) -> Mapping[int, Checkpoint]:
        """Raise watermarks of buckets, to be noted with the rows read before. Raises CountersUnavailable."""
        known = {bucket: Checkpoint(self.watermarks[bucket], self.generations[bucket]) for bucket in buckets}
        advanced = await self._marks.advance(known)
        if advanced is None:
            raise CountersUnavailable("Redis came back with an older state.", retry_after_seconds=1)
        for bucket, mark in advanced.items():
            self.watermarks[bucket] = mark.watermark
        return advanced

    async def look(self) -> None:
        """Take note of marks that have risen; where one has fallen, check. Raises as ``check`` does."""
        found = await self._marks.read()
        if all(mark.covers(known) for mark, known in zip(found, self._known(), strict=True)):
            self._know(found)
        else:
            await self.check()

    async def _compare(self) -> None:
        noted = await self._noted.read(self._marks.buckets)
        self._know(noted)  # Redis is measured by it even when it cannot be asked now
        found = await self._marks.read()
        if all(mark.covers(known) for mark, known in zip(found, noted, strict=True)):
            self._know(found)
        else:
            self._know(await self._noted.settle(self._marks.buckets, self._settle))

    async def _settle(self, noted: Sequence[Checkpoint]) -> list[Checkpoint]:
        found = await self._marks.read()
        settled = [agreed(mark, noted=known) for mark, known in zip(found, noted, strict=True)]
        # The others are left alone: the flush may be raising their watermarks meanwhile.
        changed = {bucket: mark for bucket, mark in enumerate(settled) if mark != found[bucket]}
        if changed:
            await self._marks.write(changed)
            metrics.REGRESSED.inc(len(changed))
            log.warning("redis_came_back_older", buckets=len(changed))
        return settled

    def _known(self) -> list[Checkpoint]:
        return [Checkpoint(*known) for known in zip(self.watermarks, self.generations, strict=True)]

    def _know(self, marks: Sequence[Checkpoint]) -> None:
        self.watermarks[:] = [mark.watermark for mark in marks]
        self.generations[:] = [mark.generation for mark in marks]
