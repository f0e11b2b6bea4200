"""Gateway batches with heartbeats of many players."""

import json
from typing import Any

from app.auth.tokens import Role
from tests.scenes.api import Api
from tests.scenes.households import registered_at_noon


def beat(profile_id: str, title_id: str, **fields: Any) -> dict[str, Any]:
    return {"profile_id": profile_id, "title_id": title_id, "device_id": "d"} | fields


async def test_one_bad_beat_spoils_nothing(api: Api) -> None:
    home, others = await registered_at_noon(api), await registered_at_noon(api)
    title = await api.add_title()
    first, second, foreign = await home.child(), await others.child(), "nobody"
    beats = [
        beat(first, title),
        beat(foreign, title),
        {"profile_id": first},
        beat(second, title),
        beat(first, "unknown-title"),
        beat("00000000-0000-4000-8000-000000000000", title),
        17,
        beat(second, "a\x07bell"),
    ]
    gateway = api.as_role("gateway", Role.SERVICE)
    answer = await api.http.post("/viewing-time/heartbeats", json={"beats": beats}, headers=gateway)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [result.get("enforcement") or result["code"] for result in results] == [
        "allowed",
        "profile_access_denied",
        "invalid_input",
        "allowed",
        "title_unknown",
        "profile_access_denied",
        "invalid_input",
        "invalid_input",
    ]
    again = [beat(first, title, session_id=results[0]["session_id"])] * 3
    ndjson = "\n".join(json.dumps(line) for line in again).encode()
    answer = await api.http.post(
        "/viewing-time/heartbeats", content=ndjson, headers=gateway | {"Content-Type": "Application/X-NDJSON"}
    )
    used = [result["used_seconds"] for result in answer.json()["results"]]
    assert used == sorted(used)
    assert used[0] > 0


async def test_more_beats_than_one_call_takes_are_answered_in_order(api: Api) -> None:
    home, title = await registered_at_noon(api), await api.add_title()
    children = [await home.child() for _ in range(3)]
    opened = [(await home.beat(child, title)).json()["session_id"] for child in children]
    most = api.services.viewing.service._recorder.max_batch
    beats = [beat(children[turn % 3], title, session_id=opened[turn % 3]) for turn in range(2 * most + 1)]
    beats[most] = beat(children[most % 3], "unheard-of")
    answer = await api.http.post("/viewing-time/heartbeats", json={"beats": beats}, headers=home.as_player)
    results = answer.json()["results"]
    assert results.pop(most)["code"] == "title_unknown"
    del beats[most]
    assert [result["session_id"] for result in results] == [sent["session_id"] for sent in beats]


async def test_a_household_speaks_for_its_own_children_only(api: Api) -> None:
    home, others = await registered_at_noon(api), await registered_at_noon(api)
    title = await api.add_title()
    own, foreign = await home.child(), await others.child()
    beats = {"beats": [beat(own, title), beat(foreign, title)]}
    answer = await api.http.post("/viewing-time/heartbeats", json=beats, headers=home.as_player)
    assert [result.get("code") for result in answer.json()["results"]] == [None, "profile_access_denied"]


async def test_a_batch_has_an_end(api: Api) -> None:
    gateway = api.as_role("gateway", Role.SERVICE)
    for content, media_type in (
        (json.dumps({"beats": [{}] * 1001}), "application/json"),
        ("{}\n" * 1001, "application/x-ndjson"),
    ):
        answer = await api.http.post(
            "/viewing-time/heartbeats", content=content, headers=gateway | {"Content-Type": media_type}
        )
        assert answer.status_code == 422
    assert (await api.http.post("/viewing-time/heartbeats", json=[], headers=gateway)).status_code == 422
    assert (await api.http.post("/viewing-time/heartbeats", content=b"{", headers=gateway)).status_code == 400


async def test_beats_of_one_child_act_in_their_order_whatever_must_be_loaded(api: Api) -> None:
    home = await registered_at_noon(api)
    known, unknown = await api.add_title(), await api.add_title()
    await home.beat(await home.child(), known)  # this process knows one of the titles, and not the other
    child = await home.child()
    beats = [beat(child, unknown, device_id="tv"), beat(child, known, device_id="phone", device_type="mobile")]
    answer = await api.http.post("/viewing-time/heartbeats", json={"beats": beats}, headers=home.as_player)
    television, phone = answer.json()["results"]
    refused = await home.beat(child, unknown, session_id=television["session_id"], device_id="tv")
    assert (refused.status_code, refused.json()["by"]) == (409, {"device_type": "mobile"})
    assert (await home.beat(child, known, session_id=phone["session_id"], device_id="phone")).status_code == 200


async def test_a_change_of_title_in_a_batch_comes_before_the_take_over_that_follows_it(api: Api) -> None:
    home = await registered_at_noon(api)
    film, cartoon = await api.add_title(), await api.add_title()
    child = await home.child()
    opened = (await home.beat(child, film, device_id="tv")).json()["session_id"]
    beats = [
        beat(child, cartoon, session_id=opened, device_id="tv"),
        beat(child, film, device_id="phone"),
        beat(child, cartoon, session_id=opened, device_id="tv"),
    ]
    answer = await api.http.post("/viewing-time/heartbeats", json={"beats": beats}, headers=home.as_player)
    changed, phone, refused = answer.json()["results"]
    assert changed["enforcement"] == phone["enforcement"] == "allowed"
    assert refused["code"] == "session_superseded"
