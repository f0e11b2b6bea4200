"""The running sessions of an account, for the platform.

A child's session is read from its counters. Adults' sessions are stored only if they are tracked. An adult's beat never
waits for that: a beat that cannot be stored now is replaced by the next one.
"""

from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import structlog

from app.domain.adults import AdultBeat, AdultSession
from app.domain.counters import Counters
from app.domain.ids import SessionIds
from app.errors import CountersUnavailable
from app.kit.batching import Batcher, Overloaded
from app.kit.ttl_cache import TtlCache
from app.timestamps import rfc3339
from app.viewing.ports import AdultSessions, CounterStore
from app.viewing.schemas import HeartbeatRequest, Stream, StreamsAnswer

_CALLS_IN_FLIGHT = 1  # so that the end of a session does not overtake its last beat

log = structlog.get_logger(__name__)


class ActiveSessions:
    """Stores adults' running sessions, and lists those of children and adults.

    Args:
        adults: the store of adults' sessions; None if they are not tracked.
        max_gap_ms: the silence after which a session has ended.
        max_batch: most beats of adults in one call.
    """

    def __init__(
        self,
        *,
        counters: CounterStore,
        adults: AdultSessions | None,
        households: TtlCache[str, tuple[str, ...]],
        session_ids: SessionIds,
        max_gap_ms: int,
        max_batch: int,
    ) -> None:
        self._counters = counters
        self._adults = adults
        self._households = households
        self._session_ids = session_ids
        self._max_gap_ms = max_gap_ms
        self._beats: Batcher[AdultBeat, None] | None = None
        if adults is not None:
            self._beats = Batcher(partial(_kept, adults), max_batch=max_batch, max_in_flight=_CALLS_IN_FLIGHT)

    def beat(self, request: HeartbeatRequest, session_id: str) -> None:
        """Store the beat of an adult's session."""
        if self._beats is not None:
            _hand_over(self._beats, AdultBeat(request.profile_id, session_id, request.title_id, request.device_type))

    def ended(self, profile_id: str, session_id: str) -> None:
        """Remove an adult's session that has ended."""
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
            _stream(profile_id, counters, is_kids=True, started_ms=counters.session_started_ms)
            for profile_id, (at_ms, counters) in found
            if counters is not None and self._is_running(counters, at_ms)
        ]

    async def _grown_ups(self, profile_ids: Sequence[str]) -> list[Stream]:
        if self._adults is None:
            return []
        found = zip(profile_ids, await self._adults.running(profile_ids), strict=True)
        return [self._of_adult(profile_id, session) for profile_id, sessions in found for session in sessions]

    def _is_running(self, counters: Counters, at_ms: int) -> bool:
        return counters.session_id != "" and not counters.is_over(at_ms, self._max_gap_ms)

    def _of_adult(self, profile_id: str, session: AdultSession) -> Stream:
        issued_ms = self._session_ids.issued_ms(profile_id, session.session_id)
        return _stream(profile_id, session, is_kids=False, started_ms=issued_ms or session.last_beat_ms)


def _stream(profile_id: str, session: Counters | AdultSession, *, is_kids: bool, started_ms: int) -> Stream:
    return Stream(
        session_id=session.session_id,
        profile_id=profile_id,
        is_kids=is_kids,
        title_id=session.title_id,
        device_type=session.device_type,
        started_at=rfc3339(started_ms),
        last_beat_at=rfc3339(session.last_beat_ms),
    )


def _hand_over(beats: Batcher[AdultBeat, None], beat: AdultBeat) -> None:
    with suppress(Overloaded):
        beats.enqueue(beat, _nobody_waits)


def _nobody_waits(_: None, __: BaseException | None) -> None:
    """The callback of a beat whose result is not needed."""


async def _kept(adults: AdultSessions, beats: Sequence[AdultBeat]) -> Sequence[None]:
    try:
        await adults.keep(beats)
    except CountersUnavailable as error:
        log.debug("adult_sessions_not_stored", reason=error.code)
    except Exception:
        log.exception("adult_sessions_not_stored")
    return [None] * len(beats)
