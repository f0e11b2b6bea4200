"""Every invalid input gets a problem, never a defect."""

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.errors import DatabaseUnavailable, HourglassError
from app.http import problems
from tests.scenes.api import Api
from tests.scenes.households import registered

JSON = {"Content-Type": "application/json"}


def _is_problem(answer: httpx.Response, status: int, code: str) -> None:
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert problem["status"] == status
    assert problem["code"] == code
    assert problem["type"] == f"urn:hourglass:problem:{code}"
    assert {"title", "detail"} <= set(problem)


async def test_what_the_framework_refuses_is_a_problem_too(api: Api) -> None:
    _is_problem(await api.http.get("/nothing-here"), 404, "not_found")
    wrong_method = await api.http.put("/auth/login", json={})
    _is_problem(wrong_method, 405, "method_not_allowed")
    assert wrong_method.headers["Allow"] == "POST"
    for path in ("/viewing-time/heartbeat", "/viewing-time/heartbeats"):
        wrong_method = await api.http.get(path)
        _is_problem(wrong_method, 405, "method_not_allowed")
        assert wrong_method.headers["Allow"] == "POST"
    form = await api.http.post("/auth/login", data={"email": "a@example.org"})
    _is_problem(form, 415, "unsupported_media_type")
    _is_problem(await api.http.post("/auth/login", content=b"{}"), 415, "unsupported_media_type")
    latin = {"Content-Type": "application/json; charset=latin-1"}
    _is_problem(await api.http.post("/auth/login", content=b"{}", headers=latin), 415, "unsupported_media_type")


@pytest.mark.parametrize("charset", ["", "; charset=utf-8", '; charset="UTF-8"'])
async def test_json_may_name_its_only_charset(api: Api, charset: str) -> None:
    headers = {"Content-Type": f"Application/JSON{charset}"}
    answer = await api.http.post("/auth/login", content=b"{}", headers=headers)
    assert sorted(error["pointer"] for error in answer.json()["errors"]) == ["/email", "/password"]


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b'"text"', b"7", b"{}"])
async def test_a_body_of_another_shape_is_pointed_at(api: Api, body: bytes) -> None:
    answer = await api.http.post("/auth/login", content=body, headers=JSON)
    _is_problem(answer, 422, "invalid_input")
    assert answer.json()["errors"]


@pytest.mark.parametrize(
    "body",
    [
        b"NaN",
        b'{"email": NaN}',
        b'{"email": 1e999}',
        b'{"email": ' + b"9" * 5000 + b"}",
        b'{"email": "a", "email": "b"}',
        b"[" * 60_000,
        b'{"a":' * 10_000,
        '{"email": "a@example.org"}'.encode("utf-16"),
        b'{"email": "\xff\xfe"}',
        b"{",
        b"\0",
    ],
)
async def test_what_is_no_sound_json_is_a_problem(api: Api, body: bytes) -> None:
    _is_problem(await api.http.post("/auth/login", content=body, headers=JSON), 400, "malformed")


@pytest.mark.parametrize("text", [rb"\ud800", rb"\u0000", rb"a\udfffb"])
async def test_texts_that_no_database_takes_are_refused(api: Api, text: bytes) -> None:
    body = b'{"email": "a@example.org", "password": "%s"}' % text
    answer = await api.http.post("/auth/login", content=body, headers=JSON)
    _is_problem(answer, 422, "invalid_input")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/password"]


async def test_what_was_expected_is_said(api: Api) -> None:
    household = await registered(api)
    settings = f"/parental-controls/profiles/{await household.child()}/viewing-time"
    window, days = (
        {"days": ["mon"], "from": "7.30", "until": "24:00"},
        {"first_date": "24.12.2026", "last_date": "2026-W01-1"},
    )
    answer = await household.parent.put(
        settings, json={"windows": [window], "holidays": [days]}, headers={"If-Match": "*"}
    )
    assert {error["pointer"]: error["detail"] for error in answer.json()["errors"]} == {
        "/windows/0/from": "must be a time like 19:30, in steps of 5 minutes",
        "/windows/0/until": "must be a time like 19:30, in steps of 5 minutes",
        "/holidays/0/first_date": "must be a date like 2026-12-24",
        "/holidays/0/last_date": "must be a date like 2026-12-24",
    }
    answer = await household.parent.get(f"{settings.removesuffix('viewing-time')}history", params={"from_date": "soon"})
    assert answer.json()["errors"][0]["detail"] == "must be a date like 2026-12-24"
    answer = await household.parent.post("/parental-controls/pin/verify", json={"pin": "four"})
    assert "^[0-9]{4}$" in answer.json()["errors"][0]["detail"]


async def test_nothing_that_was_sent_comes_back(api: Api) -> None:
    secret = "tell-nobody"
    household = await registered(api)
    answers = [
        await api.http.post("/auth/login", json={"email": secret, "password": secret, secret: secret}),
        await api.http.post("/auth/register", json={"email": secret, "password": secret, "timezone": secret}),
        await api.http.post("/auth/refresh", json={"refresh_token": secret}),
        await api.http.get(f"/{secret}"),
        await api.http.get("/profiles", headers={"Authorization": f"Bearer {secret}"}),
        await household.parent.patch(f"/profiles/{secret}", json={"name": "A"}),
        await household.parent.post("/profiles", json={"name": secret * 20, "is_kids": secret, "timezone": secret}),
        await household.player.get("/catalog/titles", params={"limit": secret, "cursor": secret}),
        await household.player.post("/parental-controls/pin/verify", json={"pin": secret}),
        await household.parent.put(
            f"/parental-controls/profiles/{await household.child()}/viewing-time",
            json={"holidays": [{"first_date": secret[:10], "last_date": secret}], "windows": [{"from": secret}]},
        ),
    ]
    assert all(400 <= answer.status_code < 500 for answer in answers)
    assert all(secret not in answer.text for answer in answers)
    assert all(secret not in str(answer.headers) for answer in answers)


async def test_answers_carry_security_headers(api: Api) -> None:
    player = (await registered(api)).player
    answers = [
        await api.http.get("/nothing-here"),
        await api.http.put("/auth/login", json={}),
        await player.get("/profiles"),
        await player.post("/profiles", content=b"{", headers=JSON),
        await player.post("/viewing-time/heartbeat", content=b"{"),
        await api.http.get("/viewing-time/heartbeat"),
        await api.http.get("/openapi.json"),
        await api.http.get("http://test/health/live"),
    ]
    for answer in answers:
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "no-store"
        is_beat = answer.request.url.path.endswith("heartbeat")  # JSON alone, and every byte of it counts
        policy = answer.headers.get("Content-Security-Policy")
        assert policy == (None if is_beat else "default-src 'none'; frame-ancestors 'none'")


async def test_a_large_body_is_refused_before_it_is_read(api: Api) -> None:
    body = b'{"email": "%s"}' % (b"x" * 70_000)
    _is_problem(await api.http.post("/auth/login", content=body, headers=JSON), 413, "body_too_large")
    read = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal read
        while True:
            read += 1
            yield b" " * 10_000

    answer = await api.http.post("/auth/login", content=endless(), headers=JSON)
    _is_problem(answer, 413, "body_too_large")
    assert answer.headers["Connection"] == "close"
    assert read == 7


def _bare_app(*, timeout_seconds: float = 0.05) -> FastAPI:
    """An application whose routes fail in every way."""
    app = FastAPI()

    @app.post("/fails")
    async def fails() -> None:
        raise ZeroDivisionError("with a detail that is nobody's business")

    @app.post("/database")
    async def database() -> None:
        raise DatabaseUnavailable

    @app.post("/body")
    async def body(value: dict[str, int]) -> dict[str, int]:
        return value

    problems.install(app, body_limit_bytes=1000, body_timeout_seconds=timeout_seconds, streaming_paths=())
    return app


async def test_what_nobody_foresaw_tells_nothing_but_a_number() -> None:
    transport = httpx.ASGITransport(app=_bare_app())
    async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
        answer = await http.post("/fails")
        _is_problem(answer, 500, "unexpected")
        assert len(answer.json()["request_id"]) == 16
        assert "business" not in answer.text
        _is_problem(await http.post("/database"), 503, "database_unavailable")


async def _sent_to(app: FastAPI, messages: list[MutableMapping[str, Any]]) -> list[MutableMapping[str, Any]]:
    """The answer of an application to these messages of a request, without further messages."""
    answers: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop(0)

    async def send(message: MutableMapping[str, Any]) -> None:
        answers.append(message)

    headers = [(b"content-type", b"application/json"), (b"transfer-encoding", b"chunked")]
    scope = {"type": "http", "method": "POST", "path": "/body", "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    return answers


async def test_a_body_that_does_not_arrive_in_time_is_given_up() -> None:
    half = {"type": "http.request", "body": b'{"a":', "more_body": True}
    answers = await _sent_to(_bare_app(), [half])
    assert answers[0]["status"] == 408


async def test_a_body_in_pieces_is_read_as_one() -> None:
    pieces = [b'{"a"', b": ", b"7}"]
    messages: list[MutableMapping[str, Any]] = [
        {"type": "http.request", "body": piece, "more_body": piece != pieces[-1]} for piece in pieces
    ]
    answers = await _sent_to(_bare_app(), messages)
    assert (answers[0]["status"], answers[1]["body"]) == (200, b'{"a":7}')


async def test_nobody_answers_a_client_that_has_gone() -> None:
    assert await _sent_to(_bare_app(), [{"type": "http.disconnect"}]) == []


@given(body=st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode(errors="surrogatepass")))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_are_a_defect(body: bytes) -> None:
    async def status() -> int:
        transport = httpx.ASGITransport(app=_APP)
        async with httpx.AsyncClient(transport=transport, base_url="http://test") as http:
            return (await http.post("/body", content=body, headers=JSON)).status_code

    assert asyncio.run(status()) in {200, 400, 422}


_APP = _bare_app(timeout_seconds=5)


@pytest.mark.parametrize("header", [b"\xff\xfe", b"Bearer", b"Bearer " + b"x" * 5000, b"Bearer a.b.c", b"Basic YTpi"])
async def test_a_header_that_is_no_token_is_a_401(api: Api, header: bytes) -> None:
    answer = await api.http.get("/profiles", headers={b"Authorization": header})
    _is_problem(answer, 401, "unauthenticated")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "text", ["'; DROP TABLE profiles; --", "\"]}); redis.call('FLUSHALL') --", "%0d%0aX: y", "${jndi:x}"]
)
async def test_names_are_only_names(api: Api, text: str) -> None:
    household = await registered(api)
    child = await household.child(name=text)
    (listed,) = (await household.player.get("/profiles")).json()
    assert (listed["id"], listed["name"]) == (child, text)


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "\x1b[31m", "\x7f", " ", ""])
async def test_names_hold_no_control_characters(api: Api, text: str) -> None:
    household = await registered(api)
    answer = await household.parent.post("/profiles", json={"name": text, "is_kids": True})
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/name"]


def test_every_refusal_has_a_code_of_its_own_and_a_client_status() -> None:
    def family(kind: type[HourglassError]) -> list[type[HourglassError]]:
        return [kind, *(member for child in kind.__subclasses__() for member in family(child))]

    kinds = {kind for kind in family(HourglassError) if kind.__module__ == "app.errors"}
    codes = [kind.code for kind in kinds if "code" in vars(kind)]  # some refusals differ for us, not for callers
    assert len(codes) == len(set(codes))
    assert {kind.status for kind in kinds if kind.status >= 500} <= {500, 503}
