"""The audit log has every action of a parent with actor and object, and never a secret, a name or a note."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from sqlalchemy import select

from app.postgres_store import tables
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered

PIN, NEW_PIN = "8351", "2964"
NAME, OTHER_NAME, DEVICE, NOTE = "Thessaly", "Philippa", "phone of Thessaly", "please, Oma!"


@dataclass(frozen=True)
class Entry:
    actor: str
    action: str
    profile_id: str | None
    detail: dict[str, Any]


async def _log(api: Api, account_id: str) -> list[Entry]:
    log = tables.audit_log.c
    statement = (
        select(log.actor, log.action, log.profile_id, log.detail)
        .where(log.account_id == account_id)
        .order_by(log.at, log.id)
    )
    async with api.services.engine.connect() as database:
        rows = (await database.execute(statement)).all()
    return [Entry(row.actor, row.action, row.profile_id and str(row.profile_id), row.detail) for row in rows]


class Scene:
    """A household and a clock that moves on with every act, so that entries have an order."""

    def __init__(self, api: Api, household: Household) -> None:
        self.api = api
        self.household = household

    async def act(self, client: httpx.AsyncClient, method: str, path: str, body: object = None, **headers: str) -> Any:
        self.api.clock.at_ms += 1000
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = await client.request(method, path, json=body, headers=sent)
        assert answer.is_success, answer.text
        return answer.json() if answer.content else None


@pytest.fixture
async def family(api: Api) -> Scene:
    return Scene(api, await registered(api))


async def test_every_act_is_in_the_audit_log_with_who_did_it(family: Scene) -> None:
    api, player, act = family.api, family.household.player, family.act
    await act(player, "POST", "/parental-controls/pin", {"new_pin": PIN, "password": PASSWORD})
    await act(player, "POST", "/parental-controls/pin", {"new_pin": NEW_PIN, "current_pin": PIN})
    await act(player, "POST", "/parental-controls/pin/reset", {"new_pin": PIN, "password": PASSWORD})
    device = await act(player, "POST", "/auth/devices", {"name": DEVICE, "pin": PIN})
    parent = api.signed_in(family.household.id, device_id=device["id"])
    child = (await act(parent, "POST", "/profiles", {"name": NAME, "is_kids": True}))["id"]
    await act(parent, "PATCH", f"/profiles/{child}", {"name": OTHER_NAME})
    controls = f"/parental-controls/profiles/{child}"
    await act(parent, "PUT", f"{controls}/viewing-time", {"reset_hour": 7}, If_Match="*")
    given = await act(parent, "POST", f"{controls}/viewing-time/grant", {"minutes": 30})
    at_home = await act(player, "POST", f"{controls}/viewing-time/grant", {"minutes": 15, "pin": PIN})
    await act(parent, "DELETE", f"{controls}/grants/{given['grant_id']}")
    asked = await act(player, "POST", f"{controls}/requests", {"minutes": 15, "note": NOTE})
    approved = await act(parent, "POST", f"{controls}/requests/{asked['request_id']}/approve")
    refused = await act(player, "POST", f"{controls}/requests", {"minutes": 60, "note": NOTE})
    unlock = (await act(player, "POST", "/parental-controls/pin/verify", {"pin": PIN}))["pin_token"]
    await act(player, "POST", f"{controls}/requests/{refused['request_id']}/deny", X_PIN_Token=unlock)
    await act(family.household.parent, "DELETE", f"/auth/devices/{device['id']}")

    by_device = f"device:{device['id']}"
    device_id, request_id = {"device_id": device["id"]}, {"request_id": asked["request_id"]}
    entries = await _log(api, family.household.id)
    told = [(entry.actor, entry.action, entry.profile_id) for entry in entries]
    assert sorted(told, key=str) == sorted(
        [
            ("household", "pin_set", None),
            ("household", "pin_set", None),
            ("household", "pin_reset", None),
            ("household", "device_added", None),
            (by_device, "profile_created", child),
            (by_device, "profile_changed", child),
            (by_device, "settings_saved", child),
            (by_device, "time_granted", child),
            ("parent", "time_granted", child),
            (by_device, "grant_revoked", child),
            ("household", "time_requested", child),
            (by_device, "time_granted", child),
            (by_device, "request_approved", child),
            ("household", "time_requested", child),
            ("parent", "request_denied", child),
            ("parent", "device_revoked", None),
        ],
        key=str,
    )
    details = [entry.detail for entry in entries]
    for known in (
        device_id,
        {"grant_id": given["grant_id"], "minutes": 30},
        {"grant_id": at_home["grant_id"], "minutes": 15},
        {"grant_id": given["grant_id"]},
        {"grant_id": approved["grant_id"], "minutes": 15},
        request_id,
    ):
        assert known in details
    await _check_silence(family, [device["token"], unlock])

    await act(family.household.parent, "DELETE", f"/profiles/{child}")
    assert (await _log(api, family.household.id))[-1].action == "profile_erased"


async def _check_silence(family: Scene, tokens: list[str]) -> None:
    entries = await _log(family.api, family.household.id)
    secrets = [PIN, NEW_PIN, PASSWORD, NAME, OTHER_NAME, DEVICE, NOTE, family.household.email, *tokens]
    ids = {entry.profile_id for entry in entries}
    written = " ".join(f"{entry.actor} {entry.action} {entry.detail}" for entry in entries)
    for known in (*ids, family.household.id):
        written = written.replace(str(known), "")
    assert [secret for secret in secrets if len(secret) > len(PIN) and secret in written] == []
    assert [entry for entry in entries if {PIN, NEW_PIN} & {str(value) for value in entry.detail.values()}] == []


async def test_what_is_refused_leaves_no_entry(family: Scene) -> None:
    player = family.household.player
    await family.act(player, "POST", "/parental-controls/pin", {"new_pin": PIN, "password": PASSWORD})
    child = await family.household.child()
    before = await _log(family.api, family.household.id)
    controls = f"/parental-controls/profiles/{child}"
    answers = [
        await player.post(f"{controls}/viewing-time/grant", json={"minutes": 15, "pin": "0000"}),
        await player.post(f"{controls}/viewing-time/grant", json={"minutes": 15}),
        await player.post("/auth/devices", json={"name": DEVICE, "pin": "0000"}),
        await player.put(f"{controls}/viewing-time", json={"reset_hour": 7}, headers={"If-Match": "*"}),
        await player.post("/parental-controls/pin", json={"new_pin": "1111", "current_pin": "0000"}),
    ]
    assert {answer.status_code for answer in answers} == {403}
    assert await _log(family.api, family.household.id) == before
