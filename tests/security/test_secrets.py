"""Data that must never be in a log: passwords, PINs, tokens, addresses, names of children and devices."""

import asyncio
import json
import re
from typing import Any

import asyncpg
import httpx

from app.embedded.valkey import Valkey
from tests.fuzz.api import TITLE, Target, running_api

PASSWORD, WRONG_PASSWORD = "xylophone-and-oboe", "xylophone-and-tuba"
PIN, NEW_PIN, WRONG_PIN = "8351", "2964", "7406"
EMAIL, NAME, DEVICE, NOTE = "quillfeather@example.org", "Thessaly Quillfeather", "phone of Quillfeather", "please, Oma!"

FORGED = (
    '{"event": "forged", "level": "error"}',
    "forged\nlevel=error",
    "forged\r\n{}",
    "\x1b[31mforged",
    "%(forged)s ${x}",
)


def _live_through(target: Target) -> set[str]:
    """Everything a family does, and how strangers fail; the secrets that were used."""
    http = httpx.Client(base_url=target.url, timeout=30)
    tokens: set[str] = set()

    def call(method: str, path: str, body: object = None, *, token: str = "", **headers: str) -> Any:
        sent = {"Authorization": f"Bearer {token}"} if token else {}
        answer = http.request(method, path, json=body, headers=sent | headers)
        assert answer.status_code < 500, answer.text
        told = answer.json() if answer.content else {}
        if isinstance(told, dict):
            tokens.update(value for name, value in told.items() if name.endswith("token"))
        return told

    home = call("POST", "/auth/register", {"email": EMAIL, "password": PASSWORD, "timezone": "Europe/Oslo"})
    call("POST", "/auth/register", {"email": EMAIL, "password": PASSWORD, "timezone": "Europe/Oslo"})
    call("POST", "/auth/login", {"email": EMAIL, "password": WRONG_PASSWORD})
    call("POST", "/auth/login", {"email": EMAIL, "password": PASSWORD})
    call("POST", "/auth/refresh", {"refresh_token": home["refresh_token"]})
    player = home["access_token"]
    call("POST", "/parental-controls/pin", {"new_pin": PIN, "password": PASSWORD}, token=player)
    call("POST", "/parental-controls/pin/verify", {"pin": WRONG_PIN}, token=player)
    unlock = call("POST", "/parental-controls/pin/verify", {"pin": PIN}, token=player)["pin_token"]
    device = call("POST", "/auth/devices", {"name": DEVICE, "pin": PIN}, token=player)
    parent = device["token"]
    child = call("POST", "/profiles", {"name": NAME, "is_kids": True}, token=parent)["id"]
    call("PATCH", f"/profiles/{child}", {"name": NAME + "\n"}, token=parent)
    beat = {"profile_id": child, "title_id": TITLE, "device_id": DEVICE}
    session = call("POST", "/viewing-time/heartbeat", beat, token=player)["session_id"]
    call("POST", "/viewing-time/heartbeat", beat | {"device_id": NAME + "\0"}, token=player)
    call("POST", "/viewing-time/heartbeats", {"beats": [beat, {"name": NAME}]}, token=player)
    call("POST", f"/viewing-time/session/{session}/end", token=player)
    controls = f"/parental-controls/profiles/{child}"
    call("POST", f"{controls}/requests", {"minutes": 15, "note": NOTE}, token=player)
    call("POST", f"{controls}/viewing-time/grant", {"minutes": 15, "pin": PIN}, token=player)
    call("POST", f"{controls}/viewing-time/grant", {"minutes": 15}, token=player, **{"X-PIN-Token": unlock})
    for forged in FORGED:
        call("PATCH", f"/profiles/{child}", {"name": forged}, token=parent)
        call("POST", "/viewing-time/heartbeat", beat | {"title_id": forged[:64], "device_id": forged}, token=player)
    for path in (f"{controls}/history", "/parental-controls/weekly-report", f"/viewing-time/why/{child}"):
        call("GET", path, token=parent)
    call("POST", "/parental-controls/pin/reset", {"password": PASSWORD, "new_pin": NEW_PIN}, token=player)
    call("DELETE", f"/auth/devices/{device['id']}", token=parent)
    call("GET", "/profiles", token=parent)
    call("GET", "/profiles", token=player + "x")
    call("GET", f"/nothing/{NAME}?pin={PIN}", token=player)
    http.close()
    return tokens


def test_the_log_of_a_whole_family_holds_none_of_its_secrets(database_url: str, valkey: Valkey) -> None:
    with running_api(database_url=database_url, redis_url=valkey.url, log_level="DEBUG") as target:
        tokens = _live_through(target)
        minted = set(target.tokens.values())
        log = target.log.read_text()
    assert len(tokens) >= 4, "access, refresh, unlock, device"
    secrets = tokens | minted | {PASSWORD, WRONG_PASSWORD, EMAIL, NAME, DEVICE, NOTE, "Quillfeather", "forged"}
    assert [secret for secret in secrets if secret in log] == []
    assert re.findall(rf"\b(?:{PIN}|{NEW_PIN}|{WRONG_PIN})\b", log) == []
    tried = [json.loads(line) for line in log.splitlines() if "secret_compared" in line]
    assert {(entry["kind"], entry["is_right"]) for entry in tried} == {
        ("password", True),
        ("password", False),
        ("pin", True),
        ("pin", False),
    }, "that somebody tried is told all the same"


def test_a_row_that_the_database_refuses_is_not_told_to_the_log(database_url: str, valkey: Valkey) -> None:
    """A defect of ours, made on purpose: a constraint that no request can know of."""

    async def refuse_it(name: str) -> None:
        database = await asyncpg.connect(database_url)
        await database.execute(f"ALTER TABLE profiles ADD CONSTRAINT made_up CHECK (name <> '{name}')")
        await database.close()

    name = "Philippa Quillfeather"
    with running_api(database_url=database_url, redis_url=valkey.url) as target:
        asyncio.run(refuse_it(name))
        answer = target.family.post("/profiles", json={"name": name, "is_kids": True})
        log = target.log.read_text()
    assert (answer.status_code, answer.json()["code"]) == (500, "unexpected")
    [line] = [line for line in log.splitlines() if "unexpected_error" in line]
    logged = json.loads(line)
    assert logged["request_id"] == answer.json()["request_id"]
    assert "made_up" in logged["exception"], "what is needed to find the defect is there"
    assert "Quillfeather" not in log
