"""Accounts and profiles by the platform's own ids: provisioning, and every call that names them."""

import asyncio
import json
import random
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import text

from app.auth.tokens import Role
from app.errors import ProfileAccessDenied
from app.viewing.endpoint import decode_beat
from app.wiring.api import open_services
from tests.scenes.api import Api
from tests.scenes.households import registered
from tests.statements import statements_of

MAX_STATEMENTS = 200
NDJSON = {"Content-Type": "application/x-ndjson"}
OSLO = {"timezone": "Europe/Oslo"}
ADA = {"name": "Ada", "is_kids": True}
AWKWARD = ("auth0|5f7c8ec7c33c6c004bbafe82", "kim/at home?", "100%", "æøå 🌱", "a" * 255, "..%2f", "007", "NULL")


def _service(api: Api) -> httpx.AsyncClient:
    return api.signed_in("provisioning", Role.SERVICE)


def _path(*ids: str) -> str:
    return "/platform/accounts/" + "/profiles/".join(map(_quoted, ids))


def _quoted(one: str) -> str:
    return quote(one, safe="")


async def _made(api: Api, account: str, *profiles: str) -> dict[str, Any]:
    """A provisioned account, as it is shown."""
    service = _service(api)
    assert (await service.put(_path(account), json=OSLO)).status_code == 201
    for profile in profiles:
        assert (await service.put(_path(account, profile), json=ADA)).status_code == 201
    shown: dict[str, Any] = (await service.get(_path(account))).json()
    return shown


async def _title(api: Api) -> str:
    title = [{"id": "moon-pirates", "name": "Moon Pirates", "is_educational": False}]
    assert (await _service(api).put("/catalog/titles", json=title)).status_code == 200
    return "moon-pirates"


def _beat(profile: str, **fields: object) -> dict[str, object]:
    return {"profile_id": profile, "title_id": "moon-pirates", "device_id": "tv", **fields}


@pytest.mark.parametrize("account", [*AWKWARD, pytest.param(str(uuid4()), id="uuid")])
async def test_an_account_is_made_shown_changed_and_erased_under_the_platforms_id(api: Api, account: str) -> None:
    service, path = _service(api), _path(account)
    assert (await service.get(path)).status_code == 404
    made = await service.put(path, json={**OSLO, "market": "no"})
    assert made.status_code == 201, made.text
    assert made.headers["Location"] == f"/api/v1{path}"
    assert made.json() == {
        "external_id": account,
        "account_id": made.json()["account_id"],
        "timezone": "Europe/Oslo",
        "market": "no",
    }
    again = await service.put(path, json={**OSLO, "market": "no"})
    assert (again.status_code, again.json()) == (200, made.json())
    changed = await service.put(path, json={"timezone": "Asia/Tokyo"})
    assert (changed.status_code, changed.json()) == (200, {**made.json(), "timezone": "Asia/Tokyo", "market": None})
    assert (await service.get(path)).json() == {**changed.json(), "profiles": []}
    erased = await service.delete(path)
    assert (erased.status_code, erased.json()["counts"]["accounts"]) == (200, 1)
    assert (await service.get(path)).status_code == (await service.delete(path)).status_code == 404


@pytest.mark.parametrize("profile", [*AWKWARD, pytest.param(str(uuid4()), id="uuid")])
async def test_a_profile_is_made_shown_changed_and_erased_under_the_platforms_id(api: Api, profile: str) -> None:
    account = f"family {uuid4()}"
    await _made(api, account)
    service, path = _service(api), _path(account, profile)
    assert (await service.get(path)).status_code == 404
    made = await service.put(path, json=ADA)
    assert made.status_code == 201, made.text
    shown = {"external_id": profile, **ADA, "timezone": "Europe/Oslo", "limits_reviewed": False, "enforcement": None}
    assert made.json() == {**shown, "profile_id": made.json()["profile_id"]}
    assert (await service.put(path, json=ADA)).json() == made.json()
    moved = await service.put(path, json={**ADA, "name": "Ida", "timezone": "Asia/Tokyo"})
    assert (moved.status_code, moved.json()) == (200, {**made.json(), "name": "Ida", "timezone": "Asia/Tokyo"})
    assert (await service.put(path, json={**ADA, "name": "Ida"})).json() == moved.json(), "the zone stays"
    assert (await service.get(path)).json() == moved.json()
    assert (await service.delete(path)).json()["counts"]["profiles"] == 1
    assert (await service.get(path)).status_code == (await service.delete(path)).status_code == 404


async def _audited(api: Api, account_id: str) -> list[str]:
    wanted = text("SELECT action FROM audit_log WHERE account_id = :account_id ORDER BY id")
    async with api.services.engine.connect() as database:
        return list((await database.execute(wanted, {"account_id": account_id})).scalars())


async def test_only_what_changes_something_is_audited(api: Api) -> None:
    shown, service = await _made(api, "quiet", "child"), _service(api)
    for _ in range(2):
        await service.put(_path("quiet"), json=OSLO)
        await service.put(_path("quiet", "child"), json=ADA)
    assert await _audited(api, shown["account_id"]) == ["account_created", "profile_created"]
    for _ in range(2):
        await service.put(_path("quiet"), json={"timezone": "UTC"})
        await service.put(_path("quiet", "child"), json={**ADA, "name": "Ida"})
    assert (await _audited(api, shown["account_id"]))[2:] == ["account_changed", "profile_changed"]


@pytest.mark.parametrize("profile", ["child/one", "æ", pytest.param(str(uuid4()), id="uuid")])
async def test_every_call_takes_the_platforms_id_of_a_profile(api: Api, profile: str) -> None:
    title, account = await _title(api), f"family|{uuid4()}"
    shown = await _made(api, account, profile)
    account_id, our_id = shown["account_id"], shown["profiles"][0]["profile_id"]
    player, parent = api.signed_in(account_id, Role.HOUSEHOLD), api.signed_in(account_id, Role.PARENT)
    named = _quoted(profile)
    controls = f"/parental-controls/profiles/{named}"

    opened = await player.post("/viewing-time/heartbeat", json=_beat(profile))
    assert opened.status_code == 200, opened.text
    session = opened.json()["session_id"]
    assert (await player.post("/viewing-time/heartbeat", json=_beat(our_id, session_id=session))).status_code == 200
    both = [_beat(profile, session_id=session), _beat(our_id, session_id=session)]
    results = (await player.post("/viewing-time/heartbeats", json={"beats": both})).json()["results"]
    assert [result["session_id"] for result in results] == [session, session]
    for path in ("balance", "playback-eligible", "why"):
        answer = await parent.get(f"/viewing-time/{path}/{named}")
        assert (answer.status_code, answer.json()["profile_id"]) == (200, our_id), answer.text
    ticket = (await player.post("/viewing-time/events-ticket", json={"profile_id": profile})).json()["ticket"]
    redeemed = await api.services.viewing.tickets.redeem(ticket, profile)
    assert redeemed[1] == our_id
    sync = {
        "profile_id": profile,
        "device_id": "tv",
        "batch_id": str(uuid4()),
        "device_now": "2026-03-02T12:00:00Z",
        "last_server_time": "2026-03-02T12:00:00Z",
        "intervals": [],
    }
    assert (await player.post("/viewing-time/offline-sync", json=sync)).status_code == 200
    settings = await parent.get(f"{controls}/viewing-time")
    assert settings.json()["profile_id"] == our_id
    saved = await parent.put(
        f"{controls}/viewing-time", json={"weekday_limit_minutes": 60}, headers={"If-Match": settings.headers["ETag"]}
    )
    assert saved.status_code == 200, saved.text
    assert (await parent.post(f"{controls}/viewing-time/preview", json={})).status_code == 200
    granted = await parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15})
    assert granted.status_code == 201, granted.text
    assert len((await parent.get(f"{controls}/grants")).json()["grants"]) == 1
    assert (await parent.delete(f"{controls}/grants/{granted.json()['grant_id']}")).status_code == 200
    asked = await player.post(f"{controls}/requests", json={"minutes": 15})
    assert (await parent.post(f"{controls}/requests/{asked.json()['request_id']}/deny")).status_code == 200
    assert (await parent.get(f"{controls}/history")).status_code == 200
    assert (await parent.get(f"{controls}/export")).json()["profile"]["external_id"] == profile
    assert (await parent.patch(f"/profiles/{named}", json={"name": "Ida"})).json()["external_id"] == profile
    assert (await player.get("/profiles")).json()[0]["external_id"] == profile
    streams = await _service(api).get(f"/viewing-time/streams/{_quoted(account)}")
    assert [stream["session_id"] for stream in streams.json()["streams"]] == [session]
    assert (await player.post(f"/viewing-time/session/{session}/end")).status_code == 200
    assert (await parent.delete(f"/profiles/{named}")).json()["counts"]["profiles"] == 1
    assert (await player.post("/viewing-time/heartbeat", json=_beat(profile))).status_code == 403
    assert title


async def test_a_gateway_names_the_account_of_a_beat(api: Api) -> None:
    await _title(api)
    first, second = f"a|{uuid4()}", f"b|{uuid4()}"
    ours = [(await _made(api, account, "child"))["profiles"][0]["profile_id"] for account in (first, second)]
    beats = [_beat("child", account_id=first), _beat("child", account_id=second), _beat("child"), _beat(ours[0])]
    for _ in range(2):
        answer = await _service(api).post("/viewing-time/heartbeats", json={"beats": beats})
        codes = [result.get("code") for result in answer.json()["results"]]
        assert codes == [None, None, "profile_access_denied", None]
    for our_id, account in zip(ours, (first, second), strict=True):
        playing = (await _service(api).get(f"/viewing-time/streams/{_quoted(account)}")).json()["streams"]
        assert [stream["profile_id"] for stream in playing] == [our_id]


# --- ids that look like ours


async def test_a_uuid_of_the_platform_becomes_ours_and_names_nobody_else(api: Api) -> None:
    await _title(api)
    account, profile = str(uuid4()), str(uuid4())
    shown = await _made(api, account.upper(), profile.upper())
    assert (shown["account_id"], shown["profiles"][0]["profile_id"]) == (account, profile)
    other = await registered(api)
    service = _service(api)
    assert (await service.put(_path(other.id, profile), json=ADA)).json()["code"] == "external_id_taken"
    for foreign in (profile, profile.upper(), account):
        assert (await other.player.post("/viewing-time/heartbeat", json=_beat(foreign))).status_code == 403
        assert (await other.parent.get(f"/parental-controls/profiles/{foreign}/viewing-time")).status_code == 403
    own = api.signed_in(account, Role.HOUSEHOLD)
    assert (await own.post("/viewing-time/heartbeat", json=_beat(profile))).status_code == 200


async def test_our_id_of_an_account_names_it_to_the_platform_too(api: Api) -> None:
    household = await registered(api, timezone="Europe/Oslo")
    service = _service(api)
    answer = await service.put(_path(household.id), json={"timezone": "Asia/Tokyo", "market": "jp"})
    assert (answer.status_code, answer.json()["account_id"], answer.json()["external_id"]) == (200, household.id, None)
    child = await household.child()
    found = (await service.get(_path(household.id))).json()["profiles"]
    assert [(one["profile_id"], one["external_id"]) for one in found] == [(child, None)]
    other = f"x|{uuid4()}"
    await _made(api, other)
    taken = await service.put(_path(other, child), json=ADA)
    assert (taken.status_code, taken.json()["code"]) == (409, "external_id_taken")


async def test_the_same_id_in_two_accounts_is_two_profiles(api: Api) -> None:
    await _title(api)
    shown = [await _made(api, f"{name}|{uuid4()}", "1") for name in "ab"]
    ours = [one["profiles"][0]["profile_id"] for one in shown]
    assert len(set(ours)) == 2
    for one, our_id in zip(shown, ours, strict=True):
        parent = api.signed_in(one["account_id"], Role.PARENT)
        assert (await parent.get("/viewing-time/balance/1")).json()["profile_id"] == our_id
        assert (await parent.get("/parental-controls/profiles/1/viewing-time")).json()["profile_id"] == our_id


@pytest.mark.parametrize("account", ["again|1", pytest.param(str(uuid4()), id="uuid")])
@pytest.mark.parametrize("profile", ["child", pytest.param(str(uuid4()), id="uuid")])
async def test_what_was_erased_and_is_made_again_is_another_one(api: Api, account: str, profile: str) -> None:
    await _title(api)
    service = _service(api)
    first = await _made(api, account, profile)
    old_id = first["profiles"][0]["profile_id"]
    player = api.signed_in(first["account_id"], Role.HOUSEHOLD)
    assert (await player.post("/viewing-time/heartbeat", json=_beat(profile))).status_code == 200

    assert (await service.delete(_path(account, profile))).status_code == 200
    assert (await player.post("/viewing-time/heartbeat", json=_beat(profile))).status_code == 403
    assert (await service.put(_path(account, profile), json=ADA)).status_code == 201
    for path in ("balance", "playback-eligible"):
        shown = await player.get(f"/viewing-time/{path}/{_quoted(profile)}")
        assert shown.json()["profile_id"] not in {old_id, None}
    beat = await player.post("/viewing-time/heartbeat", json=_beat(profile))
    assert (beat.status_code, beat.json()["used_seconds"]) == (200, 0)

    assert (await service.delete(_path(account))).status_code == 200
    assert (await player.post("/viewing-time/heartbeat", json=_beat(profile))).status_code == 401
    second = await _made(api, account, profile)
    assert second["account_id"] != first["account_id"]
    assert (await player.post("/viewing-time/heartbeat", json=_beat(profile))).status_code == 401
    fresh = api.signed_in(second["account_id"], Role.HOUSEHOLD)
    assert (await fresh.post("/viewing-time/heartbeat", json=_beat(profile))).status_code == 200
    assert (await service.delete(_path(account))).status_code == 200


# --- what is refused


@pytest.mark.parametrize("external", ["\n", "a\x00b", " ", "a" * 256, "\ue000", "\u200b"])
async def test_an_id_is_printable_and_not_too_long(api: Api, external: str) -> None:
    answer = await _service(api).put(_path(external), json=OSLO)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    player = (await registered(api)).player
    beat = await player.post("/viewing-time/heartbeat", json=_beat(external))
    assert beat.status_code in {400, 403, 422}
    assert (await player.get(f"/viewing-time/balance/{_quoted(external)}")).status_code in {403, 422}


@pytest.mark.parametrize(
    "body", [{}, {"timezone": "posixrules"}, {**OSLO, "market": ""}, {**OSLO, "market": "x" * 51}, {**OSLO, "more": 1}]
)
async def test_an_account_is_described_as_agreed(api: Api, body: dict[str, Any]) -> None:
    answer = await _service(api).put(_path(f"wrong|{uuid4()}"), json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_an_account_has_as_many_profiles_as_any_other(api: Api) -> None:
    account = f"many|{uuid4()}"
    await _made(api, account, *(f"child {number}" for number in range(20)))
    answer = await _service(api).put(_path(account, "one more"), json=ADA)
    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_profiles")


# --- many at once


async def _bulk(api: Api, lines: list[bytes]) -> list[dict[str, Any]]:
    answer = await _service(api).put("/platform/accounts", content=b"\n".join(lines), headers=NDJSON)
    assert answer.status_code == 200, answer.text
    return [json.loads(line) for line in answer.content.splitlines()]


async def test_each_line_of_a_bulk_call_is_answered_for_itself(api: Api) -> None:
    known = f"known|{uuid4()}"
    await _made(api, known)
    lines: list[Any] = [
        {"external_id": "bulk|1", **OSLO},
        {"external_id": known, **OSLO},
        {"external_id": known, **OSLO},
        {"external_id": "bulk|2", "timezone": "Mars/Olympus"},
        {"external_id": "bulk|3"},
        {"external_id": "bulk\x00", **OSLO},
        {"external_id": "bulk|4", **OSLO, "market": "no"},
        7,
    ]
    answers = await _bulk(api, [*(json.dumps(line).encode() for line in lines), b"{", b"\xff"])
    statuses = [answer["status"] for answer in answers]
    assert statuses == ["created", "unchanged", *["refused"] * 4, "created", *["refused"] * 3]
    assert answers[2]["problem"]["errors"] == [{"pointer": "/external_id", "detail": "is given twice"}]
    for line, answer in zip(lines, answers, strict=False):
        if answer["status"] != "refused":
            found = (await _service(api).get(_path(line["external_id"]))).json()
            assert found["account_id"] == answer["account_id"]
    again = await _bulk(api, [json.dumps({"external_id": "bulk|4", **OSLO, "market": "se"}).encode()])
    assert again == [{"status": "updated", "account_id": answers[6]["account_id"]}]


async def test_ten_thousand_accounts_are_made_by_few_statements(api: Api) -> None:
    lines = [json.dumps({"external_id": f"crowd|{number}", **OSLO}).encode() for number in range(10_000)]
    with statements_of(api.services.engine) as sent:
        made = await _bulk(api, lines)
    assert [answer["status"] for answer in made] == ["created"] * 10_000
    assert len({answer["account_id"] for answer in made}) == 10_000
    assert len(sent) <= MAX_STATEMENTS
    with statements_of(api.services.engine) as sent:
        repeated = await _bulk(api, lines)
    assert len(sent) <= MAX_STATEMENTS
    assert [answer["status"] for answer in repeated] == ["unchanged"] * 10_000
    assert [answer["account_id"] for answer in repeated] == [answer["account_id"] for answer in made]
    too_many = await _service(api).put("/platform/accounts", content=b"\n".join([*lines, b"{}"]), headers=NDJSON)
    assert too_many.status_code == 422


async def test_a_list_is_answered_by_a_list(api: Api) -> None:
    service = _service(api)
    answer = await service.put("/platform/accounts", json=[{"external_id": "list|1", **OSLO}, {"external_id": 7}])
    assert [one["status"] for one in answer.json()] == ["created", "refused"]
    too_many = json.dumps([{}] * 10_001).encode()
    for content, status in ((b"{}", 400), (b"[", 400), (b"\xff", 400), (too_many, 422)):
        wrong = await service.put("/platform/accounts", content=content, headers={"Content-Type": "application/json"})
        assert wrong.status_code == status
    table = await service.put("/platform/accounts", content=b"", headers={"Content-Type": "text/csv"})
    assert table.status_code == 415


# --- at the same time


async def test_calls_at_the_same_time_make_one_account_and_one_profile(api: Api) -> None:
    service, account = _service(api), f"race|{uuid4()}"
    made = await asyncio.gather(*(service.put(_path(account), json=OSLO) for _ in range(8)))
    assert sorted(answer.status_code for answer in made) == [200] * 7 + [201]
    assert len({answer.json()["account_id"] for answer in made}) == 1
    for profile in ("child", str(uuid4())):
        profiles = await asyncio.gather(*(service.put(_path(account, profile), json=ADA) for _ in range(8)))
        assert sorted(answer.status_code for answer in profiles) == [200] * 7 + [201]
        assert len({answer.json()["profile_id"] for answer in profiles}) == 1


async def test_two_accounts_that_want_one_uuid_do_not_both_get_it(api: Api) -> None:
    service, profile = _service(api), str(uuid4())
    accounts = [f"want|{uuid4()}" for _ in range(4)]
    for account in accounts:
        await _made(api, account)
    answers = await asyncio.gather(*(service.put(_path(account, profile), json=ADA) for account in accounts))
    assert sorted(answer.status_code for answer in answers) == [201, 409, 409, 409]


async def test_bulk_calls_that_overlap_end_well(api: Api) -> None:
    names = [f"overlap|{number}" for number in range(300)]
    chance = random.Random(14)  # noqa: S311
    for zone in ("Europe/Oslo", "Asia/Tokyo"):
        calls = []
        for _ in range(4):
            lines = [json.dumps({"external_id": name, "timezone": zone}).encode() for name in names]
            chance.shuffle(lines)
            calls.append(_bulk(api, lines))
        statuses = [answer["status"] for answers in await asyncio.gather(*calls) for answer in answers]
        assert set(statuses) <= {"created", "updated", "unchanged"}
        assert (await _service(api).get(_path(names[7]))).json()["timezone"] == zone
    made = await _bulk(api, [json.dumps({"external_id": name, "timezone": zone}).encode() for name in names])
    assert [answer["status"] for answer in made] == ["unchanged"] * 300


async def test_every_process_learns_within_a_second_what_was_erased_and_made_again(api: Api) -> None:
    await _title(api)
    account = f"processes|{uuid4()}"
    shown = await _made(api, account, "child")
    player = api.signed_in(shown["account_id"], Role.HOUSEHOLD)
    header = player.headers["Authorization"].encode()
    beat = json.dumps(_beat("child")).encode()
    async with open_services(api.services.settings, clock=api.clock) as second:
        await asyncio.wait_for(second.viewing.invalidations.subscribed.wait(), 5)
        service, caller = second.viewing.service, second.token_cache.principal_of(header)
        await service.beat(caller, decode_beat(beat))
        assert service.prepare(caller, decode_beat(beat)) is not None, "it is remembered"
        await _service(api).delete(_path(account, "child"))
        async with asyncio.timeout(1):
            while service.prepare(caller, decode_beat(beat)) is not None:  # noqa: ASYNC110  another process tells it
                await asyncio.sleep(0.01)
        with pytest.raises(ProfileAccessDenied):
            await service.beat(caller, decode_beat(beat))
        await _service(api).put(_path(account, "child"), json=ADA)
        assert (await service.beat(caller, decode_beat(beat))).used_seconds == 0
        assert await second.external_ids.account(account) == shown["account_id"]
        await _service(api).delete(_path(account))
        async with asyncio.timeout(1):
            while await second.external_ids.account(account) is not None:  # noqa: ASYNC110  likewise
                await asyncio.sleep(0.01)
        again = await _made(api, account)
        assert await second.external_ids.account(account) == again["account_id"]
