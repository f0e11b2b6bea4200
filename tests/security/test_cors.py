"""Pages of other origins: only listed origins may call, on the fast path too, and none by default."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from pydantic import ValidationError

from app.http.requests import API_PREFIX
from app.main import create_app
from app.settings.settings import Settings
from tests.builders import settings_for
from tests.scenes.api import Api

TV, CONSOLE, EVIL = "https://tv.example.org", "http://localhost:5173", "https://evil.example.org"
PATHS = ("/viewing-time/heartbeat", "/viewing-time/heartbeats", "/profiles", "/nothing-here")


def _settings(origins: object, **more: object) -> Settings:
    return settings_for(
        database_url="postgresql://localhost/x",
        redis_url="redis://localhost",
        cors_origins=origins,
        bcrypt_cost=4,
        **more,
    )


@asynccontextmanager
async def _client(api: Api, origins: str, **more: object) -> AsyncIterator[httpx.AsyncClient]:
    front = create_app(_settings(origins, **more))
    front.state.services = api.services
    transport = httpx.ASGITransport(front)
    async with httpx.AsyncClient(transport=transport, base_url=f"http://test{API_PREFIX}") as client:
        yield client


async def _preflight(
    http: httpx.AsyncClient,
    path: str,
    origin: str,
    *,
    method: str = "POST",
    headers: str = "authorization,content-type",
) -> httpx.Response:
    asks = {
        "Origin": origin,
        "Access-Control-Request-Method": method,
        "Access-Control-Request-Headers": headers,
    }
    return await http.options(path, headers=asks)


def _allowed(answer: httpx.Response) -> str | None:
    origin: str | None = answer.headers.get("Access-Control-Allow-Origin")
    return origin


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", [TV, CONSOLE])
async def test_a_page_on_the_list_may_call(api: Api, path: str, origin: str) -> None:
    async with _client(api, f"{TV}, {CONSOLE}") as http:
        preflight = await _preflight(http, path, origin)
        assert (preflight.status_code, _allowed(preflight)) == (200, origin)
        assert "POST" in preflight.headers["Access-Control-Allow-Methods"]
        assert "X-PIN-Token" in preflight.headers["Access-Control-Allow-Headers"]
        assert preflight.headers["Access-Control-Max-Age"] == "600"
        answer = await http.post(path, json={}, headers={"Origin": origin})
        assert answer.status_code in {401, 404}
        assert _allowed(answer) == origin, "a refusal is for the page to read, too"
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        exposed = set(answer.headers["Access-Control-Expose-Headers"].split(", "))
        assert exposed >= {"Date", "ETag", "Location", "Retry-After", "X-Request-ID", "RateLimit"}


SENT = ",".join(
    (
        *("authorization", "content-type", "idempotency-key", "if-match", "if-none-match", "last-event-id"),
        *("traceparent", "x-pin-token", "x-request-id"),
    )
)


@pytest.mark.parametrize("path", PATHS)
async def test_a_page_may_send_what_the_api_reads_and_what_the_setting_names(api: Api, path: str) -> None:
    async with _client(api, TV) as http:
        assert (await _preflight(http, path, TV, headers=SENT)).status_code == 200
        assert (await _preflight(http, path, TV, headers="x-of-ours")).status_code == 400
    async with _client(api, TV, cors_headers="X-Of-Ours") as http:
        assert (await _preflight(http, path, TV, headers="x-of-ours,if-match")).status_code == 200
        assert (await _preflight(http, path, TV, headers="traceparent")).status_code == 400


@pytest.mark.parametrize("names", ["*", "X Y", "X-A:", "é"])
def test_names_that_no_header_has_are_refused_at_start(names: str) -> None:
    with pytest.raises(ValidationError, match="names of headers"):
        _settings(TV, cors_headers=names)


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("origin", [EVIL, "null", TV + ".evil.org", TV.upper(), TV + "/", "http://tv.example.org", ""])
async def test_a_page_that_is_not_may_not(api: Api, path: str, origin: str) -> None:
    async with _client(api, TV) as http:
        preflight = await _preflight(http, path, origin)
        assert preflight.status_code >= 400
        assert _allowed(preflight) is None
        assert origin not in preflight.text or not origin
        assert _allowed(await http.post(path, json={}, headers={"Origin": origin})) is None


@pytest.mark.parametrize("path", PATHS)
async def test_a_method_that_no_route_has_is_not_allowed(api: Api, path: str) -> None:
    async with _client(api, TV) as http:
        assert (await _preflight(http, path, TV, method="TRACE")).status_code == 400


@pytest.mark.parametrize("path", PATHS)
async def test_it_is_off_unless_there_is_a_list(api: Api, path: str) -> None:
    preflight = await _preflight(api.http, path, TV)
    assert preflight.status_code in {404, 405}
    answer = await api.http.post(path, json={}, headers={"Origin": TV})
    assert not [name for name in (*preflight.headers, *answer.headers) if name.startswith("access-control")]


async def test_a_body_that_is_too_large_is_refused_readably(api: Api) -> None:
    async with _client(api, TV) as http:
        for path in ("/profiles", "/viewing-time/heartbeat"):
            answer = await http.post(
                path,
                content=b'{"name": "%s"}' % (b"x" * 70_000),
                headers={"Origin": TV, "Content-Type": "application/json"},
            )
            assert _allowed(answer) == TV


async def test_who_says_no_origin_is_served_as_ever(api: Api) -> None:
    async with _client(api, TV) as http:
        answer = await http.post("/viewing-time/heartbeat", json={})
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthenticated")
        assert _allowed(answer) is None


@pytest.mark.parametrize(
    "origins", ["*", f"{TV}/", "tv.example.org", "https://*.example.org", "null", "https://TV.example.org", "ftp://x"]
)
def test_what_no_browser_sends_is_refused_at_start(origins: str) -> None:
    with pytest.raises(ValidationError, match="origins as browsers send them"):
        _settings(origins)
