"""Real heartbeats, flushed by the worker: each session that ends is told once, with the time that history shows."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import delete

from app.auth.tokens import Role
from app.clock import now_ms
from app.embedded.valkey import Valkey
from app.postgres_store import tables
from app.postgres_store.partitions import make_partitions
from app.wiring.worker import WorkerServices, open_worker
from tests.api.conftest import api_settings
from tests.scenes.api import Api, SetClock, opened
from tests.scenes.households import registered


@pytest.fixture
def clock() -> SetClock:
    """The present: what a test beats is dated by the server's own clock."""
    return SetClock(now_ms())


@pytest.fixture
async def fed(database_url: str, valkey: Valkey, clock: SetClock) -> AsyncIterator[Api]:
    async with opened(api_settings(database_url, valkey, event_feed=True), clock) as api:
        await api.services.redis.flushall()
        await make_partitions(api.services.engine, at_ms=clock())
        async with api.services.engine.begin() as database:
            await database.execute(delete(tables.feed_events))
        titles = [{"id": name, "name": name, "is_educational": False} for name in ("one", "two")]
        answer = await api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=titles)
        assert answer.status_code == 200
        yield api


@pytest.fixture
async def worker(fed: Api) -> AsyncIterator[WorkerServices]:
    async with open_worker(fed.services.settings, clock=fed.clock) as services:
        yield services


async def _events(api: Api) -> list[dict[str, Any]]:
    answer = await api.signed_in("platform", Role.SERVICE).get("/platform/events", params={"limit": 1000})
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["events"]
    return found


async def test_ends_of_every_sort_are_told_once(fed: Api, worker: WorkerServices) -> None:
    family = await registered(fed)
    child = await family.child()

    async def beat(title: str, device: str, session: str | None = None) -> str:
        body = {"profile_id": child, "title_id": title, "device_id": device, "session_id": session}
        body = {name: value for name, value in body.items() if value is not None}
        answer = await family.player.post("/viewing-time/heartbeat", json=body)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["session_id"])

    first = await beat("one", "tv")
    await beat("one", "tv", first)
    await worker.flusher.drain()
    second = await beat("two", "tv", first)  # another title
    third = await beat("two", "phone")  # another device takes over
    await worker.flusher.drain()
    ended = await family.player.post(f"/viewing-time/session/{third}/end", json={})
    assert ended.status_code == 200, ended.text
    for _ in range(2):
        await worker.flusher.drain()
    running = await beat("one", "tv")
    await worker.flusher.drain()
    told = [event for event in await _events(fed) if event["type"] == "hourglass.session.ended"]
    assert [event["data"]["session_id"] for event in told] == [first, second, third]
    assert {event["data"]["fell_silent"] for event in told} == {False}
    fed.clock.at_ms += 20 * 60_000
    await worker.flusher.cycle(age_ms=0)
    await worker.close_usage()
    *_, silent = (event for event in await _events(fed) if event["type"] == "hourglass.session.ended")
    assert (silent["data"]["session_id"], silent["data"]["fell_silent"]) == (running, True)
    history = await family.parent.get(f"/parental-controls/profiles/{child}/history")
    shown = {
        session["session_id"]: session["total_seconds"] for day in history.json()["days"] for session in day["sessions"]
    }
    events = [event["data"] for event in await _events(fed) if event["type"] == "hourglass.session.ended"]
    assert {data["session_id"]: data["total_seconds"] for data in events} == pytest.approx(shown)
    assert len(events) == len(shown) == 4
