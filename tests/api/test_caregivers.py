"""Caregivers grant within their budget, see balances, and nothing else; on real servers."""

import asyncio
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.errors import Unauthenticated
from app.postgres_store.partitions import make_partitions
from tests.scenes.api import NOON, Api
from tests.scenes.households import PASSWORD, Household, registered

PIN = "4711"
DAY = 86_400_000


@pytest.fixture(autouse=True)
async def _partitions(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON)


@dataclass
class Grandma:
    """A household with a caregiver who may grant 60 minutes a day."""

    api: Api
    family: Household
    child: str
    device: dict[str, Any]

    def __post_init__(self) -> None:
        self.headers = {"Authorization": f"Bearer {self.device['token']}"}

    async def give(self, minutes: int | None, *, to: str | None = None, key: str | None = None) -> httpx.Response:
        path = f"/parental-controls/profiles/{to or self.child}/viewing-time/grant"
        headers = self.headers | ({} if key is None else {"Idempotency-Key": key})
        return await self.api.http.post(path, json={"minutes": minutes}, headers=headers)

    async def approve(self, request_id: str) -> httpx.Response:
        path = f"/parental-controls/profiles/{self.child}/requests/{request_id}/approve"
        return await self.api.http.post(path, headers=self.headers)

    async def asked(self, minutes: int, note: str | None = None) -> str:
        path = f"/parental-controls/profiles/{self.child}/requests"
        answer = await self.family.player.post(path, json={"minutes": minutes, "note": note})
        assert answer.status_code == 201, answer.text
        request_id: str = answer.json()["request_id"]
        return request_id

    async def state(self) -> dict[str, Any]:
        answer = await self.api.http.get("/parental-controls/caregiver", headers=self.headers)
        assert answer.status_code == 200, answer.text
        state: dict[str, Any] = answer.json()
        return state

    async def granted(self) -> int:
        """What the ledger of the child holds."""
        answer = await self.family.parent.get(f"/parental-controls/profiles/{self.child}/grants")
        return sum(grant["minutes"] or 0 for grant in answer.json()["grants"])


async def _grandma(api: Api, *, budget: int = 60) -> Grandma:
    family = await registered(api)
    answer = await family.player.post("/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    body = {"name": "Grandma", "pin": PIN, "role": "caregiver", "daily_grant_minutes": budget}
    made = await family.player.post("/auth/devices", json=body)
    assert made.status_code == 201, made.text
    return Grandma(api, family, await family.child(), made.json())


async def test_a_caregiver_gives_what_its_budget_has(api: Api) -> None:
    grandma = await _grandma(api)
    given = await grandma.give(30)
    assert (given.status_code, given.json()["granted_minutes"]) == (201, 30)
    refused = await grandma.give(60)
    assert (refused.status_code, refused.json()["code"]) == (403, "budget_exhausted")
    assert refused.json()["left_minutes"] == 30
    assert (await grandma.give(None)).json()["code"] == "budget_exhausted"
    assert (await grandma.give(30)).status_code == 201
    assert (await grandma.give(15)).json()["left_minutes"] == 0
    assert await grandma.granted() == 60
    entry = (await grandma.family.parent.get(f"/parental-controls/profiles/{grandma.child}/grants")).json()["grants"][0]
    assert (entry["granted_by"], entry["is_remote"]) == (f"device:{grandma.device['id']}", True)


async def test_the_budget_is_for_all_children_of_a_day_of_the_account(api: Api) -> None:
    grandma = await _grandma(api)
    brother = await grandma.family.child(timezone="America/New_York")
    assert (await grandma.give(30)).status_code == 201
    assert (await grandma.give(60, to=brother)).json()["left_minutes"] == 30
    api.clock.at_ms = NOON + 11 * 3_600_000 - 1  # just before midnight in Oslo
    assert (await grandma.give(60, to=brother)).status_code == 403
    state = await grandma.state()
    assert (state["left_minutes"], state["renews_at"]) == (30, "2026-03-02T23:00:00.000Z")
    api.clock.at_ms += 1
    assert (await grandma.give(60, to=brother)).status_code == 201


async def test_what_parents_give_or_take_back_changes_no_budget(api: Api) -> None:
    grandma = await _grandma(api)
    path = f"/parental-controls/profiles/{grandma.child}"
    assert (await grandma.family.parent.post(f"{path}/viewing-time/grant", json={"minutes": 60})).status_code == 201
    given = (await grandma.give(60)).json()
    revoked = await grandma.family.parent.delete(f"{path}/grants/{given['grant_id']}")
    assert revoked.status_code == 200
    assert (await grandma.give(15)).json()["left_minutes"] == 0, "the child may have used it"


async def test_a_caregiver_approves_within_the_budget(api: Api) -> None:
    grandma = await _grandma(api, budget=45)
    first = await grandma.asked(30, "please")
    api.clock.at_ms += 1
    second = await grandma.asked(30, "more")
    state = await grandma.state()
    assert [request["request_id"] for request in state["requests"]] == [first, second]
    assert "note" not in state["requests"][0], "it is for the parents"
    answered = await grandma.approve(first)
    assert (answered.status_code, answered.json()["status"]) == (200, "approved")
    assert (await grandma.approve(first)).status_code == 200, "a repeat gives nothing more, and costs nothing"
    refused = await grandma.approve(second)
    assert (refused.status_code, refused.json()["left_minutes"]) == (403, 15)
    assert await grandma.granted() == 30
    assert [request["request_id"] for request in (await grandma.state())["requests"]] == [second]


async def test_parallel_grants_and_approvals_stay_within_the_budget(api: Api) -> None:
    """To several children at once, whose rows do not exclude each other."""
    grandma = await _grandma(api, budget=90)
    others = [await grandma.family.child() for _ in range(3)]
    asked = [await grandma.asked(15, f"please {number}") for number in range(4)]
    answers = await asyncio.gather(
        *(grandma.give(15, to=child) for child in [grandma.child, *others] for _ in range(4)),
        *(grandma.approve(request_id) for request_id in asked),
    )
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 201, 403} or set(codes) == {201, 403}
    assert sum(code < 300 for code in codes) == 6
    state = await grandma.state()
    assert (state["granted_today_minutes"], state["left_minutes"]) == (90, 0)


async def test_parallel_repeats_with_one_key_cost_the_budget_once(api: Api) -> None:
    grandma = await _grandma(api)
    key = uuid4().hex
    answers = await asyncio.gather(*(grandma.give(30, key=key) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert (await grandma.give(30)).status_code == 201
    repeat = await grandma.give(30, key=key)
    assert repeat.status_code == 201, "the first answer, though nothing is left"
    assert await grandma.granted() == 60


async def test_a_grant_that_did_not_fit_leaves_its_key_free(api: Api) -> None:
    grandma = await _grandma(api, budget=30)
    assert (await grandma.give(60, key="k")).status_code == 403
    assert (await grandma.give(30, key="k")).status_code == 201


async def test_parents_see_and_revoke_caregivers(api: Api) -> None:
    grandma = await _grandma(api)
    await grandma.give(15)
    [listed] = (await grandma.family.parent.get("/auth/devices")).json()
    assert listed == {
        "id": grandma.device["id"],
        "name": "Grandma",
        "role": "caregiver",
        "daily_grant_minutes": 60,
        "granted_today_minutes": 15,
        "created_at": "2026-03-02T12:00:00.000Z",
        "expires_at": "2026-08-29T12:00:00.000Z",
    }
    assert (await grandma.family.parent.delete(f"/auth/devices/{listed['id']}")).status_code == 204
    assert (await grandma.give(15)).status_code == 401
    assert (await api.http.get("/parental-controls/caregiver", headers=grandma.headers)).status_code == 401


async def test_a_revocation_that_a_process_has_not_heard_of_stops_grants(api: Api) -> None:
    """The transaction of the grant looks, not only the process."""
    grandma = await _grandma(api)
    await api.services.devices._store.revoke(grandma.family.id, grandma.device["id"], actor="parent", at_ms=api.clock())
    refused = await grandma.give(15)
    assert (refused.status_code, refused.json()["code"]) == (401, Unauthenticated.code)
    assert await grandma.granted() == 0


async def test_a_caregiver_sees_balances_and_nothing_else(api: Api) -> None:
    grandma = await _grandma(api)
    request_id = await grandma.asked(15)
    child = f"/parental-controls/profiles/{grandma.child}"
    balance = await api.http.get(f"/viewing-time/balance/{grandma.child}", headers=grandma.headers)
    assert (balance.status_code, balance.json()["has_limits"]) == (200, True)
    refused = [
        await api.http.get("/profiles", headers=grandma.headers),
        await api.http.get(f"{child}/viewing-time", headers=grandma.headers),
        await api.http.get(f"{child}/grants", headers=grandma.headers),
        await api.http.get(f"{child}/requests", headers=grandma.headers),
        await api.http.get(f"{child}/history", headers=grandma.headers),
        await api.http.post(f"{child}/requests/{request_id}/deny", headers=grandma.headers),
        await api.http.get(f"/viewing-time/why/{grandma.child}", headers=grandma.headers),
        await api.http.get(f"/viewing-time/events/{grandma.child}", headers=grandma.headers),
        await api.http.post("/parental-controls/pin/verify", json={"pin": PIN}, headers=grandma.headers),
    ]
    assert [answer.status_code for answer in refused] == [403] * len(refused)
    stranger = await (await registered(api)).child()
    assert (await api.http.get(f"/viewing-time/balance/{stranger}", headers=grandma.headers)).status_code == 403
    assert (await grandma.give(15, to=stranger)).json()["code"] == "profile_access_denied"


async def test_the_pin_makes_no_parent_of_a_caregiver(api: Api) -> None:
    grandma = await _grandma(api, budget=15)
    path = f"/parental-controls/profiles/{grandma.child}/viewing-time/grant"
    answer = await api.http.post(path, json={"minutes": 60, "pin": PIN}, headers=grandma.headers)
    assert (answer.status_code, answer.json()["code"]) == (403, "budget_exhausted")


@pytest.mark.parametrize(
    "fields",
    [
        {"role": "caregiver"},
        {"role": "caregiver", "daily_grant_minutes": None},
        {"daily_grant_minutes": 30},
        {"role": "caregiver", "daily_grant_minutes": 10},
        {"role": "caregiver", "daily_grant_minutes": 20},
        {"role": "caregiver", "daily_grant_minutes": 495},
        {"role": "admin"},
    ],
)
async def test_a_budget_belongs_to_caregivers(api: Api, fields: dict[str, object]) -> None:
    family = await registered(api)
    answer = await family.player.post("/auth/devices", json={"name": "Grandma", "pin": PIN, **fields})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
