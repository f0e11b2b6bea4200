"""What accounts play at the moment, for the platform.

Children are seen by their counters. Adults' sessions are kept only where they are tracked, and never at an adult's
expense: nobody waits for it, and a beat that cannot be kept now is made up for by the next.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from app.cache import TimedCache
from app.coalesce import Coalescer, Overloaded
from app.domain.accounting import Live
from app.domain.adults import AdultBeat, AdultSession
from app.domain.ids import SessionIds
from app.errors import CountersUnavailable
from app.instants import rfc3339
from app.viewing.ports import AdultSessions, Counters
from app.viewing.schemas import HeartbeatRequest, Stream, StreamsAnswer

_CALLS_IN_FLIGHT = 1  # so that the end of a session does not overtake its last beat

log = structlog.get_logger(__name__)


class Concurrency:
    """Keeps adults' running sessions, and shows everybody's.

    Args:
        adults: where adults' sessions are kept; None where they are not tracked.
        max_gap_ms: how long after its last beat a session has ended.
        max_batch: adults' beats in one call.
    """

    def __init__(
        self,
        *,
        counters: Counters,
        adults: AdultSessions | None,
        households: TimedCache[str, tuple[str, ...]],
        session_ids: SessionIds,
        max_gap_ms: int,
        max_batch: int,
    ) -> None:
        self._counters = counters
        self._adults = adults
        self._households = households
        self._session_ids = session_ids
        self._max_gap_ms = max_gap_ms
        self._beats: Coalescer[AdultBeat, None] | None = None
        if adults is not None:
            self._beats = Coalescer(partial(_kept, adults), max_batch=max_batch, max_in_flight=_CALLS_IN_FLIGHT)

    def beat(self, request: HeartbeatRequest, session_id: str) -> None:
        """An adult's session beats."""
        if self._beats is not None:
            _hand_over(self._beats, AdultBeat(request.profile_id, session_id, request.title_id, request.device_type))

    def ended(self, profile_id: str, session_id: str) -> None:
        """An adult's session has ended."""
        if self._beats is not None:
            _hand_over(self._beats, AdultBeat(profile_id, session_id, is_end=True))

    async def streams(self, account_id: str) -> StreamsAnswer:
        """The running sessions of an account, none for one that is unknown.

        Raises:
            CountersUnavailable, DatabaseUnavailable: it is not known now.
        """
        profile_ids = await self._households.get(account_id)
        streams = [*await self._children(profile_ids), *await self._grown_ups(profile_ids)] if profile_ids else []
        streams.sort(key=lambda stream: (stream.started_at, stream.session_id))
        return StreamsAnswer(account_id, streams, adults_tracked=self._adults is not None)

    async def drain(self) -> None:
        """Wait for what is in flight."""
        if self._beats is not None:
            await self._beats.drain()

    async def _children(self, profile_ids: Sequence[str]) -> list[Stream]:
        found = zip(profile_ids, await self._counters.read(profile_ids), strict=True)
        return [
            _stream(profile_id, live, is_kids=True, started_ms=live.session_started_ms)
            for profile_id, (at_ms, live) in found
            if live is not None and self._is_running(live, at_ms)
        ]

    async def _grown_ups(self, profile_ids: Sequence[str]) -> list[Stream]:
        if self._adults is None:
            return []
        found = zip(profile_ids, await self._adults.running(profile_ids), strict=True)
        return [self._of_adult(profile_id, session) for profile_id, sessions in found for session in sessions]

    def _is_running(self, live: Live, at_ms: int) -> bool:
        return live.session_id != "" and not live.is_over(at_ms, self._max_gap_ms)

    def _of_adult(self, profile_id: str, session: AdultSession) -> Stream:
        issued_ms = self._session_ids.issued_ms(profile_id, session.session_id)
        return _stream(profile_id, session, is_kids=False, started_ms=issued_ms or session.last_beat_ms)


def _stream(profile_id: str, session: Live | AdultSession, *, is_kids: bool, started_ms: int) -> Stream:
    return Stream(
        session_id=session.session_id,
        profile_id=profile_id,
        is_kids=is_kids,
        title_id=session.title_id,
        device_type=session.device_type,
        started_at=rfc3339(started_ms),
        last_beat_at=rfc3339(session.last_beat_ms),
    )


def _hand_over(beats: Coalescer[AdultBeat, None], beat: AdultBeat) -> None:
    with suppress(Overloaded):
        beats.enqueue(beat, _nobody_waits)


def _nobody_waits(_: None, __: BaseException | None) -> None:
    """Where a beat was kept, or was not."""


async def _kept(adults: AdultSessions, beats: Sequence[AdultBeat]) -> Sequence[None]:
    try:
        await adults.keep(beats)
    except CountersUnavailable as error:
        log.debug("adults_not_kept", reason=error.code)
    except Exception:
        log.exception("adults_not_kept")
    return [None] * len(beats)
