"""Parent devices: created with the PIN, revoked in all processes at once."""

import asyncio

import httpx

from app.wiring.api import Services, open_services
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered


async def _with_pin(api: Api) -> Household:
    household = await registered(api)
    body = {"new_pin": "4711", "password": PASSWORD}
    assert (await household.player.post("/parental-controls/pin", json=body)).status_code == 200
    return household


async def _device(household: Household, name: str = "Kim's phone") -> dict[str, str]:
    answer = await household.player.post("/auth/devices", json={"name": name, "pin": "4711"})
    assert answer.status_code == 201, answer.text
    device: dict[str, str] = answer.json()
    return device


def _bearer(device: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {device['token']}"}


async def test_a_device_acts_as_a_parent_without_the_pin(api: Api) -> None:
    household = await _with_pin(api)
    device = await _device(household)
    assert set(device) == {"id", "name", "role", "daily_grant_minutes", "token", "expires_at"}
    assert device["expires_at"] == "2026-08-29T12:00:00.000Z"
    answer = await api.http.post("/profiles", json={"name": "Ada", "is_kids": True}, headers=_bearer(device))
    assert answer.status_code == 201
    listed = await api.http.get("/auth/devices", headers=_bearer(device))
    assert listed.json() == [
        {
            "id": device["id"],
            "name": "Kim's phone",
            "role": "parent",
            "daily_grant_minutes": None,
            "granted_today_minutes": None,
            "created_at": "2026-03-02T12:00:00.000Z",
            "expires_at": device["expires_at"],
        }
    ]


async def test_a_wrong_pin_makes_no_device(api: Api) -> None:
    household = await _with_pin(api)
    answer = await household.player.post("/auth/devices", json={"name": "mine", "pin": "0000"})
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong_pin")
    assert (await household.parent.get("/auth/devices")).json() == []


async def test_a_revoked_device_is_out_at_once_on_every_process(api: Api) -> None:
    household = await _with_pin(api)
    device, other = await _device(household), await _device(household, "other")
    async with open_services(api.services.settings, clock=api.clock) as second:
        authorization = f"Bearer {device['token']}".encode()
        assert second.token_cache.principal_of(authorization).device_id == device["id"]
        await asyncio.wait_for(second.viewing.invalidations.subscribed.wait(), 5)
        answer = await household.parent.delete(f"/auth/devices/{device['id']}")
        assert answer.status_code == 204
        assert (await api.http.get("/auth/devices", headers=_bearer(device))).status_code == 401
        async with asyncio.timeout(1):
            await _known_as_revoked(second, device["id"])
    left = await api.http.get("/auth/devices", headers=_bearer(other))
    assert [listed["id"] for listed in left.json()] == [other["id"]]
    async with open_services(api.services.settings, clock=api.clock) as started_later:
        assert device["id"] in started_later.devices._revoked
    assert (await household.parent.delete(f"/auth/devices/{device['id']}")).status_code == 204, "a repeat does no harm"


async def test_a_message_that_was_missed_is_made_up_for(api: Api) -> None:
    household = await _with_pin(api)
    device = await _device(household)
    async with open_services(api.services.settings, clock=api.clock) as second:
        await asyncio.wait_for(second.viewing.invalidations.subscribed.wait(), 5)
        await second.devices._revoked.load()
        await second.devices._store.revoke(household.id, device["id"], actor="parent", at_ms=api.clock())
        second.devices._revoked.load_soon()
        async with asyncio.timeout(5):
            await _known_as_revoked(second, device["id"])


async def test_devices_belong_to_one_family_and_to_its_parents(api: Api) -> None:
    household, stranger = await _with_pin(api), await _with_pin(api)
    device = await _device(household)
    for device_id in (device["id"], "x", "%00", device["id"].upper()):
        assert _refused(await stranger.parent.delete(f"/auth/devices/{device_id}"))
    assert _refused(await household.player.delete(f"/auth/devices/{device['id']}"))
    assert _refused(await household.player.get("/auth/devices"))
    assert (await api.http.get("/auth/devices", headers=_bearer(device))).status_code == 200


async def test_an_account_has_twenty_devices_at_most(api: Api) -> None:
    household = await _with_pin(api)
    devices = [await _device(household, f"device {number}") for number in range(20)]
    body = {"name": "one more", "pin": "4711"}
    answer = await household.player.post("/auth/devices", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "too_many_devices")
    await household.parent.delete(f"/auth/devices/{devices[0]['id']}")
    assert (await household.player.post("/auth/devices", json=body)).status_code == 201


async def _known_as_revoked(services: Services, device_id: str) -> None:
    while device_id not in services.devices._revoked:  # noqa: ASYNC110  nothing tells when a message was handled
        await asyncio.sleep(0)


def _refused(answer: httpx.Response) -> bool:
    return answer.status_code == 403
