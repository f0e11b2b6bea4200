"""Playback leases over HTTP: who gets one, and keys that rotate."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from pydantic import SecretStr

from app.auth.lease_keys import new_lease_key
from app.auth.tokens import Role
from app.settings.settings import Settings
from tests.scenes.api import Api, running
from tests.scenes.households import registered_at_noon
from tests.unit.test_leases import parts, verified

FIRST, SECOND = new_lease_key(), new_lease_key()


@asynccontextmanager
async def process(settings: Settings, signing: str, others: str = "") -> AsyncIterator[Api]:
    values = {"lease_key": SecretStr(signing), "lease_key_previous": SecretStr(others)}
    async with running(settings.model_copy(update=values)) as api:
        yield api


@pytest.fixture
async def signing(prepared: Settings) -> AsyncIterator[Api]:
    async with process(prepared, FIRST) as api:
        yield api


async def key_set(api: Api) -> httpx.Response:
    return await api.http.get("http://test/.well-known/jwks.json")


async def test_a_heartbeat_that_asks_gets_a_lease_and_no_other(signing: Api) -> None:
    home, title = await registered_at_noon(signing), await signing.add_title()
    child = await home.child()
    opened = (await home.beat(child, title, lease=True)).json()
    claims = verified(signing.services.viewing.leases, opened["playback_lease"])
    assert (claims["sub"], claims["sid"]) == (child, opened["session_id"])
    assert claims["exp"] - claims["iat"] == 300
    session = opened["session_id"]
    assert "playback_lease" not in (await home.beat(child, title, session_id=session)).json()
    assert "playback_lease" not in (await home.beat(child, title, session_id=session, lease=False)).json()
    again = (await home.beat(child, title, session_id=session, lease=True)).json()
    assert again["playback_lease"] == opened["playback_lease"]


async def test_an_answer_with_a_lease_is_otherwise_the_same(signing: Api) -> None:
    home, title = await registered_at_noon(signing), await signing.add_title()
    child = await home.child()
    session = (await home.beat(child, title)).json()["session_id"]
    plain = (await home.beat(child, title, session_id=session)).json()
    asked = (await home.beat(child, title, session_id=session, lease=True)).json()
    assert set(asked) - set(plain) == {"playback_lease"}
    moving = {"server_time", "used_seconds", "used_minutes", "remaining_seconds", "remaining_minutes", "next_beat_in"}
    same = set(plain) - moving - {"stop_at"}
    assert {name: asked[name] for name in same} == {name: plain[name] for name in same}


async def test_an_adult_gets_a_lease(signing: Api) -> None:
    home, title = await registered_at_noon(signing), await signing.add_title()
    adult = await home.adult()
    answer = (await home.beat(adult, title, lease=True)).json()
    assert parts(answer["playback_lease"])[1]["sub"] == adult
    assert "playback_lease" not in (await home.beat(adult, title)).json()


async def test_a_child_without_time_gets_null(signing: Api) -> None:
    home, title = await registered_at_noon(signing), await signing.add_title()
    child = await home.child()
    assert (await home.set_limits(child, **limits(15))).status_code == 200
    session = (await home.beat(child, title, lease=True)).json()["session_id"]
    counters, at_ms = signing.services.counters, signing.services.clock()
    for minutes in (4, 8, 12, 16):
        counters.at_ms = at_ms + minutes * 60_000
        answer = (await home.beat(child, title, session_id=session, lease=True)).json()
        is_blocked = minutes > 15
        assert (answer["enforcement"] == "blocked") is is_blocked
        assert (answer["playback_lease"] is None) is is_blocked


async def test_each_heartbeat_of_a_batch_gets_what_it_asked_for(signing: Api) -> None:
    home, title = await registered_at_noon(signing), await signing.add_title()
    children = [await home.child(name=name) for name in ("Kim", "Kit", "Kai")]
    beats = [
        {"profile_id": child, "title_id": title, "device_id": f"tv-{child}", "lease": asks}
        for child, asks in zip(children, (True, False, True), strict=True)
    ]
    answer = await signing.http.post(
        "/viewing-time/heartbeats", json={"beats": beats}, headers=signing.as_role("gateway", Role.SERVICE)
    )
    results = answer.json()["results"]
    assert [parts(each["playback_lease"])[1]["sub"] for each in results[::2]] == children[::2]
    assert "playback_lease" not in results[1]


async def test_without_a_key_a_heartbeat_that_asks_gets_null(api: Api) -> None:
    home, title = await registered_at_noon(api), await api.add_title()
    answer = await home.beat(await home.child(), title, lease=True)
    assert (answer.status_code, answer.json()["playback_lease"]) == (200, None)
    assert (await key_set(api)).json() == {"keys": []}


@pytest.mark.parametrize("value", ["yes", 1, None, {}])
async def test_lease_is_true_or_false(api: Api, value: Any) -> None:
    home, title = await registered_at_noon(api), await api.add_title()
    answer = await home.beat(await home.child(), title, lease=value)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == "/lease"


async def test_verifiers_may_keep_the_key_set_for_five_minutes(signing: Api) -> None:
    answer = await key_set(signing)
    assert answer.headers["Cache-Control"] == "public, max-age=300"
    assert [key["alg"] for key in answer.json()["keys"]] == ["ES256"]
    assert "PRIVATE" not in answer.text
    assert "d" not in answer.json()["keys"][0]


async def test_no_lease_is_refused_while_keys_rotate(prepared: Settings) -> None:
    """A verifier with a key set that is as old as it may be knows the key of each lease that is still valid."""
    steps = [(FIRST, ""), (FIRST, SECOND), (SECOND, FIRST), (SECOND, "")]
    leases, sets = [], []
    for signing_key, others in steps:
        async with process(prepared, signing_key, others) as api:
            home, title = await registered_at_noon(api), await api.add_title()
            answer = await home.beat(await home.child(), title, lease=True)
            leases.append(parts(answer.json()["playback_lease"])[0]["kid"])
            sets.append({key["kid"] for key in (await key_set(api)).json()["keys"]})
    for step in range(len(steps)):
        for seen in (step - 1, step):  # what a verifier fetched in the step before, or in this one
            if seen >= 0:
                assert leases[step] in sets[seen]
        if step:
            assert leases[step - 1] in sets[step]  # a lease of the step before still holds


def limits(minutes: int) -> dict[str, Any]:
    return {"weekday_limit_minutes": minutes, "weekend_limit_minutes": minutes}
