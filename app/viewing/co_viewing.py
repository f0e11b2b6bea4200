"""Heartbeats of several profiles of one account that watch the same playback.

Each co-viewer has an ordinary session of its own and gets an ordinary beat, so counters, flush, history and take-over
need no further rule. The beats of one playback are queued in the same tick: they share a script call where one server
holds their counters. If one of them cannot be counted now, the whole heartbeat is refused with 503. Those that were
counted stay counted, and its repetition credits only the time since then. Any other refusal, for example of a child
that watches elsewhere by now, concerns its co-viewer alone.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Sequence

import msgspec
from msgspec import UNSET

from app.auth.tokens import Principal
from app.domain.co_viewing import deciding, first_shared_ms, strictest
from app.errors import HourglassError, InvalidInput, ProfileAccessDenied
from app.http.requests import require_printable
from app.observability import metrics
from app.timestamps import rfc3339
from app.viewing.beats import DecidedBeat, Prepared, PreparedAdult
from app.viewing.schemas import (
    CoViewer,
    CoViewerAnswer,
    EndAnswer,
    EndedCoViewer,
    EndedCoViewerAnswer,
    HeartbeatRequest,
)

_UNAVAILABLE = 503

Prepare = Callable[[Principal, HeartbeatRequest, bool | None], Awaitable[Prepared]]
"""Loads what a beat needs. The last argument is whether the title is educational, if that is known."""
Decide = Callable[[Prepared], Awaitable[DecidedBeat]]

End = Callable[[str, float | None], Awaitable[EndAnswer]]
"""Ends one session, given by its id and the claim of the player."""


class CoViewing:
    """Counts a heartbeat with co-viewers: once for each profile, with one decision for all."""

    def __init__(self, *, prepare: Prepare, decide: Decide) -> None:
        self._prepare = prepare
        self._decide = decide

    async def beat(self, principal: Principal, request: HeartbeatRequest) -> DecidedBeat:
        """Count a heartbeat for its profile and each co-viewer.

        Raises:
            InvalidInput: a profile is named twice, or a co-viewer that has left has no session. Nothing was counted.
            CountersUnavailable, DatabaseUnavailable: some may not have been counted. The next beat credits the gap.
            HourglassError: the profile's own refusal. The time of its co-viewers up to now was counted.
        """
        sent = request.co_viewers or []
        own, *others = _single_beats(request, sent)
        ready = await self._prepare(principal, own, None)
        prepared = await asyncio.gather(
            *(
                self._prepare_co_viewer(principal, one, co_viewer, ready)
                for one, co_viewer in zip(others, sent, strict=True)
            )
        )
        _require_distinct([ready, *prepared])
        decided, *others_decided = await asyncio.gather(*map(self._decide_or_refuse, (ready, *prepared)))
        if isinstance(decided, HourglassError):
            raise decided
        for each in others_decided:
            if isinstance(each, HourglassError) and each.status == _UNAVAILABLE:
                raise each
        return joined(request, decided, others_decided)

    async def _prepare_co_viewer(
        self, principal: Principal, one: HeartbeatRequest, co_viewer: CoViewer, owner: Prepared
    ) -> Prepared | HourglassError:
        """What the beat of a co-viewer needs, or why there is none. A gateway may not join accounts either."""
        try:
            ready = await self._prepare(principal, one, owner.is_educational)
        except HourglassError as refusal:
            if refusal.status == _UNAVAILABLE:
                raise
            return refusal
        if ready.account_id != owner.account_id:
            return ProfileAccessDenied()
        if not co_viewer.has_left:
            return ready
        if isinstance(ready, PreparedAdult):
            ready.is_end = True
        else:
            ready.beat = msgspec.structs.replace(ready.beat, is_end=1)
        return ready

    async def _decide_or_refuse(self, ready: Prepared | HourglassError) -> DecidedBeat | HourglassError:
        if isinstance(ready, HourglassError):
            return ready
        try:
            return await self._decide(ready)
        except HourglassError as refusal:
            return refusal


async def end_co_viewers(ended: EndAnswer, co_viewers: Sequence[EndedCoViewer], end: End) -> EndAnswer:
    """End the sessions of co-viewers, after the one that ``ended``. Repeating it is harmless.

    Raises:
        CountersUnavailable, DatabaseUnavailable: some of the sessions have not ended.
    """

    async def end_or_refuse(co_viewer: EndedCoViewer) -> EndedCoViewerAnswer:
        try:
            answer = await end(co_viewer.session_id, co_viewer.watched_seconds)
        except HourglassError as refusal:
            if refusal.status == _UNAVAILABLE:
                raise
            return EndedCoViewerAnswer(co_viewer.session_id, problem=refusal.problem())
        return EndedCoViewerAnswer(co_viewer.session_id, answer.total_seconds, answer.ended_at)

    answers = await asyncio.gather(*map(end_or_refuse, co_viewers))
    return msgspec.structs.replace(ended, co_viewers=answers)


def _single_beats(request: HeartbeatRequest, sent: Sequence[CoViewer]) -> Iterator[HeartbeatRequest]:
    """The beat of the profile itself and one for each co-viewer, none of them with co-viewers."""
    request = msgspec.structs.replace(request, co_viewers=None, lease=False)  # a lease is for the decision on all
    yield request
    for place, co_viewer in enumerate(sent):
        require_printable(co_viewer.profile_id, f"/co_viewers/{place}/profile_id")
        if co_viewer.has_left and co_viewer.session_id is None:
            raise _refused(f"/co_viewers/{place}/session_id", "must be given for a co-viewer that has left")
        yield msgspec.structs.replace(
            request,
            profile_id=co_viewer.profile_id,
            session_id=co_viewer.session_id,
            watched_seconds=co_viewer.watched_seconds,
        )


def _require_distinct(everybody: Sequence[Prepared | HourglassError]) -> None:
    """Nobody is counted twice, by whichever of its ids it is named."""
    seen: set[str] = set()
    for place, ready in enumerate(everybody):
        if isinstance(ready, HourglassError):
            continue
        if ready.profile_id in seen:
            raise _refused(f"/co_viewers/{place - 1}/profile_id", "names a profile that this beat has already")
        seen.add(ready.profile_id)


def _refused(pointer: str, detail: str) -> InvalidInput:
    return InvalidInput(errors=[{"pointer": pointer, "detail": detail}])


def joined(request: HeartbeatRequest, own: DecidedBeat, others: Sequence[DecidedBeat | HourglassError]) -> DecidedBeat:
    """The beat of the profile itself, with the strictest decision of all that go on watching."""
    watching = [(request.profile_id, own)]
    closings, answers = [own.answer.closes_at], []
    for co_viewer, each in zip(request.co_viewers or (), others, strict=True):
        answers.append(_co_viewer_answer(co_viewer, each))
        if isinstance(each, DecidedBeat) and not co_viewer.has_left:
            watching.append((co_viewer.profile_id, each))
            closings.append(each.answer.closes_at)
    decisions = [each.decision for _, each in watching]
    decision = strictest(
        own.decision, decisions[1:], together_ms=lambda: first_shared_ms([each.playable() for _, each in watching])
    )
    first = deciding(decisions)
    answer = msgspec.structs.replace(
        own.answer,
        enforcement=decision.enforcement,
        reason=decision.reason,
        stop_at=_text(decision.stop_at_ms),
        available_again_at=_text(decision.available_again_ms),
        next_beat_in=decision.next_beat_ms / 1000,
        lease_seconds=decision.lease_ms / 1000,
        co_viewers=answers,
        closes_at=min((at for at in closings if at is not UNSET), default=UNSET),
        decided_by=UNSET if first is None else watching[first][0],
    )
    return own._replace(decision=decision, answer=answer)


def _text(at_ms: int | None) -> str | None:
    return None if at_ms is None else rfc3339(at_ms)


def _co_viewer_answer(co_viewer: CoViewer, decided: DecidedBeat | HourglassError) -> CoViewerAnswer:
    if isinstance(decided, HourglassError):
        metrics.BEAT_OUTCOMES.labels(decided.code).inc()
        return CoViewerAnswer(co_viewer.profile_id, problem=decided.problem())
    answer = decided.answer
    return CoViewerAnswer(
        co_viewer.profile_id,
        session_id=answer.session_id,
        enforcement=answer.enforcement,
        remaining_seconds=answer.remaining_seconds,
        used_seconds=answer.used_seconds,
        stop_at=answer.stop_at,
        next_reset_at=answer.next_reset_at,
        would_be=answer.would_be,
        reason=answer.reason,
        available_again_at=answer.available_again_at,
        borrowed_seconds=answer.borrowed_seconds,
    )
