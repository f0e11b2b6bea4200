"""Recent events are small, resumable, ordered, and the same in every Redis."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.redis_store.events import LIFE_MS, RedisEvents
from app.redis_store.keys import INVALIDATE, Keys
from tests.fakes import client_of

START_MS = 1_772_452_800_000
KEYS = Keys(64)
BLOCKED = {"next_reset_at": "2026-03-03T05:00:00.000Z"}
MAX_MEMORY = 300


@pytest.fixture(params=["fakeredis", "valkey", "redis7", "cluster"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    client = client_of(request)
    yield client
    await client.aclose()


@pytest.fixture(params=["valkey", "redis7"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    client = client_of(request)
    yield client
    await client.aclose()


def superseded() -> dict[str, object]:
    return {"session_id": str(uuid4()), "by": {"device_type": "tablet"}}


async def _kinds(events: RedisEvents, child: str, event_id: str) -> list[str]:
    return [event.kind for event in (await events.after(child, event_id)).events]


async def test_events_come_back_in_order_with_their_facts(redis: Any) -> None:
    events, child, facts = RedisEvents(redis, KEYS), str(uuid4()), superseded()
    start = await events.latest_id(child)
    await events.add(child, "blocked", BLOCKED, at_ms=0)
    await events.add(child, "session_superseded", facts, at_ms=0)
    await events.add(child, "a_kind_of_tomorrow", {"note": "Grüße \U0001f319"}, at_ms=0)
    recent = await events.after(child, start)
    assert recent.is_complete
    assert [(event.kind, json.loads(event.facts)) for event in recent.events] == [
        ("blocked", BLOCKED),
        ("session_superseded", facts),
        ("a_kind_of_tomorrow", {"note": "Grüße \U0001f319"}),
    ]
    assert await _kinds(events, child, recent.events[0].id) == ["session_superseded", "a_kind_of_tomorrow"]
    assert await events.latest_id(child) == recent.events[-1].id


async def test_who_waits_is_woken(redis: Any) -> None:
    events, child = RedisEvents(redis, KEYS), str(uuid4())
    async with redis.pubsub() as pubsub, asyncio.timeout(10):
        await pubsub.subscribe(INVALIDATE)
        await pubsub.get_message(timeout=5)
        await events.add(child, "blocked", BLOCKED, at_ms=0)
        # Other tests publish on the same servers: only this child's message counts.
        while ((await pubsub.get_message(timeout=5)) or {}).get("data") != f"event:{child}".encode():
            pass


@pytest.mark.parametrize("kind", ["blocked", "session_superseded", "viewing_time_updated", "request_answered"])
async def test_one_event_keeps_less_than_300_bytes(server: Any, kind: str) -> None:
    facts: dict[str, dict[str, object]] = {
        "blocked": dict(BLOCKED),
        "session_superseded": superseded(),
        "viewing_time_updated": {},
        "request_answered": {"request_id": str(uuid4()), "status": "approved", "grant_id": str(uuid4()), "minutes": 30},
    }
    events, child = RedisEvents(server, KEYS), str(uuid4())
    await events.add(child, kind, facts[kind], at_ms=0)
    assert await server.memory_usage(KEYS.events(child)) <= MAX_MEMORY
    assert 0 < await server.pttl(KEYS.events(child)) <= LIFE_MS


async def test_an_evening_of_events_keeps_no_more(server: Any) -> None:
    events, child = RedisEvents(server, KEYS), str(uuid4())
    for _ in range(50):
        for kind, facts in (("blocked", BLOCKED), ("session_superseded", superseded()), ("viewing_time_updated", {})):
            await events.add(child, kind, facts, at_ms=0)
            assert await server.memory_usage(KEYS.events(child)) <= MAX_MEMORY


@given(kinds=st.lists(st.sampled_from(["blocked", "viewing_time_updated", "session_superseded"]), max_size=12))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_what_is_missing_is_said(redis: Any, kinds: list[str]) -> None:
    """From any id on: either all that changes something comes back, in order, or the answer says that it may not."""
    events, child = RedisEvents(redis, KEYS, at_ms=START_MS), str(uuid4())
    cursors = [await events.latest_id(child)]
    told: list[tuple[str, str]] = []
    for number, kind in enumerate(kinds):
        events.at_ms = START_MS + number // 3
        facts = {} if kind == "viewing_time_updated" else superseded() | {"number": number}
        await events.add(child, kind, facts, at_ms=0)
        cursors.append(await events.latest_id(child))
        told.append((kind, json.dumps(facts, separators=(",", ":"))))
    for place, cursor in enumerate(cursors):
        recent = await events.after(child, cursor)
        found = [(event.kind, event.facts.decode()) for event in recent.events]
        expected = told[place:]
        latest_update = max((at for at, (kind, _) in enumerate(expected) if kind == "viewing_time_updated"), default=-1)
        needed = [e for at, e in enumerate(expected) if e[0] != "viewing_time_updated" or at == latest_update]
        assert found == (needed if recent.is_complete else needed[len(needed) - len(found) :])
    assert len(cursors) == 1 or (await events.after(child, cursors[-2])).is_complete, "the last one is never missing"


async def test_an_hour_later_nobody_can_say_what_came_between(redis: Any) -> None:
    events, child = RedisEvents(redis, KEYS, at_ms=START_MS), str(uuid4())
    cursor = f"{START_MS}-0"
    assert (await events.after(child, cursor)).is_complete
    events.at_ms = START_MS + LIFE_MS + 1
    assert not (await events.after(child, cursor)).is_complete
    await events.add(child, "blocked", BLOCKED, at_ms=0)
    assert not (await events.after(child, cursor)).is_complete, "nor when the next event has come"
    assert (await events.after(child, f"{START_MS + 2}-0")).is_complete


async def test_ids_rise_when_the_clock_falls(redis: Any) -> None:
    events, child = RedisEvents(redis, KEYS, at_ms=START_MS), str(uuid4())
    await events.add(child, "blocked", BLOCKED, at_ms=0)
    before = await events.latest_id(child)
    events.at_ms = START_MS - 3 * 3_600_000
    await events.add(child, "blocked", BLOCKED, at_ms=0)
    assert await _kinds(events, child, before) == ["blocked"]
    await redis.delete(KEYS.events(child))
    await events.add(child, "session_superseded", superseded(), at_ms=0)
    assert await _kinds(events, child, before) == ["session_superseded"], "an open stream hears of it all the same"
