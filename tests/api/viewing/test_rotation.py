"""Rotation of secrets: signatures and hashes of previous secrets are valid until these are removed."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest
from pydantic import SecretStr

from app.auth.tokens import Role
from app.settings.settings import Settings, SettingsError, load_settings
from tests.scenes.api import Api, running
from tests.scenes.households import PASSWORD, Household, registered_at_noon

OLD = {"jwt_secret": "j" * 32, "session_secret": "s" * 32, "pin_pepper": "p" * 32}
NEW = {"jwt_secret": "J" * 32, "session_secret": "S" * 32, "pin_pepper": "P" * 32}


@asynccontextmanager
async def process(settings: Settings, first: Mapping[str, str], also: Mapping[str, str]) -> AsyncIterator[Api]:
    """An API process that signs with some secrets, and accepts others beside them."""
    values = {name: SecretStr(value) for name, value in first.items()}
    values |= {f"{name}_previous": SecretStr(value) for name, value in also.items()}
    async with running(settings.model_copy(update=values)) as api:
        yield api


async def test_no_request_is_refused_while_secrets_rotate(prepared: Settings) -> None:
    async with process(prepared, OLD, {}) as before:
        home = await registered_at_noon(before)
        child, title = await home.child(), await before.add_title()
        opened = await home.beat(child, title)
        await _choose_pin(home, before)
        refresh = await _login(home, before)
        session = opened.json()["session_id"]
    # Step 1, every process learns to accept the new ones; step 2, they sign with them. In between there are both.
    async with process(prepared, OLD, NEW) as first, process(prepared, NEW, OLD) as second:
        for api in (first, second, first):
            assert (await home.beat(child, title, on=api, session_id=session)).status_code == 200
            answer = await api.http.post("/auth/refresh", json={"refresh_token": refresh["refresh_token"]})
            assert answer.status_code == 200
            headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
            for other in (first, second):
                assert (await other.http.get("/profiles", headers=headers)).status_code == 200
        kit = await first.http.post("/profiles", json={"name": "Kit", "is_kids": True}, headers=home.as_parent)
        other_child = kit.json()["id"]
        signed_new = (await home.beat(other_child, title, on=second)).json()["session_id"]
        assert (await home.beat(other_child, title, on=first, session_id=signed_new)).status_code == 200
        await _verify_pin(home, second)
        refresh = await _login(home, second)
    # Step 3, the old ones are forgotten; by now every hash that was used is a new one.
    async with process(prepared, NEW, {}) as after:
        await _verify_pin(home, after)
        await _login(home, after)
        headers = {"Authorization": f"Bearer {refresh['access_token']}"}
        assert (await after.http.get("/profiles", headers=headers)).status_code == 200
        assert (await after.http.get("/profiles", headers=home.as_player)).status_code == 401


async def test_a_pin_can_be_changed_while_the_pepper_rotates(prepared: Settings) -> None:
    async with process(prepared, OLD, {}) as before:
        home = await registered_at_noon(before)
        await _choose_pin(home, before)
    async with process(prepared, NEW, OLD) as api:
        body = {"new_pin": "4321", "current_pin": "1234"}
        changed = await api.http.post("/parental-controls/pin", json=body, headers=_as_parent(home, api))
        assert changed.status_code == 200, changed.text
    async with process(prepared, NEW, {}) as after:
        await _verify_pin(home, after, "4321")


@pytest.mark.parametrize("value", ["short", "x" * 32 + " short"])
def test_a_short_earlier_secret_is_refused_by_name(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    for name, secret in OLD.items():
        monkeypatch.setenv(f"HOURGLASS_{name.upper()}", secret)
    monkeypatch.setenv("HOURGLASS_JWT_SECRET_PREVIOUS", value)
    monkeypatch.setenv("DATABASE_URL", "postgresql:///")
    monkeypatch.setenv("REDIS_URL", "redis://")
    with pytest.raises(SettingsError, match="HOURGLASS_JWT_SECRET_PREVIOUS"):
        load_settings()


def _as_parent(home: Household, api: Api) -> dict[str, str]:

    return api.as_role(home.id, Role.PARENT)


async def _choose_pin(home: Household, api: Api) -> None:
    body = {"new_pin": "1234", "password": PASSWORD}
    answer = await api.http.post("/parental-controls/pin", json=body, headers=_as_parent(home, api))
    assert answer.status_code == 200, answer.text


async def _verify_pin(home: Household, api: Api, pin: str = "1234") -> None:
    answer = await api.http.post("/parental-controls/pin/verify", json={"pin": pin}, headers=_as_parent(home, api))
    assert answer.status_code == 200, answer.text


async def _login(home: Household, api: Api) -> dict[str, Any]:
    answer = await api.http.post("/auth/login", json={"email": home.email, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    tokens: dict[str, Any] = answer.json()
    return tokens
