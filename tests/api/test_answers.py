"""Common properties of answers: server time, format of instants, Location headers, conditional requests."""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from app.clock import now_ms
from app.timestamps import ms_of
from tests.scenes.api import NOON, Api
from tests.scenes.households import PASSWORD, Household, registered

SPELT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
LOOKS_LIKE_AN_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT")


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for member in value.values():
            yield from _texts(member)
    elif isinstance(value, list):
        for member in value:
            yield from _texts(member)


async def _answers(home: Household, child: str) -> dict[str, Any]:
    """An answer of each kind about a child."""
    controls = f"/parental-controls/profiles/{child}"
    body = {"new_pin": "4711", "password": PASSWORD}
    assert (await home.player.post("/parental-controls/pin", json=body)).status_code == 200
    sync = {"profile_id": child, "device_id": "tv", "batch_id": "1", "intervals": []}
    at = {"device_now": "2026-03-02T12:00:00Z", "last_server_time": "2026-03-02T12:00:00Z"}
    calls = {
        "balance": await home.player.get(f"/viewing-time/balance/{child}"),
        "eligibility": await home.player.get(f"/viewing-time/playback-eligible/{child}"),
        "why": await home.parent.get(f"/viewing-time/why/{child}"),
        "offline sync": await home.player.post("/viewing-time/offline-sync", json=sync | at),
        "config": await home.parent.get(f"{controls}/viewing-time"),
        "grant": await home.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15}),
        "grants": await home.parent.get(f"{controls}/grants"),
        "request": await home.player.post(f"{controls}/requests", json={"minutes": 15}),
        "requests": await home.player.get(f"{controls}/requests"),
        "device": await home.player.post("/auth/devices", json={"name": "phone", "pin": "4711"}),
        "devices": await home.parent.get("/auth/devices"),
        "history": await home.parent.get(f"{controls}/history"),
        "report": await home.parent.get("/parental-controls/weekly-report"),
        "preview": await home.parent.post(f"{controls}/viewing-time/preview", json={}),
        "export": await home.parent.get(f"{controls}/export"),
    }
    return {name: answer.json() for name, answer in calls.items()}


async def test_instants_are_spelt_in_one_way(api: Api) -> None:
    home = await registered(api)
    answers = await _answers(home, await home.child())
    instants = {text for text in _texts(answers) if LOOKS_LIKE_AN_INSTANT.match(text)}
    assert len(instants) > 5
    assert [text for text in instants if not SPELT.fullmatch(text)] == []


DECIDED = ["balance", "eligibility", "why", "offline sync"]


async def test_answers_about_a_child_tell_the_servers_time(api: Api) -> None:
    home = await registered(api)
    before_ms = now_ms()
    answers = await _answers(home, await home.child())
    after_ms = now_ms()
    for name in [*DECIDED, "config", "grant", "grants", "requests"]:
        assert SPELT.fullmatch(answers[name]["server_time"]), name
    for name in DECIDED:  # by the clock that counts, which no test moves here
        assert before_ms <= _ms(answers[name]["server_time"]) <= after_ms, name
        assert "next_reset_at" in answers[name] | answers[name].get("balance", {})
    for name in ("config", "grant", "grants", "requests"):
        assert _ms(answers[name]["server_time"]) == NOON


async def test_adults_are_told_the_servers_time_too(api: Api) -> None:
    home = await registered(api)
    adult = await home.child(is_kids=False)
    for path in ("balance", "playback-eligible"):
        answer = (await home.player.get(f"/viewing-time/{path}/{adult}")).json()
        assert (answer["next_reset_at"], _ms(answer["server_time"])) == (None, NOON)


def _ms(text: str) -> int:
    return ms_of(datetime.fromisoformat(text))


async def test_what_was_made_says_where_it_is(api: Api) -> None:
    home = await registered(api)
    child = await home.child()
    controls = f"/parental-controls/profiles/{child}"
    body = {"new_pin": "4711", "password": PASSWORD}
    await home.player.post("/parental-controls/pin", json=body)
    profile = await home.parent.post("/profiles", json={"name": "Kim", "is_kids": False})
    assert profile.headers["Location"] == f"/api/v1/profiles/{profile.json()['id']}"
    assert (await home.parent.delete(f"http://test{profile.headers['Location']}")).status_code == 200
    device = await home.player.post("/auth/devices", json={"name": "phone", "pin": "4711"})
    assert (await home.parent.delete(f"http://test{device.headers['Location']}")).status_code == 204
    grant = await home.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15})
    assert (await home.parent.delete(f"http://test{grant.headers['Location']}")).status_code == 200
    asked = await home.player.post(f"{controls}/requests", json={"minutes": 15})
    assert (await home.parent.post(f"http://test{asked.headers['Location']}/deny")).status_code == 200


async def test_what_the_client_has_is_not_sent_again(api: Api) -> None:
    home = await registered(api)
    path = f"/parental-controls/profiles/{await home.child()}/viewing-time"
    first = await home.parent.get(path)
    for field in (first.headers["ETag"], f'"x", W/{first.headers["ETag"]}', "*"):
        known = await home.parent.get(path, headers={"If-None-Match": field})
        assert (known.status_code, known.content, known.headers["ETag"]) == (304, b"", first.headers["ETag"])
    assert (await home.parent.get(path, headers={"If-None-Match": '"x"'})).status_code == 200
    changed = await home.parent.put(path, json={"reset_hour": 4}, headers={"If-Match": first.headers["ETag"]})
    assert (await home.parent.get(path, headers={"If-None-Match": first.headers["ETag"]})).status_code == 200
    pending = changed.headers["ETag"]
    assert (await home.parent.get(path, headers={"If-None-Match": pending})).status_code == 304
    api.clock.at_ms += 86_400_000
    acts = await home.parent.get(path, headers={"If-None-Match": pending})
    assert (acts.status_code, acts.json()["pending_change"]) == (200, None), "the same version, another answer"
    again = await home.parent.put(path, json={"reset_hour": 5}, headers={"If-Match": pending})
    assert again.status_code == 200, "it has seen this version"


@pytest.mark.parametrize("field", ["", "x", '"', '"\\'])
async def test_a_broken_if_none_match_is_ignored(api: Api, field: str) -> None:
    home = await registered(api)
    path = f"/parental-controls/profiles/{await home.child()}/viewing-time"
    assert (await home.parent.get(path, headers={"If-None-Match": field})).status_code == 200
