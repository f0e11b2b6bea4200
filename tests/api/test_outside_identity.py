"""Families whose people sign in at the platform: its tokens, its ids, and never a password of ours."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.auth.pins import FRESH_SECONDS
from app.auth.tokens import Role
from app.domain.external_ids import is_uuid
from app.embedded.valkey import Valkey
from tests.builders import settings_for
from tests.scenes.api import Api, SetClock, opened
from tests.scenes.households import PASSWORD, registered
from tests.security.signers import Signer

ISSUER = "https://identity.example.org"
KEY = Signer("one", {})
OSLO = {"timezone": "Europe/Oslo"}
PIN = {"new_pin": "4711"}


@dataclass
class Platform:
    """The API, and the identity service that signs its players and parents in."""

    api: Api

    def token(self, account: str, **claims: object) -> str:
        now_s = self.api.clock() // 1000
        said = {"iss": ISSUER, "aud": "hourglass", "sub": account, "iat": now_s, "exp": now_s + 3600, **claims}
        return KEY.sign({name: value for name, value in said.items() if value is not None})

    def signed_in(self, account: str, **claims: object) -> httpx.AsyncClient:
        return self.with_token(self.token(account, **claims))

    def with_token(self, token: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(
            transport=self.api.http._transport,
            base_url=self.api.http.base_url,
            headers={"Authorization": f"Bearer {token}"},
        )

    @property
    def service(self) -> httpx.AsyncClient:
        return self.api.signed_in("provisioning", Role.SERVICE)

    async def made(self, account: str, *children: str) -> dict[str, Any]:
        path = f"/platform/accounts/{account}"
        assert (await self.service.put(path, json=OSLO)).status_code == 201
        for child in children:
            answer = await self.service.put(f"{path}/profiles/{child}", json={"name": "Ada", "is_kids": True})
            assert answer.status_code == 201
        shown: dict[str, Any] = (await self.service.get(path)).json()
        return shown


@asynccontextmanager
async def platform_of(
    database_url: str, valkey: Valkey, folder: Path, clock: SetClock, **settings: Any
) -> AsyncIterator[Platform]:
    key_set = folder / "jwks.json"
    key_set.write_text(json.dumps({"keys": [KEY.shown()]}))
    outside: dict[str, Any] = {
        "outside_jwks_file": key_set,
        "outside_issuer": ISSUER,
        "outside_role_claim": "role",
        "outside_roles": "guardian=parent",
        **settings,
    }
    chosen = settings_for(database_url=database_url, redis_url=valkey.url, **outside)
    async with opened(chosen, clock) as api:
        title = [{"id": "moon-pirates", "name": "Moon Pirates", "is_educational": False}]
        await api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=title)
        yield Platform(api)


@pytest.fixture
async def platform(database_url: str, valkey: Valkey, tmp_path: Path, clock: SetClock) -> AsyncIterator[Platform]:
    async with platform_of(database_url, valkey, tmp_path, clock) as found:
        yield found


@pytest.fixture
async def welcoming(database_url: str, valkey: Valkey, tmp_path: Path, clock: SetClock) -> AsyncIterator[Platform]:
    """Accounts are made when they are first seen."""
    async with platform_of(database_url, valkey, tmp_path, clock, outside_provision=True) as found:
        yield found


def _beat(profile: str) -> dict[str, object]:
    return {"profile_id": profile, "title_id": "moon-pirates", "device_id": "tv"}


@pytest.mark.parametrize("account", ["auth0|5f7c8ec7", "kim@example.org", pytest.param(str(uuid4()), id="uuid"), "æ"])
async def test_a_token_names_its_account_by_the_platforms_id(platform: Platform, account: str) -> None:
    player = platform.signed_in(account)
    is_ours = is_uuid(account)  # whether there is such an account is for each call to find out
    assert (await player.post("/viewing-time/heartbeat", json=_beat("child"))).status_code == (403 if is_ours else 401)
    assert (await player.get("/profiles")).status_code == (200 if is_ours else 401)
    shown = await platform.made(account, "child")
    for _ in range(2):
        answer = await player.post("/viewing-time/heartbeat", json=_beat("child"))
        assert answer.status_code == 200, answer.text
    assert [one["external_id"] for one in (await player.get("/profiles")).json()] == ["child"]
    assert (await player.get("/account/export")).json()["code"] == "pin_required"
    parent = platform.signed_in(account, role="guardian")
    assert (await parent.get("/account/export")).json()["account"]["id"] == shown["account_id"]
    assert (await platform.signed_in(account.upper() + "x").get("/profiles")).status_code == 401


async def test_the_hot_path_asks_for_an_unknown_account_as_well(platform: Platform) -> None:
    """Through the endpoint of the connection, which waits for nothing by itself."""
    await platform.made("hot|1", "child")
    heartbeat = platform.api.services.viewing.heartbeat
    answered: list[Any] = []
    done = asyncio.Event()

    class Reply:
        def answer(self, body: bytes) -> None:
            answered.append(json.loads(body))
            done.set()

        def refuse(self, error: Exception) -> None:
            answered.append(error)
            done.set()

    header = b"Bearer " + platform.token("hot|1").encode()
    session = None
    for _ in range(3):
        done.clear()
        beat = _beat("child") | ({"session_id": session} if session else {})
        heartbeat.begin(header, json.dumps(beat).encode(), Reply())
        await asyncio.wait_for(done.wait(), 10)
        session = answered[-1]["session_id"]
    assert len({answer["session_id"] for answer in answered}) == 1


async def test_an_own_token_and_a_uuid_cost_no_statement(platform: Platform) -> None:
    """A warm beat under our ids asks neither for the account nor for the profile."""
    household = await registered(platform.api)
    child = await household.child()
    ids = platform.api.services.external_ids
    nobody: Any = None
    ids._accounts._loads = ids._profiles._loads = nobody  # whoever asks, fails
    for client in (household.player, platform.signed_in(household.id)):
        assert (await client.post("/viewing-time/heartbeat", json=_beat(child))).status_code == 200
        assert (await client.get(f"/viewing-time/balance/{child}")).status_code == 200
        controls = f"/parental-controls/profiles/{child}/requests"
        assert (await client.get(controls)).status_code == 200


async def test_an_unknown_account_is_made_on_first_sight_only_where_that_is_wanted(
    platform: Platform, welcoming: Platform
) -> None:
    assert (await platform.signed_in("new|1").get("/profiles")).status_code == 401
    for account in ("new|1", str(uuid4())):
        player = welcoming.signed_in(account, zoneinfo="Asia/Tokyo")
        found = await asyncio.gather(*(player.get("/profiles") for _ in range(5)))
        assert [answer.status_code for answer in found] == [200] * 5
        shown = (await welcoming.service.get(f"/platform/accounts/{account}")).json()
        assert (shown["external_id"], shown["timezone"]) == (account, "Asia/Tokyo")
    damaged = welcoming.signed_in("new|2", exp=1)
    assert (await damaged.get("/profiles")).status_code == 401
    assert (await welcoming.service.get("/platform/accounts/new|2")).status_code == 404
    assert (await welcoming.signed_in("operator|1", role="admin").get("/profiles")).status_code == 403
    assert (await welcoming.service.get("/platform/accounts/operator|1")).status_code == 404


@pytest.mark.parametrize("account", ["gone|1", pytest.param(str(uuid4()), id="uuid")])
async def test_a_token_from_before_an_erasure_brings_nothing_back(welcoming: Platform, account: str) -> None:
    clock = welcoming.api.clock
    before, undated = welcoming.signed_in(account), welcoming.signed_in(account, iat=None)
    assert (await before.get("/profiles")).status_code == 200
    first = (await welcoming.service.get(f"/platform/accounts/{account}")).json()["account_id"]
    clock.at_ms += 5000
    assert (await welcoming.service.delete(f"/platform/accounts/{account}")).status_code == 200
    for client in (before, undated):
        assert (await client.get("/profiles")).status_code == 401
    assert (await welcoming.service.get(f"/platform/accounts/{account}")).status_code == 404
    clock.at_ms += 5000
    after = welcoming.signed_in(account)
    assert (await after.get("/profiles")).json() == []
    again = (await welcoming.service.get(f"/platform/accounts/{account}")).json()["account_id"]
    assert again != first


@pytest.mark.parametrize("account", ["back|1", pytest.param(str(uuid4()), id="uuid")])
async def test_an_account_that_is_made_again_is_opened_by_its_tokens(platform: Platform, account: str) -> None:
    shown = await platform.made(account, "child")
    token = platform.token(account)
    player = platform.with_token(token)
    assert (await player.post("/viewing-time/heartbeat", json=_beat("child"))).status_code == 200
    await platform.service.delete(f"/platform/accounts/{account}")
    assert (await player.post("/viewing-time/heartbeat", json=_beat("child"))).status_code == 401
    again = await platform.made(account, "child")
    assert again["account_id"] != shown["account_id"]
    answer = await player.post("/viewing-time/heartbeat", json=_beat("child"))
    assert (answer.status_code, answer.json()["used_seconds"]) == (200, 0)


# --- a sign-in stands for the password


def _ago(platform: Platform, seconds: int) -> int:
    return platform.api.clock() // 1000 - seconds


async def test_a_fresh_sign_in_sets_and_resets_the_pin(platform: Platform) -> None:
    await platform.made("pin|1")
    for auth_time in (None, _ago(platform, FRESH_SECONDS + 1), _ago(platform, -61), "now", True, 0):
        stale = platform.signed_in("pin|1", auth_time=auth_time)
        for path in ("/parental-controls/pin", "/parental-controls/pin/reset"):
            refusal = await stale.post(path, json=PIN)
            assert (refusal.status_code, refusal.json()["code"]) == (401, "fresh_sign_in_required")
            assert 'error="insufficient_user_authentication", max_age=300' in refusal.headers["WWW-Authenticate"]
    fresh = platform.signed_in("pin|1", auth_time=_ago(platform, FRESH_SECONDS))
    assert (await fresh.post("/parental-controls/pin", json=PIN)).json()["has_pin"] is True
    assert (await fresh.post("/parental-controls/pin", json={"new_pin": "0815"})).status_code == 422, (
        "now it is changed"
    )
    for _ in range(5):
        await fresh.post("/parental-controls/pin/verify", json={"pin": "0000"})
    assert (await fresh.post("/parental-controls/pin/verify", json={"pin": "4711"})).status_code == 423
    assert (await fresh.post("/parental-controls/pin/reset", json={"new_pin": "0815"})).status_code == 200
    assert (await fresh.post("/parental-controls/pin/verify", json={"pin": "0815"})).status_code == 200


async def test_there_is_no_password_to_guess(platform: Platform) -> None:
    await platform.made("pin|2")
    player = platform.signed_in("pin|2")
    guess = await player.post("/parental-controls/pin", json={**PIN, "password": ""})
    assert (guess.status_code, guess.json()["code"]) == (401, "wrong_password")
    login = {"email": "pin|2", "password": "guess"}
    assert (await platform.api.http.post("/auth/login", json=login)).status_code == 422


async def test_a_fresh_sign_in_of_another_account_proves_nothing(platform: Platform) -> None:
    await platform.made("pin|3")
    await platform.made("pin|4")
    fresh = platform.signed_in("pin|4", auth_time=_ago(platform, 1))
    assert (await fresh.post("/parental-controls/pin", json=PIN)).status_code == 200
    other = await platform.signed_in("pin|3").get("/parental-controls/pin/status")
    assert other.json()["has_pin"] is False


async def test_our_own_tokens_prove_no_sign_in(platform: Platform) -> None:
    household = await registered(platform.api)
    needed = await household.player.post("/parental-controls/pin", json=PIN)
    assert (needed.status_code, needed.json()["errors"][0]["pointer"]) == (422, "/password")
    assert (await household.parent.request("DELETE", "/account", json={})).status_code == 422
    with_password = await household.player.post("/parental-controls/pin", json={**PIN, "password": PASSWORD})
    assert with_password.status_code == 200


async def test_a_fresh_sign_in_of_a_parent_erases_the_account(platform: Platform) -> None:
    await platform.made("leaving|1", "child")
    household = platform.signed_in("leaving|1", auth_time=_ago(platform, 1))
    assert (await household.request("DELETE", "/account", json={})).json()["code"] == "pin_required"
    stale = platform.signed_in("leaving|1", role="guardian", auth_time=_ago(platform, 3600))
    assert (await stale.request("DELETE", "/account", json={})).json()["code"] == "fresh_sign_in_required"
    fresh = platform.signed_in("leaving|1", role="guardian", auth_time=_ago(platform, 1))
    erased = await fresh.request("DELETE", "/account", json={})
    assert (erased.status_code, erased.json()["counts"]["accounts"]) == (200, 1)
    for client in (household, stale, fresh):
        assert (await client.get("/profiles")).status_code == 401


async def test_a_device_of_a_parent_who_signs_in_elsewhere(platform: Platform) -> None:
    """From the PIN on, everything is as for any other family."""
    await platform.made("device|1", "child")
    fresh = platform.signed_in("device|1", auth_time=_ago(platform, 1))
    await fresh.post("/parental-controls/pin", json=PIN)
    device = (await fresh.post("/auth/devices", json={"name": "phone", "pin": "4711"})).json()
    phone = platform.with_token(device["token"])
    assert (await phone.get("/parental-controls/profiles/child/viewing-time")).status_code == 200
    assert (
        await phone.post("/parental-controls/profiles/child/viewing-time/grant", json={"minutes": 15})
    ).status_code == 201


async def test_a_claim_of_a_token_puts_its_account_into_a_market(
    database_url: str, valkey: Valkey, tmp_path: Path, clock: SetClock
) -> None:
    file = tmp_path / "markets.toml"
    file.write_text("[markets.no]\n[markets.se]\n", encoding="utf-8")
    settings = {"markets_file": file, "outside_market_claim": "country", "outside_provision": True}
    async with platform_of(database_url, valkey, tmp_path, clock, **settings) as platform:
        known, new = f"auth0|{uuid4()}", f"auth0|{uuid4()}"
        [child] = (await platform.made(known, "ada"))["profiles"]
        before = await platform.api.services.postgres_policies.load([child["profile_id"]])

        async def market_after(account: str, **claims: object) -> object:
            assert (await platform.signed_in(account, **claims).get("/profiles")).status_code == 200
            return (await platform.service.get(f"/platform/accounts/{account}")).json()["market"]

        for account in (known, new):
            assert await market_after(account, country="no") == "no"
            assert await market_after(account) == "no", "a token without the claim changes nothing"
            for wrong in (7, "", "x" * 51, "n\no"):
                assert await market_after(account, country=wrong) == "no"
            assert await market_after(account, country="se") == "se"
        [policy] = await platform.api.services.postgres_policies.load([child["profile_id"]])
        assert policy is not None
        assert before[0] is not None
        assert (policy.market, policy.version) == ("se", before[0].version + 2)
