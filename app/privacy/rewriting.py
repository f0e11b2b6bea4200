"""Remove erased data from the append-only files of Redis within a bounded time.

A deleted key stays in the append-only file until the file is rewritten. The worker asks for a rewrite some time after
an erasure, and repeats the request until a later rewrite has succeeded. The age of the oldest waiting erasure is a
metric, for servers that refuse.
"""

import msgspec
import structlog

from app.clock import Clock
from app.domain.erasure import RewriteNote, RewriteProgress
from app.observability import metrics
from app.privacy.ports import Erasures, Files

_LOOKED_BACK_MS = 30 * 86_400_000
SETTLING_MS = 5 * 60_000
"""After this delay the keys of an erasure are gone from Redis, because the worker removes them again every minute."""

log = structlog.get_logger(__name__)


class Rewriting:
    """Schedules rewrites of the append-only files after erasures.

    Args:
        delay_ms: time from an erasure to the rewrite, more than ``SETTLING_MS``. One rewrite covers many erasures.
    """

    def __init__(self, erasures: Erasures, files: Files, *, delay_ms: int, clock: Clock) -> None:
        self._erasures = erasures
        self._files = files
        self._delay_ms = delay_ms
        self._clock = clock

    async def step(self) -> None:
        """Ask for a rewrite if one is due, and record the result of the last one. Call it about once a minute.

        Raises:
            CountersUnavailable, DatabaseUnavailable
        """
        at_ms, state = self._clock(), await self._files.state()
        if state.progress is RewriteProgress.NO_FILE:
            metrics.ERASURE_IN_FILES.set(0)
            return
        note = await self._files.noted()
        if note is None or note.servers != state.servers or note.covered_ms > at_ms:
            note = RewriteNote(servers=state.servers)  # the state of these servers is unknown meanwhile
        if note.began_ms and state.progress is not RewriteProgress.RUNNING:
            note = await self._concluded(note, state.progress)
        oldest_ms = await self._erasures.oldest_since(max(note.covered_ms, at_ms - _LOOKED_BACK_MS))
        age_ms = 0 if oldest_ms is None else max(0, at_ms - oldest_ms)
        metrics.ERASURE_IN_FILES.set(age_ms / 1000)
        if age_ms < self._delay_ms or note.began_ms or state.progress is RewriteProgress.RUNNING:
            return
        if await self._files.rewrite():
            metrics.REWRITES.labels("asked").inc()
            await self._files.note(msgspec.structs.replace(note, began_ms=at_ms))
        else:
            metrics.REWRITES.labels("refused").inc()
            log.warning("rewrite_refused", erased_seconds_ago=age_ms // 1000)

    async def _concluded(self, note: RewriteNote, progress: RewriteProgress) -> RewriteNote:
        is_done = progress is RewriteProgress.IDLE
        metrics.REWRITES.labels("done" if is_done else "failed").inc()
        covered_ms = note.began_ms - SETTLING_MS if is_done else note.covered_ms
        after = RewriteNote(servers=note.servers, covered_ms=covered_ms)
        await self._files.note(after)
        return after
