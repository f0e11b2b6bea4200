"""Tracking of adults never delays or fails their heartbeats, in any state of Redis."""

import random
from collections.abc import Sequence
from typing import Any

import pytest
import structlog

from app.domain.adults import AdultBeat
from app.domain.ids import SessionIds
from app.errors import CountersUnavailable
from app.kit.ttl_cache import TtlCache
from app.viewing.active_sessions import ActiveSessions
from app.viewing.schemas import HeartbeatRequest

REQUEST = HeartbeatRequest(profile_id="adult", title_id="film", device_id="d", device_type="tv")


class Adults:
    """Stores heartbeats in memory per call, or fails on request."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.calls: list[Sequence[AdultBeat]] = []
        self._failure = failure

    async def keep(self, beats: Sequence[AdultBeat]) -> None:
        self.calls.append(beats)
        if self._failure is not None:
            raise self._failure

    async def running(self, profile_ids: Sequence[str]) -> Any:
        raise NotImplementedError


def active_sessions(adults: Adults | None) -> ActiveSessions:
    async def nobody(account_ids: Sequence[str]) -> list[tuple[str, ...]]:
        return [()] * len(account_ids)

    unused: Any = None
    jitter = random.Random(1)  # noqa: S311  no secret
    households = TtlCache(nobody, ttl_ms=1, stale_ms=1, size=1, clock=lambda: 0, jitter=jitter)
    ids = SessionIds(b"secret")
    return ActiveSessions(
        counters=unused, adults=adults, households=households, session_ids=ids, max_gap_ms=300_000, max_batch=3
    )


async def test_beats_of_a_tick_travel_together_and_in_order() -> None:
    adults = Adults()
    tracking = active_sessions(adults)
    for session_id in ("s1", "s2"):
        tracking.beat(REQUEST, session_id)
        tracking.ended("adult", session_id)
    assert adults.calls == [], "nobody waits for it"
    await tracking.drain()
    assert [[(beat.session_id, beat.is_end) for beat in call] for call in adults.calls] == [
        [("s1", False), ("s1", True), ("s2", False)],
        [("s2", True)],
    ]


async def test_who_is_not_tracked_is_kept_nowhere() -> None:
    tracking = active_sessions(None)
    tracking.beat(REQUEST, "s1")
    tracking.ended("adult", "s1")
    await tracking.drain()
    answer = await tracking.streams("account")
    assert (answer.streams, answer.adults_tracked) == ([], False)


@pytest.mark.parametrize(("failure", "level"), [(CountersUnavailable(), "debug"), (ValueError("broken"), "exception")])
async def test_what_cannot_be_kept_is_said_once_a_call_and_forgotten(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, level: str
) -> None:
    log = structlog.testing.CapturingLogger()
    monkeypatch.setattr("app.viewing.active_sessions.log", log)
    adults = Adults(failure)
    tracking = active_sessions(adults)
    for _ in range(3):
        tracking.beat(REQUEST, "s1")
    await tracking.drain()
    assert len(adults.calls) == 1
    assert [(call.method_name, *call.args) for call in log.calls] == [(level, "adult_sessions_not_stored")]


async def test_more_than_may_wait_are_left_out() -> None:
    adults = Adults()
    tracking = active_sessions(adults)
    assert tracking._beats is not None
    tracking._beats._max_waiting = 2
    for session_id in ("s1", "s2", "s3"):
        tracking.beat(REQUEST, session_id)
    await tracking.drain()
    assert [beat.session_id for call in adults.calls for beat in call] == ["s1", "s2"]
