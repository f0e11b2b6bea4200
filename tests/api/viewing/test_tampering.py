"""Hints of tampering from heartbeats with positions, in `why`, in history and in the feed."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
from prometheus_client import REGISTRY

from app.auth.tokens import Role
from app.errors import DatabaseUnavailable
from app.settings.settings import Settings
from app.wiring.worker import open_worker
from tests.scenes.api import Api, running
from tests.scenes.households import Household, registered_at_noon

PAUSED = "paused_while_moving"


@pytest.fixture
async def fed(prepared: Settings) -> AsyncIterator[Api]:
    async with running(prepared.model_copy(update={"event_feed": True})) as api:
        api.services.counters.at_ms = api.services.clock()
        yield api


async def cheat(api: Api, home: Household, child: str, title: str, *, beats: int = 12, **fields: Any) -> str:
    """Play for some minutes, saying paused all the time; the session."""
    session = None
    for place in range(beats):
        body = {"is_paused": True, "position_seconds": 30.0 * place, "session_id": session} | fields
        answer = await home.beat(child, title, on=api, **body)
        assert answer.status_code == 200, answer.text
        session = answer.json()["session_id"]
        await api.services.viewing.service.drain()
        api.services.counters.at_ms += 30_000
    return str(session)


async def why(api: Api, home: Household, child: str) -> dict[str, Any]:
    answer = await api.http.get(f"/viewing-time/why/{child}", headers=home.as_parent)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def history(api: Api, home: Household, child: str) -> list[dict[str, Any]]:
    path = f"/parental-controls/profiles/{child}/history"
    answer = await api.http.get(path, headers=home.as_parent)
    assert answer.status_code == 200, answer.text
    return [hint for day in answer.json()["days"] for hint in day["tamper_hints"]]


def counted(kind: str = PAUSED) -> float:
    return REGISTRY.get_sample_value("hourglass_tamper_hints_total", {"kind": kind}) or 0.0


async def flush(settings: Settings) -> None:
    async with open_worker(settings) as worker:
        await worker.flusher.drain()


async def test_a_cheat_is_told_once_in_why_history_feed_and_metric(fed: Api, prepared: Settings) -> None:
    home, title, before = await registered_at_noon(fed), await fed.add_title(), counted()
    child = await home.child()
    session = await cheat(fed, home, child, title)
    [hint] = (told := await why(fed, home, child))["tamper_hints"]
    assert (hint["kind"], hint["session_id"], hint["device_id"]) == (PAUSED, session, "tv-1")
    assert any(hint["text"] in sentence for sentence in told["sentences"])
    await flush(prepared)
    assert await history(fed, home, child) == [hint]
    events = (await fed.http.get("/platform/events?limit=5000", headers=fed.as_role("p", Role.SERVICE))).json()[
        "events"
    ]
    mine = [event["data"] for event in events if event["subject"] == child and event["type"].endswith("suspected")]
    assert [(data["reason"], data["penalty_seconds"]) for data in mine] == [(PAUSED, 0.0)]
    assert counted() == before + 1


async def test_a_hint_changes_no_decision_and_no_count(fed: Api) -> None:
    home, title = await registered_at_noon(fed), await fed.add_title()
    cheats, honest = await home.child(), await home.child()
    await cheat(fed, home, cheats, title)
    await cheat(fed, home, honest, title, position_seconds=None)
    balances = [
        (await fed.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)).json()
        for child in (cheats, honest)
    ]
    assert balances[0]["used_seconds"] == balances[1]["used_seconds"]
    assert balances[0]["enforcement"] == balances[1]["enforcement"]


async def test_without_positions_nothing_is_remembered(fed: Api) -> None:
    home, title = await registered_at_noon(fed), await fed.add_title()
    child = await home.child()
    await cheat(fed, home, child, title, position_seconds=None)
    assert not await fed.services.redis.exists(fed.services.counters._keys.position(child))
    assert (await why(fed, home, child))["tamper_hints"] == []


async def test_a_hint_is_kept_when_postgresql_is_back(fed: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    home, title = await registered_at_noon(fed), await fed.add_title()
    child = await home.child()
    watch = fed.services.viewing.service._tampering
    add, calls = watch._hints.add, []

    async def away(hints: Any) -> None:
        calls.append(hints)
        if len(calls) == 1:
            raise DatabaseUnavailable
        await add(hints)

    monkeypatch.setattr(watch._hints, "add", away)
    await cheat(fed, home, child, title)
    assert len(calls) == 2
    assert len((await why(fed, home, child))["tamper_hints"]) == 1


async def test_an_erasure_removes_hints_and_positions(fed: Api) -> None:
    home, title = await registered_at_noon(fed), await fed.add_title()
    child = await home.child()
    await cheat(fed, home, child, title)
    exported = await fed.http.get(f"/parental-controls/profiles/{child}/export", headers=home.as_parent)
    assert PAUSED in exported.text
    erased = await fed.http.delete(f"/profiles/{child}", headers=home.as_parent)
    assert erased.status_code == 200, erased.text
    assert erased.json()["counts"]["tamper_hints"] == 1
    assert not await fed.services.redis.exists(fed.services.counters._keys.position(child))


@pytest.mark.parametrize("position", [-0.001, 1e11, "12", [], True])
async def test_what_is_no_position_is_refused(api: Api, position: Any) -> None:
    home, title = await registered_at_noon(api), await api.add_title()
    answer = await home.beat(await home.child(), title, position_seconds=position)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/position_seconds"
