"""A wall clock that steps back locks nobody out and extends no lifetime."""

import pytest

from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered

MINUTE_MS = 60_000
STEPS_MS = [3 * 60 * MINUTE_MS, 47 * MINUTE_MS]


async def _with_pin(api: Api) -> Household:
    household = await registered(api)
    body = {"new_pin": "4711", "password": PASSWORD}
    assert (await household.player.post("/parental-controls/pin", json=body)).status_code == 200
    return household


async def _verify(household: Household, pin: str) -> int:
    return (await household.player.post("/parental-controls/pin/verify", json={"pin": pin})).status_code


@pytest.mark.parametrize("step_ms", STEPS_MS)
async def test_a_lock_lasts_half_an_hour_also_when_the_clock_falls(api: Api, step_ms: int) -> None:
    household = await _with_pin(api)
    for _ in range(5):
        assert await _verify(household, "0000") == 403
    api.clock.at_ms -= step_ms
    locked = await household.player.post("/parental-controls/pin/verify", json={"pin": "4711"})
    assert locked.status_code == 423
    assert int(locked.headers["Retry-After"]) <= 30 * 60
    api.clock.at_ms += 30 * MINUTE_MS
    assert await _verify(household, "4711") == 200


@pytest.mark.parametrize("step_ms", STEPS_MS)
async def test_four_wrong_tries_before_the_clock_fell_lock_nobody(api: Api, step_ms: int) -> None:
    household = await _with_pin(api)
    for _ in range(4):
        await _verify(household, "0000")
    api.clock.at_ms -= step_ms
    assert await _verify(household, "4711") == 200


@pytest.mark.parametrize("step_ms", STEPS_MS)
async def test_an_unlock_does_not_outlast_its_quarter_of_an_hour(api: Api, step_ms: int) -> None:
    household = await _with_pin(api)
    answer = await household.player.post("/parental-controls/pin/verify", json={"pin": "4711"})
    headers = {"X-PIN-Token": answer.json()["pin_token"]}
    assert (await household.player.get("/auth/devices", headers=headers)).status_code == 200
    api.clock.at_ms -= step_ms
    assert (await household.player.get("/auth/devices", headers=headers)).status_code == 403
    again = await household.player.post("/parental-controls/pin/verify", json={"pin": "4711"})
    headers = {"X-PIN-Token": again.json()["pin_token"]}
    assert (await household.player.get("/auth/devices", headers=headers)).status_code == 200
