"""Watches heartbeats with positions for signs of tampering (``domain.tampering``).

It happens after the answer: a heartbeat waits neither for Redis nor for PostgreSQL. Hints are best effort: while one of
the servers is away, heartbeats are not watched, and a hint is told again by a later one.
"""

from collections.abc import Sequence
from contextlib import suppress

import msgspec
import structlog

from app.domain.tampering import PositionWatch, Sighting, TamperHint, new_hints, seen
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.kit.batching import Batcher, Overloaded
from app.observability import metrics
from app.viewing.ports import KeptPositions, TamperHints

_CALLS_IN_FLIGHT = 1  # the heartbeats of a child follow each other

log = structlog.get_logger(__name__)

_Sent = tuple[str, Sighting]


class TamperWatch:
    """Remembers positions and keeps hints.

    Args:
        positions: what is remembered of each child.
        hints: where hints are kept.
        max_gap_ms: a longer gap between heartbeats says nothing.
        max_batch: most heartbeats in one call.
    """

    def __init__(self, *, positions: KeptPositions, hints: TamperHints, max_gap_ms: int, max_batch: int) -> None:
        self._positions = positions
        self._hints = hints
        self._max_gap_ms = max_gap_ms
        self._sightings: Batcher[_Sent, None] = Batcher(self._take, max_batch=max_batch, max_in_flight=_CALLS_IN_FLIGHT)

    def note(self, profile_id: str, sighting: Sighting) -> None:
        """Queue what a heartbeat told of playback."""
        with suppress(Overloaded):
            self._sightings.enqueue((profile_id, sighting), _nobody_waits)

    async def hints_of(self, profile_id: str, day_number: int) -> list[TamperHint]:
        """The hints of a child's running day. Raises CountersUnavailable."""
        [watch] = await self._positions.read([profile_id])
        return [] if watch is None else [hint for hint in watch.hints if hint.day_number == day_number]

    async def drain(self) -> None:
        """Wait for what is in flight."""
        await self._sightings.drain()

    async def _take(self, sent: Sequence[_Sent]) -> list[None]:
        try:
            await self._watch(sent)
        except CountersUnavailable as error:
            log.debug("positions_not_kept", reason=error.code)
        except Exception:
            log.exception("positions_not_kept")
        return [None] * len(sent)

    async def _watch(self, sent: Sequence[_Sent]) -> None:
        profile_ids = list(dict.fromkeys(profile_id for profile_id, _ in sent))
        before = dict(zip(profile_ids, await self._positions.read(profile_ids), strict=True))
        after: dict[str, PositionWatch] = {}
        noted: list[tuple[str, TamperHint]] = []
        for profile_id, sighting in sent:
            known = after.get(profile_id, before[profile_id])
            after[profile_id] = seen(known, sighting, max_gap_ms=self._max_gap_ms)
            noted += [(profile_id, hint) for hint in new_hints(known, after[profile_id])]
        if noted and not await self._are_kept(noted):
            after = {profile_id: _untold(watch, noted) for profile_id, watch in after.items()}
        await self._positions.keep(list(after.items()))

    async def _are_kept(self, noted: Sequence[tuple[str, TamperHint]]) -> bool:
        try:
            await self._hints.add(noted)
        except DatabaseUnavailable as error:
            log.debug("tamper_hints_not_kept", reason=error.code)
            return False
        for _, hint in noted:
            metrics.TAMPER_HINTS.labels(hint.kind).inc()
        return True


def _untold(watch: PositionWatch, noted: Sequence[tuple[str, TamperHint]]) -> PositionWatch:
    """Without hints that could not be kept: the next heartbeat brings them again."""
    lost = {hint for _, hint in noted}
    return msgspec.structs.replace(watch, hints=tuple(hint for hint in watch.hints if hint not in lost))


def _nobody_waits(_: None, __: BaseException | None) -> None:
    """The callback of a heartbeat whose watch is not waited for."""
