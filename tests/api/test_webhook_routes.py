"""Receivers of webhooks over the API."""

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from sqlalchemy import delete

from app.auth.tokens import Role
from app.embedded.valkey import Valkey
from app.postgres_store import tables
from tests.api.conftest import api_settings
from tests.scenes.api import Api, SetClock, opened

URL = "https://receiver.example/hook"


@pytest.fixture
async def fed(database_url: str, valkey: Valkey, clock: SetClock) -> AsyncIterator[Api]:
    async with opened(api_settings(database_url, valkey, event_feed=True), clock) as api:
        async with api.services.engine.begin() as database:
            await database.execute(delete(tables.webhook_receivers))
        yield api


@pytest.fixture
def service(fed: Api) -> httpx.AsyncClient:
    return fed.signed_in("platform", Role.SERVICE)


async def _added(service: httpx.AsyncClient, **fields: Any) -> dict[str, Any]:
    answer = await service.post("/platform/webhooks", json={"url": URL, **fields})
    assert answer.status_code == 201, answer.text
    added: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/platform/webhooks/{added['id']}"
    return added


async def test_a_secret_is_shown_once(service: httpx.AsyncClient) -> None:
    added = await _added(service, types=["hourglass.grant.given"])
    secret = added.pop("secret")
    assert secret.startswith("whsec_")
    assert added == {
        "id": added["id"],
        "url": URL,
        "types": ["hourglass.grant.given"],
        "is_enabled": True,
        "disabled_reason": None,
        "failing_since": None,
        "waiting": 0,
        "dead_letters": 0,
        "behind": 0,
        "created_at": "2026-03-02T12:00:00.000Z",
    }
    assert (await service.get("/platform/webhooks")).json() == {"webhooks": [added]}
    rotated = (await service.post(f"/platform/webhooks/{added['id']}/secret")).json()
    assert rotated.pop("secret") not in {secret, None}
    assert rotated == added


async def test_a_receiver_is_changed_and_removed(service: httpx.AsyncClient) -> None:
    path = f"/platform/webhooks/{(await _added(service))['id']}"
    change = {"url": f"{URL}2", "types": ["hourglass.day.closed"], "is_enabled": False}
    changed = await service.patch(path, json=change)
    assert changed.status_code == 200, changed.text
    assert {name: changed.json()[name] for name in change} == change
    assert (await service.patch(path, json={})).json() == changed.json()
    all_types = await service.patch(path, json={"types": None, "url": None, "is_enabled": None})
    assert all_types.json() == changed.json() | {"types": None}
    assert (await service.delete(path)).status_code == 204
    for call in (service.delete(path), service.patch(path, json={"is_enabled": True}), service.post(f"{path}/secret")):
        answer = await call
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert (await service.delete("/platform/webhooks/x")).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"url": "http://receiver.example/"},
        {"url": "https://10.0.0.1/"},
        {"url": "https://u:p@receiver.example/"},
        {"url": 7},
        {"url": f"https://receiver.example/{'x' * 2000}"},
        {"url": URL, "types": []},
        {"url": URL, "types": ["hourglass.no.such"]},
        {"url": URL, "types": ["grant.given"]},
        {"url": URL, "more": 1},
    ],
)
async def test_an_unacceptable_receiver_is_refused(service: httpx.AsyncClient, body: dict[str, Any]) -> None:
    answer = await service.post("/platform/webhooks", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_there_are_twenty_receivers_at_most(service: httpx.AsyncClient) -> None:
    for _ in range(20):
        await _added(service)
    answer = await service.post("/platform/webhooks", json={"url": URL})
    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_receivers")


async def test_there_are_none_while_the_feed_is_off(api: Api) -> None:
    service = api.signed_in("platform", Role.SERVICE)
    for answer in (
        await service.post("/platform/webhooks", json={"url": URL}),
        await service.get("/platform/webhooks"),
    ):
        assert (answer.status_code, answer.json()["code"]) == (409, "event_feed_off")
