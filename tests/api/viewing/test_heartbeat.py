"""Heartbeats over HTTP: a child watches, the limit holds, and warm heartbeats send no SQL."""

import asyncio
from typing import Any

import pytest

from app.clock import now_ms
from app.settings.settings import Settings
from app.wiring.worker import open_worker
from tests.scenes.api import Api, running
from tests.scenes.households import registered_at_noon
from tests.statements import statements_of


async def test_a_beat_opens_continues_and_ends(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()

    opened = await home.beat(child, title)
    assert opened.status_code == 200, opened.text
    session_id = opened.json()["session_id"]
    assert opened.json()["used_seconds"] == 0
    assert opened.json()["enforcement"] == "allowed"
    await asyncio.sleep(0.05)

    continued = await home.beat(child, title, session_id=session_id)
    used = continued.json()["used_seconds"]
    assert continued.json()["session_id"] == session_id
    assert 0.05 <= used < 2

    path = f"/viewing-time/session/{session_id}/end"
    ended = await api.http.post(path, headers=home.as_player)
    assert ended.status_code == 200, ended.text
    assert ended.json()["total_seconds"] >= used
    again = await api.http.post(path, headers=home.as_player)
    assert again.json() == ended.json()

    late = await home.beat(child, title, session_id=session_id)
    assert (late.status_code, late.json()["code"]) == (409, "session_ended")
    assert late.headers["content-type"] == "application/problem+json"

    balance = await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)
    assert balance.json()["used_seconds"] == ended.json()["total_seconds"]
    assert balance.json()["is_child_profile"] is True


async def test_a_grant_after_the_limit_was_lowered_lets_the_child_go_on(api: Api, prepared: Settings) -> None:
    """60 minutes, 40 of them used and not flushed, then 15: blocked, until a grant gives its 15 minutes."""
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    await home.set_limits(child, weekday_limit_minutes=60, weekend_limit_minutes=60)
    grant_path = f"/parental-controls/profiles/{child}/viewing-time/grant"

    async def balance() -> dict[str, Any]:
        found: dict[str, Any] = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)).json()
        return found

    counters = api.services.counters
    counters.at_ms = now_ms()
    try:
        session_id = (await home.beat(child, title)).json()["session_id"]
        for _ in range(10):
            counters.at_ms += 240_000
            assert (await home.beat(child, title, session_id=session_id)).status_code == 200
        await home.set_limits(child, weekday_limit_minutes=15, weekend_limit_minutes=15)
        assert ((await balance())["used_seconds"], (await balance())["remaining_seconds"]) == (2400, 0)
        given = await api.http.post(grant_path, json={"minutes": 15}, headers=home.as_parent)
        assert (given.status_code, given.json()["remaining_seconds"]) == (201, 900)
        now = await balance()
        assert (now["remaining_seconds"], now["granted_minutes"], now["covered_seconds"]) == (900, 15, 1500)
        counters.at_ms += 60_000
        beat = (await home.beat(child, title, session_id=session_id)).json()
        assert (beat["enforcement"], beat["remaining_seconds"]) == ("warning_15", 840)
        await api.http.post(grant_path, json={"minutes": None}, headers=home.as_parent)
        now = await balance()
        assert (now["is_unlimited_override"], now["granted_minutes"]) == (True, 15)
        why = (await api.http.get(f"/viewing-time/why/{child}", headers=home.as_parent)).json()
        assert (why["granted_seconds"], why["covered_seconds"], why["is_unlimited_override"]) == (900, 1500, True)
        lifted = (await api.http.get(f"/parental-controls/profiles/{child}/grants", headers=home.as_parent)).json()
        revoked = f"/parental-controls/profiles/{child}/grants/{lifted['grants'][0]['grant_id']}"
        assert (await api.http.delete(revoked, headers=home.as_parent)).json()["remaining_seconds"] == 840
        async with open_worker(prepared) as worker:
            await worker.flusher.drain()
        await api.services.redis.flushall()
        beat = (await home.beat(child, title, session_id=session_id)).json()
        assert (beat["used_seconds"], beat["remaining_seconds"]) == (2460, 840), "Redis has lost it, the ledger has not"
    finally:
        counters.at_ms = 0


async def test_a_warm_beat_sends_no_statement(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    session_id = (await home.beat(child, title)).json()["session_id"]
    with statements_of(api.services.engine) as sent:
        for _ in range(20):
            answer = await home.beat(child, title, session_id=session_id)
            assert answer.status_code == 200
    assert sent == []


async def test_one_stream_per_child(api: Api, other_api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    first = (await home.beat(child, title, device_id="tv")).json()["session_id"]
    second = (await home.beat(child, title, on=other_api, device_id="pad", device_type="tablet")).json()["session_id"]
    loser = await home.beat(child, title, session_id=first, device_id="tv")
    assert (loser.status_code, loser.json()["code"]) == (409, "session_superseded")
    assert loser.json()["by"] == {"device_type": "tablet"}
    winner = await home.beat(child, title, session_id=second, device_id="pad", device_type="tablet")
    assert winner.status_code == 200


async def test_two_opening_beats_at_once_leave_one_session(api: Api, other_api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    await home.beat(child, title)
    answers = await asyncio.gather(*(home.beat(child, title, on=where) for where in (api, other_api) * 5))
    ids = [answer.json()["session_id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    alive = [i for i in ids if (await home.beat(child, title, session_id=i)).status_code == 200]
    assert len(alive) == 1


async def test_a_limit_lowered_in_one_process_blocks_the_next_beat_in_the_other(api: Api, other_api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    answer = (await home.beat(child, title, on=other_api)).json()
    for _ in range(3):
        answer = (await home.beat(child, title, on=other_api, session_id=answer["session_id"])).json()
    assert answer["remaining_seconds"] > 900
    changed = await home.set_limits(child, weekday_limit_minutes=15, weekend_limit_minutes=15)
    assert changed.status_code == 200, changed.text
    after = (await home.beat(child, title, on=other_api, session_id=answer["session_id"])).json()
    assert after["remaining_seconds"] <= 900
    assert after["enforcement"] == "warning_15"
    assert after["config_version"] == answer["config_version"] + 1


async def test_educational_time_is_counted_apart(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title(is_educational=True)
    session_id = (await home.beat(child, title)).json()["session_id"]
    await asyncio.sleep(0.02)
    answer = (await home.beat(child, title, session_id=session_id)).json()
    assert (answer["is_educational"], answer["used_seconds"], answer["stop_at"]) == (True, 0, None)
    balance = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)).json()
    assert balance["educational_seconds"] >= 0.02


async def test_a_change_of_title_opens_another_session(api: Api) -> None:
    home = await registered_at_noon(api)
    child, first, second = await home.child(), await api.add_title(), await api.add_title()
    session_id = (await home.beat(child, first)).json()["session_id"]
    await asyncio.sleep(0.02)
    changed = (await home.beat(child, second, session_id=session_id)).json()
    assert changed["session_id"] != session_id
    assert changed["used_seconds"] >= 0.02
    repeated = (await home.beat(child, second, session_id=session_id)).json()
    assert repeated["session_id"] == changed["session_id"]


async def test_an_adult_is_unlimited_and_leaves_no_trace(api: Api) -> None:
    home = await registered_at_noon(api)
    adult, title = await home.adult(), await api.add_title()
    opened = (await home.beat(adult, title)).json()
    assert (opened["enforcement"], opened["remaining_seconds"]) == ("allowed", None)
    assert (await home.beat(adult, title, session_id=opened["session_id"])).status_code == 200
    assert [key async for key in api.services.redis.scan_iter(f"*live:{adult}")] == []


@pytest.mark.parametrize(
    ("fields", "status", "code"),
    [
        ({"title_id": "nobody-knows-it"}, 404, "title_unknown"),
        ({"profile_id": "00000000-0000-4000-8000-000000000000"}, 403, "profile_access_denied"),
        ({"session_id": "00000000-0000-8000-8000-000000000000"}, 403, "profile_access_denied"),
        ({"device_id": "x" * 101}, 422, "invalid_input"),
        ({"device_id": "a\x00b"}, 422, "invalid_input"),
        ({"device_type": "fridge"}, 422, "invalid_input"),
        ({"watched_seconds": -1}, 422, "invalid_input"),
        ({"watched_seconds": 2**63}, 422, "invalid_input"),
        ({"is_paused": "yes"}, 422, "invalid_input"),
    ],
)
async def test_what_does_not_fit_is_refused(api: Api, fields: dict[str, Any], status: int, code: str) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    answer = await home.beat(child, title, **fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "body", [b"", b"[", b"NaN", b'{"profile_id": 1e999}', b'"\\ud800"', b"\xff\xfe", b"[" * 60_000, b"1" * 5000]
)
async def test_what_is_not_a_heartbeat_is_never_an_error_of_ours(api: Api, body: bytes) -> None:
    home = await registered_at_noon(api)
    answer = await api.http.post("/viewing-time/heartbeat", content=body, headers=home.as_player)
    assert answer.status_code in {400, 422}
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("call", "body", "pointer"),
    [
        ("heartbeat", {"device_type": "hal-9000"}, "/device_type"),
        ("heartbeat", {"device_type": "hal-9000 - at `$.secret`"}, "/device_type"),
        ("session/01a211cf-9450-83a1-a067-e315c7b60000/end", {"hal-9000": 1}, ""),
        ("offline-sync", {"hal-9000": 1}, ""),
    ],
)
async def test_a_refusal_does_not_repeat_what_was_sent(api: Api, call: str, body: dict[str, Any], pointer: str) -> None:
    home = await registered_at_noon(api)
    beat = {"profile_id": home.id, "title_id": "t", "device_id": "d"} if call == "heartbeat" else {}
    answer = await api.http.post(f"/viewing-time/{call}", json=beat | body, headers=home.as_player)
    assert answer.status_code == 422, answer.text
    assert [error.get("pointer", "") for error in answer.json()["errors"]] == [pointer]
    assert "hal-9000" not in answer.text


async def test_a_title_that_no_catalogue_can_hold_is_refused(api: Api) -> None:
    home = await registered_at_noon(api)
    path = f"/viewing-time/playback-eligible/{await home.child()}"
    answer = await api.http.get(path, params={"title_id": "nul\0"}, headers=home.as_player)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "title_id"), answer.text
    assert (await api.http.get(path, params={"title_id": "unheard-of"}, headers=home.as_player)).status_code == 200


async def test_another_family_cannot_beat_for_a_child(api: Api) -> None:
    home, others = await registered_at_noon(api), await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    answer = await others.beat(child, title)
    assert (answer.status_code, answer.json()["code"]) == (403, "profile_access_denied")
    without = await api.http.post("/viewing-time/heartbeat", json={})
    assert without.status_code == 401


async def test_why_spells_the_decision_out_for_parents_only(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    session_id = (await home.beat(child, title)).json()["session_id"]
    answer = await api.http.get(f"/viewing-time/why/{child}", headers=home.as_parent)
    assert answer.status_code == 200, answer.text
    why = answer.json()
    assert why["session"]["session_id"] == session_id
    assert why["limit_seconds"] in {7200, 10_800}
    assert why["enforcement"] == "allowed"
    assert any("limit of this day" in sentence for sentence in why["sentences"])
    assert (await api.http.get(f"/viewing-time/why/{child}", headers=home.as_player)).status_code == 403


async def test_why_says_which_abandoned_sessions_were_charged(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    began_ms = now_ms()
    for turn in range(4):
        api.services.counters.at_ms = began_ms + turn * 320_000
        await home.beat(child, title)
    why = (await api.http.get(f"/viewing-time/why/{child}", headers=home.as_parent)).json()
    assert (why["abandoned_sessions"], why["abandoned_sessions_charged"]) == (3, 1)
    assert why["used_seconds"] == 300
    assert any("1 of them were charged" in sentence for sentence in why["sentences"])


async def test_without_a_limit_no_grant_is_said_to_lift_it(api: Api) -> None:
    home = await registered_at_noon(api)
    child = await home.child()
    await home.set_limits(child, weekday_limit_minutes=None, weekend_limit_minutes=None)
    path = f"/parental-controls/profiles/{child}/viewing-time/grant"
    granted = await api.http.post(path, json={"minutes": None}, headers=home.as_parent)
    answers = [
        await api.http.get(f"/viewing-time/{call}/{child}", headers=home.as_parent) for call in ("balance", "why")
    ]
    assert [answer.json()["is_unlimited_override"] for answer in (granted, *answers)] == [False] * 3


async def test_a_flood_of_beats_is_slowed_down_and_adds_nothing(prepared: Settings) -> None:
    async with running(prepared.model_copy(update={"max_beats_per_second": 10})) as api:
        home = await registered_at_noon(api)
        child, title = await home.child(), await api.add_title()
        session_id = (await home.beat(child, title)).json()["session_id"]
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(home.beat(child, title, session_id=session_id) for _ in range(100)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        balance = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)).json()
        assert balance["used_seconds"] <= asyncio.get_running_loop().time() - began + 0.5


async def test_extra_time_for_a_child_that_is_blocked_counts_from_when_it_is_given(prepared: Settings) -> None:
    async with running(prepared) as api:
        counters = api.services.counters
        home = await registered_at_noon(api)
        child, title = await home.child(), await api.add_title()
        await home.set_limits(child, weekday_limit_minutes=15, weekend_limit_minutes=15)
        counters.at_ms = now_ms()
        session_id = (await home.beat(child, title)).json()["session_id"]
        for _ in range(3):
            counters.at_ms += 240_000
            await home.beat(child, title, session_id=session_id)
        counters.at_ms += 240_000
        answer = (await home.beat(child, title, session_id=session_id)).json()
        assert (answer["enforcement"], answer["used_seconds"]) == ("blocked", 900)
        policies = api.services.shared_policies
        counters.at_ms += 20_000
        policies.at_ms = counters.at_ms
        granted = await api.http.post(
            f"/parental-controls/profiles/{child}/viewing-time/grant", json={"minutes": 15}, headers=home.as_parent
        )
        assert granted.status_code == 201, granted.text
        counters.at_ms += 5_000
        answer = (await home.beat(child, title, session_id=session_id)).json()
        assert answer["remaining_seconds"] == 895
        balance = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)).json()
        assert balance["overrun_seconds"] == 4 * 240 - 900 + 20
