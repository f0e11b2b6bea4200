"""Requests for extra time and the parents' answers."""

import asyncio
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import uuid4

import httpx
import pytest
from sqlalchemy import select

from app.auth.tokens import Role
from app.domain.policy import Grant
from app.domain.viewing_day import day_number_of
from app.postgres_store import tables
from tests.scenes.api import NOON, Api

pytestmark = pytest.mark.usefixtures("partitions")

HOUR = 3_600_000
TODAY = date(2026, 3, 2)


@dataclass
class Scene:
    api: Api
    account: str
    child: str
    player: httpx.AsyncClient
    parent: httpx.AsyncClient

    @property
    def path(self) -> str:
        return f"/parental-controls/profiles/{self.child}/requests"

    async def ask(self, minutes: Any = 30, **fields: Any) -> httpx.Response:
        return await self.player.post(self.path, json={"minutes": minutes, **fields})

    async def asked(self, minutes: int = 30) -> str:
        answer = await self.ask(minutes)
        assert answer.status_code == 201, answer.text
        request_id: str = answer.json()["request_id"]
        return request_id

    async def answer(self, request_id: str, what: str) -> httpx.Response:
        return await self.parent.post(f"{self.path}/{request_id}/{what}")

    async def listed(self) -> list[dict[str, Any]]:
        answer = await self.player.get(self.path)
        assert answer.status_code == 200, answer.text
        requests: list[dict[str, Any]] = answer.json()["requests"]
        return requests

    async def grants(self) -> list[dict[str, Any]]:
        answer = await self.parent.get(f"/parental-controls/profiles/{self.child}/grants")
        grants: list[dict[str, Any]] = answer.json()["grants"]
        return grants


async def family_of(api: Api) -> Scene:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 24 * HOUR)
    return Scene(api, account, child, api.signed_in(account, Role.HOUSEHOLD), api.signed_in(account))


@pytest.fixture
async def family(api: Api) -> Scene:
    return await family_of(api)


async def test_a_request_waits_for_an_answer(family: Scene) -> None:
    answer = await family.ask(30, note="Only the end of the film 🎬")
    assert answer.status_code == 201
    request = answer.json()
    assert request == {
        "request_id": request["request_id"],
        "minutes": 30,
        "note": "Only the end of the film 🎬",
        "day": "2026-03-02",
        "status": "open",
        "requested_at": "2026-03-02T12:00:00.000Z",
        "expires_at": "2026-03-03T05:00:00.000Z",
        "decided_at": None,
        "grant_id": None,
    }
    assert await family.listed() == [request]
    assert (await family.parent.get(family.path)).json() == {
        "requests": [request],
        "next_cursor": None,
        "server_time": "2026-03-02T12:00:00.000Z",
    }
    assert await family.grants() == []


async def test_approving_gives_the_time_once(family: Scene) -> None:
    request_id = await family.asked(60)
    family.api.clock.at_ms += HOUR
    approved = await family.answer(request_id, "approve")
    assert approved.status_code == 200
    body = approved.json()
    assert (body["status"], body["decided_at"]) == ("approved", "2026-03-02T13:00:00.000Z")
    (grant,) = await family.grants()
    assert (grant["grant_id"], grant["minutes"], grant["day"]) == (body["grant_id"], 60, "2026-03-02")
    (policy,) = await family.api.services.shared_policies.load([family.child])
    assert policy is not None
    assert (policy.version, policy.grants) == (2, (Grant(day_number_of(TODAY), 60),))
    family.api.clock.at_ms += HOUR
    assert (await family.answer(request_id, "approve")).json() == body
    assert len(await family.grants()) == 1


async def test_approving_at_the_same_time_gives_the_time_once(family: Scene) -> None:
    request_id = await family.asked()
    answers = await asyncio.gather(*(family.answer(request_id, "approve") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["grant_id"] for answer in answers}) == 1
    assert len(await family.grants()) == 1


async def test_denying_gives_nothing(family: Scene) -> None:
    request_id = await family.asked()
    denied = await family.answer(request_id, "deny")
    assert (denied.status_code, denied.json()["status"], denied.json()["grant_id"]) == (200, "denied", None)
    assert (await family.answer(request_id, "deny")).json() == denied.json()
    assert await family.grants() == []


@pytest.mark.parametrize(("first", "second"), [("approve", "deny"), ("deny", "approve")])
async def test_an_answer_is_final(family: Scene, first: str, second: str) -> None:
    request_id = await family.asked()
    answered = (await family.answer(request_id, first)).json()
    changed = await family.answer(request_id, second)
    assert (changed.status_code, changed.json()["code"]) == (409, "already_decided")
    assert await family.listed() == [answered]


@pytest.mark.parametrize("what", ["approve", "deny"])
async def test_a_request_ends_with_its_day(family: Scene, what: str) -> None:
    request_id = await family.asked()
    family.api.clock.at_ms = NOON + 17 * HOUR
    assert [request["status"] for request in await family.listed()] == ["expired"]
    late = await family.answer(request_id, what)
    assert (late.status_code, late.json()["code"]) == (409, "already_decided")
    assert await family.grants() == []


async def test_five_a_day(family: Scene) -> None:
    answers = await asyncio.gather(*(family.ask(note=f"please, {turn}") for turn in range(7)))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [429] * 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "too_many_requests"
    assert refused.headers["Retry-After"] == str(17 * 3600)
    await family.answer((await family.listed())[0]["request_id"], "deny")
    assert (await family.ask()).status_code == 429


async def test_a_new_day_has_five_again(family: Scene) -> None:
    for turn in range(5):
        assert (await family.ask(note=f"please, {turn}")).status_code == 201
    assert (await family.ask()).status_code == 429
    family.api.clock.at_ms = NOON + 17 * HOUR
    assert (await family.ask()).status_code == 201


async def test_a_request_that_is_tapped_twice_is_one(family: Scene) -> None:
    answers = await asyncio.gather(*(family.ask(30, note="please") for _ in range(5)))
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["request_id"] for answer in answers}) == 1
    assert len(await family.listed()) == 1
    other = [(await family.ask(30)), (await family.ask(15, note="please")), (await family.ask(30, note="now"))]
    assert len({answer.json()["request_id"] for answer in [answers[0], *other]}) == 4


async def test_a_request_after_the_answer_or_after_a_minute_is_a_new_one(family: Scene) -> None:
    first = await family.asked()
    await family.answer(first, "deny")
    second = await family.asked()
    family.api.clock.at_ms += 59_999
    assert await family.asked() == second
    family.api.clock.at_ms += 1
    third = await family.asked()
    assert len({first, second, third}) == 3


async def test_a_request_with_a_key_gets_the_first_answer(family: Scene) -> None:
    def ask(key: str, **fields: Any) -> Any:
        return family.player.post(family.path, json={"minutes": 30} | fields, headers={"Idempotency-Key": key})

    first = await ask("a")
    await family.answer(first.json()["request_id"], "deny")
    family.api.clock.at_ms += 23 * HOUR // 2
    again = await ask("a")
    assert (again.status_code, again.json()["request_id"]) == (201, first.json()["request_id"])
    assert (await ask("a", minutes=15)).json()["code"] == "idempotency_key_reused"
    assert (await ask("a", note="please")).status_code == 422
    assert (await ask("b")).json()["request_id"] != first.json()["request_id"]
    assert len(await family.listed()) == 2


async def test_an_approved_request_gives_its_minutes_to_a_child_over_its_limit(family: Scene) -> None:
    """Two hours are used up, and the parents have made them one meanwhile."""
    await family.api.rows.balance(family.child, TODAY, used_ms=2 * HOUR)
    settings = f"/parental-controls/profiles/{family.child}/viewing-time"
    change = {"weekday_limit_minutes": 60, "weekend_limit_minutes": 60}
    assert (await family.parent.put(settings, json=change, headers={"If-Match": "*"})).status_code == 200
    await family.answer(await family.asked(15), "approve")
    (grant,) = await family.grants()
    assert (grant["minutes"], grant["covered_seconds"]) == (15, 3600)
    assert (
        await family.parent.delete(f"/parental-controls/profiles/{family.child}/grants/{grant['grant_id']}")
    ).json()["remaining_seconds"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"minutes": None},
        {"minutes": 20},
        {"minutes": "15"},
        {"minutes": 15, "note": "x" * 201},
        {"minutes": 15, "note": 7},
        {"minutes": 15, "note": "\0"},
        {"minutes": 15, "day": "2026-03-05"},
    ],
)
async def test_refuses_what_is_no_request(family: Scene, body: dict[str, Any]) -> None:
    assert (await family.player.post(family.path, json=body)).status_code == 422
    assert await family.listed() == []


async def test_nobody_elses_children(api: Api, family: Scene) -> None:
    stranger = await family_of(api)
    request_id = await family.asked()
    for path in (family.path, f"/parental-controls/profiles/{uuid4()}/requests"):
        assert (await stranger.player.post(path, json={"minutes": 15})).status_code == 403
        assert (await stranger.player.get(path)).status_code == 403
        assert (await stranger.parent.post(f"{path}/{request_id}/approve")).status_code == 403
    for unknown in (request_id, str(uuid4()), "x", "%00"):
        assert (await stranger.answer(unknown, "approve")).status_code == 404
    assert [request["status"] for request in await family.listed()] == ["open"]


async def test_players_ask_and_parents_answer(family: Scene) -> None:
    request_id = await family.asked()
    for what in ("approve", "deny"):
        assert (await family.player.post(f"{family.path}/{request_id}/{what}")).status_code == 403
    adult = await family.api.rows.adult(family.account)
    asked = await family.player.post(f"/parental-controls/profiles/{adult}/requests", json={"minutes": 15})
    assert (asked.status_code, asked.json()["code"]) == (404, "no_config")


async def test_the_audit_log_knows_no_notes(family: Scene) -> None:
    request_id = (await family.ask(note="pretty please")).json()["request_id"]
    await family.answer(request_id, "deny")
    log = tables.audit_log.c
    async with family.api.services.engine.connect() as database:
        found = await database.execute(
            select(log.actor, log.action, log.detail).where(log.profile_id == family.child).order_by(log.id)
        )
        assert list(found) == [
            ("household", "time_requested", {"request_id": request_id, "minutes": 30}),
            ("parent", "request_denied", {"request_id": request_id}),
        ]
