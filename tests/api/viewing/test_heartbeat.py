"""The main job over HTTP: a child watches, the limit holds, nothing asks the database."""

import asyncio
from typing import Any

import pytest

from app.clock import now_ms
from app.settings import Settings
from tests.api.viewing.conftest import running
from tests.builders import Api
from tests.statements import statements_of


async def test_a_beat_opens_continues_and_ends(api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()

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
    ended = await api.http.post(path, headers=home.player)
    assert ended.status_code == 200, ended.text
    assert ended.json()["total_seconds"] >= used
    again = await api.http.post(path, headers=home.player)
    assert again.json() == ended.json()

    late = await home.beat(child, title, session_id=session_id)
    assert (late.status_code, late.json()["code"]) == (409, "session_ended")
    assert late.headers["content-type"] == "application/problem+json"

    balance = await api.http.get(f"/viewing-time/balance/{child}", headers=home.player)
    assert balance.json()["used_seconds"] == ended.json()["total_seconds"]
    assert balance.json()["is_child_profile"] is True


async def test_a_warm_beat_sends_no_statement(api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    session_id = (await home.beat(child, title)).json()["session_id"]
    with statements_of(api.services.engine) as sent:
        for _ in range(20):
            answer = await home.beat(child, title, session_id=session_id)
            assert answer.status_code == 200
    assert sent == []


async def test_one_stream_per_child(api: Api, other_api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    first = (await home.beat(child, title, device_id="tv")).json()["session_id"]
    second = (await home.beat(child, title, on=other_api, device_id="pad", device_type="tablet")).json()["session_id"]
    loser = await home.beat(child, title, session_id=first, device_id="tv")
    assert (loser.status_code, loser.json()["code"]) == (409, "session_superseded")
    assert loser.json()["by"] == {"device_type": "tablet"}
    winner = await home.beat(child, title, session_id=second, device_id="pad", device_type="tablet")
    assert winner.status_code == 200


async def test_two_opening_beats_at_once_leave_one_session(api: Api, other_api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    await home.beat(child, title)
    answers = await asyncio.gather(*(home.beat(child, title, on=where) for where in (api, other_api) * 5))
    ids = [answer.json()["session_id"] for answer in answers]
    assert len(set(ids)) == len(ids)
    alive = [i for i in ids if (await home.beat(child, title, session_id=i)).status_code == 200]
    assert len(alive) == 1


async def test_a_limit_lowered_in_one_process_blocks_the_next_beat_in_the_other(api: Api, other_api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
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
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title(is_educational=True)
    session_id = (await home.beat(child, title)).json()["session_id"]
    await asyncio.sleep(0.02)
    answer = (await home.beat(child, title, session_id=session_id)).json()
    assert (answer["is_educational"], answer["used_seconds"], answer["stop_at"]) == (True, 0, None)
    balance = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.player)).json()
    assert balance["educational_seconds"] >= 0.02


async def test_a_change_of_title_opens_another_session(api: Api) -> None:
    home = await api.household()
    child, first, second = await home.add_profile(), await api.add_title(), await api.add_title()
    session_id = (await home.beat(child, first)).json()["session_id"]
    await asyncio.sleep(0.02)
    changed = (await home.beat(child, second, session_id=session_id)).json()
    assert changed["session_id"] != session_id
    assert changed["used_seconds"] >= 0.02
    repeated = (await home.beat(child, second, session_id=session_id)).json()
    assert repeated["session_id"] == changed["session_id"]


async def test_an_adult_is_unlimited_and_leaves_no_trace(api: Api) -> None:
    home = await api.household()
    adult, title = await home.add_profile(is_kids=False), await api.add_title()
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
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    answer = await home.beat(child, title, **fields)
    assert (answer.status_code, answer.json()["code"]) == (status, code)


@pytest.mark.parametrize(
    "body", [b"", b"[", b"NaN", b'{"profile_id": 1e999}', b'"\\ud800"', b"\xff\xfe", b"[" * 60_000, b"1" * 5000]
)
async def test_what_is_not_a_heartbeat_is_never_an_error_of_ours(api: Api, body: bytes) -> None:
    home = await api.household()
    answer = await api.http.post("/viewing-time/heartbeat", content=body, headers=home.player)
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
    home = await api.household()
    beat = {"profile_id": home.id, "title_id": "t", "device_id": "d"} if call == "heartbeat" else {}
    answer = await api.http.post(f"/viewing-time/{call}", json=beat | body, headers=home.player)
    assert answer.status_code == 422, answer.text
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert "hal-9000" not in answer.text


async def test_a_title_that_no_catalogue_can_hold_is_refused(api: Api) -> None:
    home = await api.household()
    path = f"/viewing-time/playback-eligible/{await home.add_profile()}"
    answer = await api.http.get(path, params={"title_id": "nul\0"}, headers=home.player)
    assert (answer.status_code, answer.json()["errors"][0]["parameter"]) == (422, "title_id"), answer.text
    assert (await api.http.get(path, params={"title_id": "unheard-of"}, headers=home.player)).status_code == 200


async def test_another_family_cannot_beat_for_a_child(api: Api) -> None:
    home, others = await api.household(), await api.household()
    child, title = await home.add_profile(), await api.add_title()
    answer = await others.beat(child, title)
    assert (answer.status_code, answer.json()["code"]) == (403, "profile_access_denied")
    without = await api.http.post("/viewing-time/heartbeat", json={})
    assert without.status_code == 401


async def test_why_spells_the_decision_out_for_parents_only(api: Api) -> None:
    home = await api.household()
    child, title = await home.add_profile(), await api.add_title()
    session_id = (await home.beat(child, title)).json()["session_id"]
    answer = await api.http.get(f"/viewing-time/why/{child}", headers=home.parent)
    assert answer.status_code == 200, answer.text
    why = answer.json()
    assert why["session"]["session_id"] == session_id
    assert why["limit_seconds"] in {7200, 10_800}
    assert why["enforcement"] == "allowed"
    assert any("limit of this day" in sentence for sentence in why["sentences"])
    assert (await api.http.get(f"/viewing-time/why/{child}", headers=home.player)).status_code == 403


async def test_without_a_limit_no_grant_is_said_to_lift_it(api: Api) -> None:
    home = await api.household()
    child = await home.add_profile()
    await home.set_limits(child, weekday_limit_minutes=None, weekend_limit_minutes=None)
    path = f"/parental-controls/profiles/{child}/viewing-time/grant"
    granted = await api.http.post(path, json={"minutes": None}, headers=home.parent)
    answers = [await api.http.get(f"/viewing-time/{call}/{child}", headers=home.parent) for call in ("balance", "why")]
    assert [answer.json()["is_unlimited_override"] for answer in (granted, *answers)] == [False] * 3


async def test_a_flood_of_beats_is_slowed_down_and_adds_nothing(prepared: Settings) -> None:
    async with running(prepared.model_copy(update={"max_beats_per_second": 10})) as api:
        home = await api.household()
        child, title = await home.add_profile(), await api.add_title()
        session_id = (await home.beat(child, title)).json()["session_id"]
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(home.beat(child, title, session_id=session_id) for _ in range(100)))
        refused = [answer for answer in answers if answer.status_code == 429]
        assert refused
        assert all(answer.headers["retry-after"] == "1" for answer in refused)
        balance = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.player)).json()
        assert balance["used_seconds"] <= asyncio.get_running_loop().time() - began + 0.5


async def test_extra_time_for_a_child_that_is_blocked_counts_from_when_it_is_given(prepared: Settings) -> None:
    async with running(prepared) as api:
        counters = api.services.counters
        home = await api.household()
        child, title = await home.add_profile(), await api.add_title()
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
        policies._at_ms = counters.at_ms
        granted = await api.http.post(
            f"/parental-controls/profiles/{child}/viewing-time/grant", json={"minutes": 15}, headers=home.parent
        )
        assert granted.status_code == 201, granted.text
        counters.at_ms += 5_000
        answer = (await home.beat(child, title, session_id=session_id)).json()
        assert answer["remaining_seconds"] == 895
        balance = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.player)).json()
        assert balance["overrun_seconds"] == 4 * 240 - 900 + 20
