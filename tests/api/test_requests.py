"""A child asks for extra time, a parent answers."""

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
from app.postgres_store.partitions import make_partitions
from tests.api.conftest import NOON, Api

HOUR = 3_600_000
TODAY = date(2026, 3, 2)


@pytest.fixture(autouse=True)
async def _partitions(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON)


@dataclass
class Family:
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


async def family_of(api: Api) -> Family:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 24 * HOUR)
    return Family(api, account, child, api.signed_in(account, Role.HOUSEHOLD), api.signed_in(account))


@pytest.fixture
async def family(api: Api) -> Family:
    return await family_of(api)


async def test_a_request_waits_for_an_answer(family: Family) -> None:
    answer = await family.ask(30, note="Only the end of the film 🎬")
    assert answer.status_code == 201
    request = answer.json()
    assert request == {
        "request_id": request["request_id"],
        "minutes": 30,
        "note": "Only the end of the film 🎬",
        "day": "2026-03-02",
        "status": "open",
        "requested_at": "2026-03-02T12:00:00Z",
        "expires_at": "2026-03-03T05:00:00Z",
        "decided_at": None,
        "grant_id": None,
    }
    assert await family.listed() == [request]
    assert (await family.parent.get(family.path)).json() == {"requests": [request]}
    assert await family.grants() == []


async def test_approving_gives_the_time_once(family: Family) -> None:
    request_id = await family.asked(60)
    family.api.clock.at_ms += HOUR
    approved = await family.answer(request_id, "approve")
    assert approved.status_code == 200
    body = approved.json()
    assert (body["status"], body["decided_at"]) == ("approved", "2026-03-02T13:00:00Z")
    (grant,) = await family.grants()
    assert (grant["grant_id"], grant["minutes"], grant["day"]) == (body["grant_id"], 60, "2026-03-02")
    (policy,) = await family.api.services.shared_policies.load([family.child])
    assert policy is not None
    assert (policy.version, policy.grants) == (2, (Grant(day_number_of(TODAY), 60),))
    family.api.clock.at_ms += HOUR
    assert (await family.answer(request_id, "approve")).json() == body
    assert len(await family.grants()) == 1


async def test_approving_at_the_same_time_gives_the_time_once(family: Family) -> None:
    request_id = await family.asked()
    answers = await asyncio.gather(*(family.answer(request_id, "approve") for _ in range(6)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["grant_id"] for answer in answers}) == 1
    assert len(await family.grants()) == 1


async def test_denying_gives_nothing(family: Family) -> None:
    request_id = await family.asked()
    denied = await family.answer(request_id, "deny")
    assert (denied.status_code, denied.json()["status"], denied.json()["grant_id"]) == (200, "denied", None)
    assert (await family.answer(request_id, "deny")).json() == denied.json()
    assert await family.grants() == []


@pytest.mark.parametrize(("first", "second"), [("approve", "deny"), ("deny", "approve")])
async def test_an_answer_is_final(family: Family, first: str, second: str) -> None:
    request_id = await family.asked()
    answered = (await family.answer(request_id, first)).json()
    changed = await family.answer(request_id, second)
    assert (changed.status_code, changed.json()["code"]) == (409, "already_decided")
    assert await family.listed() == [answered]


@pytest.mark.parametrize("what", ["approve", "deny"])
async def test_a_request_ends_with_its_day(family: Family, what: str) -> None:
    request_id = await family.asked()
    family.api.clock.at_ms = NOON + 17 * HOUR
    assert [request["status"] for request in await family.listed()] == ["expired"]
    late = await family.answer(request_id, what)
    assert (late.status_code, late.json()["code"]) == (409, "already_decided")
    assert await family.grants() == []


async def test_five_a_day(family: Family) -> None:
    answers = await asyncio.gather(*(family.ask() for _ in range(7)))
    assert sorted(answer.status_code for answer in answers) == [201] * 5 + [429] * 2
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert refused.json()["code"] == "too_many_requests"
    assert refused.headers["Retry-After"] == str(17 * 3600)
    await family.answer((await family.listed())[0]["request_id"], "deny")
    assert (await family.ask()).status_code == 429
    family.api.clock.at_ms = NOON + 17 * HOUR
    assert (await family.ask()).status_code == 201


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
async def test_refuses_what_is_no_request(family: Family, body: dict[str, Any]) -> None:
    assert (await family.player.post(family.path, json=body)).status_code == 422
    assert await family.listed() == []


async def test_nobody_elses_children(api: Api, family: Family) -> None:
    stranger = await family_of(api)
    request_id = await family.asked()
    for path in (family.path, f"/parental-controls/profiles/{uuid4()}/requests"):
        assert (await stranger.player.post(path, json={"minutes": 15})).status_code == 403
        assert (await stranger.player.get(path)).status_code == 403
        assert (await stranger.parent.post(f"{path}/{request_id}/approve")).status_code == 403
    for unknown in (request_id, str(uuid4()), "x", "%00"):
        assert (await stranger.answer(unknown, "approve")).status_code == 404
    assert [request["status"] for request in await family.listed()] == ["open"]


async def test_players_ask_and_parents_answer(family: Family) -> None:
    request_id = await family.asked()
    for what in ("approve", "deny"):
        assert (await family.player.post(f"{family.path}/{request_id}/{what}")).status_code == 403
    adult = await family.api.rows.adult(family.account)
    asked = await family.player.post(f"/parental-controls/profiles/{adult}/requests", json={"minutes": 15})
    assert (asked.status_code, asked.json()["code"]) == (404, "no_config")


async def test_the_audit_log_knows_no_notes(family: Family) -> None:
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
