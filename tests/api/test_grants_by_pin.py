"""Grants from a player with the parents' PIN."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered

PIN = "4711"


@dataclass
class Home:
    household: Household
    child: str

    @property
    def path(self) -> str:
        return f"/parental-controls/profiles/{self.child}"

    async def give(self, headers: dict[str, str] | None = None, **proof: Any) -> httpx.Response:
        body = {"minutes": 15, **proof}
        return await self.household.player.post(f"{self.path}/viewing-time/grant", json=body, headers=headers)

    async def unlock(self) -> str:
        answer = await self.household.player.post("/parental-controls/pin/verify", json={"pin": PIN})
        token: str = answer.json()["pin_token"]
        return token

    async def ledger(self) -> list[tuple[str, bool]]:
        answer = await self.household.parent.get(f"{self.path}/grants")
        return [(grant["granted_by"], grant["is_remote"]) for grant in answer.json()["grants"]]


@pytest.fixture
async def home(api: Api) -> Home:
    household = await registered(api)
    child = await household.child()
    answer = await household.player.post("/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return Home(household, child)


async def test_the_pin_in_the_body_gives_time_on_the_player(home: Home) -> None:
    answer = await home.give(pin=PIN)
    assert answer.status_code == 201, answer.text
    assert await home.ledger() == [("parent", False)]


async def test_what_the_pin_unlocked_gives_time_from_header_or_body(home: Home) -> None:
    token = await home.unlock()
    assert (await home.give({"X-PIN-Token": token})).status_code == 201
    assert (await home.give(pin_token=token)).status_code == 201
    assert await home.ledger() == [("parent", False)] * 2


async def test_a_parents_token_needs_no_pin(home: Home) -> None:
    answer = await home.household.parent.post(f"{home.path}/viewing-time/grant", json={"minutes": 15})
    assert answer.status_code == 201
    assert await home.ledger() == [("parent", True)]


async def test_without_or_with_a_wrong_pin_nothing_is_given(home: Home) -> None:
    without = await home.give()
    assert (without.status_code, without.json()["code"]) == (403, "pin_required")
    wrong = await home.give(pin="0000")
    assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong_pin")
    for token in ("made-up", ""):
        assert (await home.give(pin_token=token)).status_code == 403
    for no_pin in ("471", "47110", "٣٣٣٣", "", "4711\n", 4711, "x" * 73):
        assert (await home.give(pin=no_pin)).status_code == 422
    assert await home.ledger() == []


async def test_wrong_pins_here_lock_the_pin_everywhere(home: Home) -> None:
    statuses = [(await home.give(pin="0000")).status_code for _ in range(6)]
    assert statuses[-1] == 423
    locked = await home.give(pin=PIN)
    assert locked.status_code == 423
    assert int(locked.headers["Retry-After"]) > 0
    assert (await home.household.player.post("/parental-controls/pin/verify", json={"pin": PIN})).status_code == 423
    assert await home.ledger() == []


async def test_an_unlocked_player_answers_requests_and_takes_grants_back(home: Home) -> None:
    headers = {"X-PIN-Token": await home.unlock()}
    player = home.household.player
    request_id = (await player.post(f"{home.path}/requests", json={"minutes": 30})).json()["request_id"]
    assert (await player.post(f"{home.path}/requests/{request_id}/approve")).status_code == 403
    approved = await player.post(f"{home.path}/requests/{request_id}/approve", headers=headers)
    assert approved.status_code == 200, approved.text
    assert await home.ledger() == [("parent", False)]
    grant_path = f"{home.path}/grants/{approved.json()['grant_id']}"
    assert (await player.delete(grant_path)).status_code == 403
    assert (await player.delete(grant_path, headers=headers)).status_code == 200


async def test_a_repeat_needs_the_proof_again(home: Home) -> None:
    key = {"Idempotency-Key": "tap-1"}
    first = await home.give(key, pin=PIN)
    assert (await home.give(key)).status_code == 403
    assert (await home.give({**key, "X-PIN-Token": await home.unlock()})).json() == first.json()
    assert len(await home.ledger()) == 1
