"""Registration, login and refresh."""

import pytest

from app.auth.tokens import Role, TokenKind
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, registered


async def test_a_household_signs_up_in_and_on(api: Api) -> None:
    household = await registered(api)
    login = await api.http.post("/auth/login", json={"email": household.email.upper(), "password": PASSWORD})
    assert login.status_code == 200
    assert login.json()["account_id"] == household.id
    refreshed = await api.http.post("/auth/refresh", json={"refresh_token": login.json()["refresh_token"]})
    assert refreshed.status_code == 200
    bearer = {"Authorization": f"Bearer {refreshed.json()['access_token']}"}
    profiles = await api.http.get("/profiles", headers=bearer)
    assert (profiles.status_code, profiles.json()) == (200, [])


async def test_an_address_is_used_once_whatever_its_case(api: Api) -> None:
    household = await registered(api)
    body = {"email": household.email.title(), "password": PASSWORD, "timezone": "UTC"}
    again = await api.http.post("/auth/register", json=body)
    assert again.status_code == 409
    assert again.json()["code"] == "email_taken"


async def test_a_wrong_password_and_an_unknown_address_look_the_same(api: Api) -> None:
    household = await registered(api)
    wrong = await api.http.post("/auth/login", json={"email": household.email, "password": "not the password"})
    unknown = await api.http.post("/auth/login", json={"email": "nobody@example.org", "password": PASSWORD})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() | {"request_id": ""} == unknown.json() | {"request_id": ""}
    assert wrong.json()["code"] == "wrong_credentials"


async def test_tokens_are_good_for_one_thing_only(api: Api) -> None:
    household = await registered(api)
    as_refresh = await api.http.post("/auth/refresh", json={"refresh_token": household.tokens["access_token"]})
    assert as_refresh.status_code == 401
    bearer = {"Authorization": f"Bearer {household.tokens['refresh_token']}"}
    assert (await api.http.get("/profiles", headers=bearer)).status_code == 401


async def test_a_refresh_token_of_a_vanished_account_is_worth_nothing(api: Api) -> None:
    token = api.services.tokens.issue(
        account_id="5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a",
        role=Role.HOUSEHOLD,
        kind=TokenKind.REFRESH,
        at_s=api.clock() // 1000,
        life_seconds=60,
    )
    assert (await api.http.post("/auth/refresh", json={"refresh_token": token})).status_code == 401


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("email", "no address"),
        ("email", "a@b"),
        ("email", "a@b.c\r\nBcc: x"),
        ("email", "a" * 320 + "@example.org"),
        ("email", 7),
        ("password", "too short"),
        ("password", "x" * 201),
        ("timezone", "posixrules"),
        ("timezone", "../etc/passwd"),
        ("timezone", ""),
        ("timezone", "E" * 10_000),
        ("surprise", 1),
    ],
)
async def test_a_registration_that_makes_no_sense_is_pointed_at(api: Api, field: str, value: object) -> None:
    body = {"email": "kim@example.org", "password": PASSWORD, "timezone": "UTC", field: value}
    answer = await api.http.post("/auth/register", json=body)
    assert answer.status_code == 422
    assert [error.get("pointer", "") for error in answer.json()["errors"]] == [
        "" if field == "surprise" else f"/{field}"
    ]
    assert value in {"", 1, 7} or str(value)[:20] not in answer.text
    assert "surprise" not in answer.text
