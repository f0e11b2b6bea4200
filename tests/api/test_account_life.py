"""The life of an account: refreshed, signed out, its password and address changed."""

import asyncio
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.auth.tokens import Role, TokenKind
from app.postgres_store import tables
from app.postgres_store.erasure import PostgresErasure
from app.wiring.api import Services, open_services
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered

Tokens = dict[str, Any]
NEW_PASSWORD = "a new battery staple"


async def _login(api: Api, household: Household, *, password: str = PASSWORD, **fields: object) -> Tokens:
    answer = await api.http.post("/auth/login", json={"email": household.email, "password": password, **fields})
    assert answer.status_code == 200, answer.text
    tokens: Tokens = answer.json()
    return tokens


async def _refresh(api: Api, tokens: Tokens) -> httpx.Response:
    return await api.http.post("/auth/refresh", json={"refresh_token": tokens["refresh_token"]})


def _bearer(tokens: Tokens) -> dict[str, str]:
    return {"Authorization": f"Bearer {tokens['access_token']}"}


async def _opens(api: Api, tokens: Tokens) -> bool:
    status = (await api.http.get("/account", headers=_bearer(tokens))).status_code
    assert status in {200, 401}
    return status == 200


async def _known_as_ended(services: Services, tokens: Tokens) -> None:
    """Wait until a process refuses a token."""
    principal = services.tokens.verify(tokens["access_token"], at_s=0)
    while principal.sign_in_id not in services.devices._revoked:  # noqa: ASYNC110  nothing tells of a message
        await asyncio.sleep(0)


async def _with_pin(household: Household) -> None:
    body = {"new_pin": "4711", "password": PASSWORD}
    assert (await household.player.post("/parental-controls/pin", json=body)).status_code == 200


async def test_an_account_is_shown_to_its_household(api: Api) -> None:
    household = await registered(api)
    shown = await api.http.get("/account", headers=_bearer(household.tokens))
    assert shown.json() == {
        "account_id": household.id,
        "email": household.email,
        "timezone": "Europe/Oslo",
        "has_pin": False,
        "created_at": "2026-03-02T12:00:00.000Z",
    }
    await _with_pin(household)
    assert (await household.player.get("/account")).json()["has_pin"] is True


async def test_refresh_tokens_rotate_and_one_used_twice_ends_its_family(api: Api) -> None:
    household = await registered(api)
    other = await _login(api, household)
    first = household.tokens
    second = (await _refresh(api, first)).json()
    api.clock.at_ms += 60_000
    third = (await _refresh(api, second)).json()
    assert await _opens(api, third)
    api.clock.at_ms += 60_000
    assert (await _refresh(api, first)).status_code == 401
    assert not await _opens(api, third), "the access token of the whole family ends"
    assert (await _refresh(api, third)).status_code == 401
    assert await _opens(api, other), "another sign-in goes on"
    audit = (await household.parent.get("/account/audit")).json()["entries"]
    assert audit[0]["action"] == "refresh_token_reused"


async def test_a_lost_answer_logs_nobody_out(api: Api) -> None:
    household = await registered(api)
    lost = (await _refresh(api, household.tokens)).json()
    api.clock.at_ms += 9_000
    retried = await _refresh(api, household.tokens)
    assert retried.status_code == 200
    assert await _opens(api, retried.json())
    api.clock.at_ms += 60_000
    assert (await _refresh(api, retried.json())).status_code == 200
    api.clock.at_ms += 60_000
    assert (await _refresh(api, lost)).status_code == 401, "both answers hold the same successor, which is used once"


async def test_parallel_retries_get_one_successor(api: Api) -> None:
    household = await registered(api)
    answers = await asyncio.gather(*(_refresh(api, household.tokens) for _ in range(8)))
    assert {answer.status_code for answer in answers} == {200}
    serials = {api.services.tokens.verify_refresh(answer.json()["refresh_token"], at_s=0).serial for answer in answers}
    assert serials == {1}


async def test_a_token_from_before_there_were_sign_ins_goes_on_once(api: Api) -> None:
    household = await registered(api)

    def older(at_s: int) -> Tokens:
        token = api.services.tokens.issue(
            account_id=household.id, role=Role.HOUSEHOLD, kind=TokenKind.REFRESH, at_s=at_s, life_seconds=86_400
        )
        return {"refresh_token": token}

    token = older(api.clock() // 1000 - 3600)
    successor = await _refresh(api, token)
    assert successor.status_code == 200
    api.clock.at_ms += 60_000
    assert (await _refresh(api, token)).status_code == 401
    assert not await _opens(api, successor.json())
    another = older(api.clock() // 1000 - 1800)
    assert (await household.player.post("/auth/logout-everywhere")).status_code == 204
    assert (await _refresh(api, another)).status_code == 401
    assert (await household.player.get("/account")).status_code == 200, "a minted token counters_of until it expires"


async def test_signing_out_ends_one_sign_in_on_every_process(api: Api) -> None:
    household = await registered(api)
    tv = await _login(api, household, device_name="TV")
    async with open_services(api.services.settings, clock=api.clock) as second:
        second.token_cache.principal_of(b"Bearer " + tv["access_token"].encode())
        await asyncio.wait_for(second.viewing.invalidations.subscribed.wait(), 5)
        assert (await api.http.post("/auth/logout", headers=_bearer(tv))).status_code == 204
        assert not await _opens(api, tv)
        async with asyncio.timeout(1):
            await _known_as_ended(second, tv)
    assert (await _refresh(api, tv)).status_code == 401
    assert await _opens(api, household.tokens)
    async with open_services(api.services.settings, clock=api.clock) as started_later:
        async with asyncio.timeout(1):
            await _known_as_ended(started_later, tv)


async def test_a_lost_television_is_found_in_the_list_and_ended(api: Api) -> None:
    household = await registered(api)
    await _with_pin(household)
    api.clock.at_ms += 1000
    tv = await _login(api, household, device_name="Living room")
    parent = {**_bearer(household.tokens)}
    unlocked = await api.http.post("/parental-controls/pin/verify", json={"pin": "4711"}, headers=parent)
    parent["X-PIN-Token"] = unlocked.json()["pin_token"]
    listed = (await api.http.get("/auth/sign-ins", headers=parent)).json()
    assert [(entry["device_name"], entry["is_current"]) for entry in listed] == [("Living room", False), (None, True)]
    assert listed[0]["created_at"] == listed[0]["refreshed_at"] == "2026-03-02T12:00:01.000Z"
    address = f"/auth/sign-ins/{listed[0]['id']}"
    for refused in (
        await api.http.delete(address, headers=_bearer(tv)),
        await (await registered(api)).parent.delete(address),
        await household.parent.delete("/auth/sign-ins/%00"),
        await api.http.get("/auth/sign-ins", headers=_bearer(tv)),
    ):
        assert refused.status_code == 403
    for _ in range(2):
        assert (await api.http.delete(address, headers=parent)).status_code == 204
    assert not await _opens(api, tv)
    left = (await api.http.get("/auth/sign-ins", headers=parent)).json()
    assert [entry["is_current"] for entry in left] == [True]


async def test_signing_out_everywhere_leaves_nothing_open(api: Api) -> None:
    household, stranger = await registered(api), await registered(api)
    await _with_pin(household)
    tv = await _login(api, household)
    added = await api.http.post("/auth/devices", json={"name": "phone", "pin": "4711"}, headers=_bearer(tv))
    phone = {"access_token": added.json()["token"]}
    verified = await api.http.post("/parental-controls/pin/verify", json={"pin": "4711"}, headers=_bearer(tv))
    assert await _opens(api, phone)
    assert (await api.http.post("/auth/logout-everywhere", headers=_bearer(tv))).status_code == 204
    for tokens in (household.tokens, tv, phone):
        assert not await _opens(api, tokens)
    assert (await _refresh(api, household.tokens)).status_code == 401
    unlock = {"X-PIN-Token": verified.json()["pin_token"]}
    assert (await household.player.get("/auth/sign-ins", headers=unlock)).status_code == 403
    assert await _opens(api, stranger.tokens)
    assert await _opens(api, await _login(api, household))


async def test_a_parent_device_signs_itself_out(api: Api) -> None:
    household = await registered(api)
    await _with_pin(household)
    added = await household.player.post("/auth/devices", json={"name": "phone", "pin": "4711"})
    phone = {"access_token": added.json()["token"]}
    assert (await api.http.post("/auth/logout", headers=_bearer(phone))).status_code == 204
    assert not await _opens(api, phone)
    minted = await household.player.post("/auth/logout")
    assert (minted.status_code, minted.json()["code"]) == (409, "no_sign_in")


async def test_a_new_password_ends_all_others(api: Api) -> None:
    household = await registered(api)
    await _with_pin(household)
    tv, mine = await _login(api, household), await _login(api, household)
    phone = {"access_token": (
        await household.player.post("/auth/devices", json={"name": "phone", "pin": "4711"})
    ).json()["token"]}  # fmt: skip
    wrong = await api.http.put(
        "/account/password",
        json={"current_password": "not the password", "new_password": NEW_PASSWORD},
        headers=_bearer(mine),
    )
    assert (wrong.status_code, wrong.json()["code"]) == (401, "wrong_password")
    assert await _opens(api, tv)
    body = {"current_password": PASSWORD, "new_password": NEW_PASSWORD}
    assert (await api.http.put("/account/password", json=body, headers=_bearer(mine))).status_code == 204
    assert await _opens(api, mine)
    assert (await _refresh(api, mine)).status_code == 200
    for tokens in (household.tokens, tv, phone):
        assert not await _opens(api, tokens)
    old = await api.http.post("/auth/login", json={"email": household.email, "password": PASSWORD})
    assert old.status_code == 401
    assert await _opens(api, await _login(api, household, password=NEW_PASSWORD))


async def test_wrong_passwords_lock_over_all_paths(api: Api) -> None:
    household = await registered(api)
    for number in range(10):
        path, body = (
            ("/account/password", {"current_password": f"wrong {number}", "new_password": NEW_PASSWORD}),
            ("/account/email", {"password": f"wrong {number}", "email": "kim@example.org"}),
        )[number % 2]
        assert (await household.player.put(path, json=body)).status_code == 401
    body = {"password": PASSWORD, "email": "kim@example.org"}
    locked = await household.player.put("/account/email", json=body)
    assert (locked.status_code, locked.json()["code"]) == (423, "locked")
    login = await api.http.post("/auth/login", json={"email": household.email, "password": PASSWORD})
    assert login.status_code == 423


async def test_a_new_address_signs_in_and_the_old_one_does_not(api: Api) -> None:
    household, other = await registered(api), await registered(api)
    body = {"password": PASSWORD, "email": other.email}
    taken = await household.player.put("/account/email", json=body)
    assert (taken.status_code, taken.json()["code"]) == (409, "email_taken")
    body["email"] = f"New.{household.email}"
    assert (await household.player.put("/account/email", json=body)).status_code == 204
    assert await _opens(api, household.tokens)
    assert (await household.player.get("/account")).json()["email"] == f"new.{household.email}"
    old = await api.http.post("/auth/login", json={"email": household.email, "password": PASSWORD})
    assert old.status_code == 401
    login = await api.http.post("/auth/login", json={"email": body["email"], "password": PASSWORD})
    assert login.json()["account_id"] == household.id


async def test_an_account_has_a_hundred_sign_ins_at_most(api: Api) -> None:
    household = await registered(api)
    newest = household.tokens
    for _ in range(100):
        api.clock.at_ms += 1000
        newest = await _login(api, household)
    assert not await _opens(api, household.tokens), "the one refreshed longest ago has ended"
    assert await _opens(api, newest)
    assert len((await household.parent.get("/auth/sign-ins")).json()) == 100


async def test_sign_ins_leave_with_their_account(api: Api) -> None:
    household = await registered(api)
    await PostgresErasure(api.services.engine).account(household.id, at_ms=api.clock())
    async with api.services.engine.connect() as database:
        left = select(tables.sign_ins.c.id).where(tables.sign_ins.c.account_id == household.id)
        assert (await database.execute(left)).all() == []
    assert (await _refresh(api, household.tokens)).status_code == 401
    assert (await household.player.get("/account")).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/account/password", {"current_password": PASSWORD, "new_password": "short"}),
        ("/account/email", {"password": PASSWORD, "email": "nowhere"}),
        ("/account/email", {"email": "kim@example.org"}),
    ],
)
async def test_what_makes_no_sense_is_refused(api: Api, path: str, body: dict[str, str]) -> None:
    household = await registered(api)
    assert (await household.player.put(path, json=body)).status_code == 422
