"""The interactive documentation works without the internet, under its own content security policy."""

import asyncio
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from html.parser import HTMLParser
from pathlib import Path

import httpx
import pytest
import uvicorn

from app.server.docs_page import VENDORED, integrity_of, vendored
from tests.browsers import HEADLESS
from tests.scenes.api import Api

TYPES = {"js": "text/javascript", "css": "text/css", "png": "image/png"}


class _References(HTMLParser):
    """Addresses of a page, with the digests that it gives for them."""

    def __init__(self) -> None:
        super().__init__()
        self.found: dict[str, str | None] = {}
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        for name in ("src", "href", "data-openapi"):
            if address := named.get(name):
                self.found[address] = named.get("integrity")
        if (tag == "script" and "src" not in named) or tag == "style" or "style" in named:
            self.inline.append(tag)


async def _references(api: Api) -> _References:
    answer = await api.http.get("/docs")
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith("text/html")
    references = _References()
    references.feed(answer.text)
    return references


async def test_the_page_refers_to_this_host_only_and_holds_no_inline_code(api: Api) -> None:
    references = await _references(api)
    assert len(references.found) >= 5
    assert all(address.startswith("/api/v1/") for address in references.found)
    assert references.inline == []


async def test_all_that_the_page_refers_to_is_there(api: Api) -> None:
    for address, integrity in (await _references(api)).found.items():
        answer = await api.http.get(f"http://test{address}")
        assert answer.status_code == 200, address
        if address.endswith("openapi.json"):
            continue
        assert answer.headers["Content-Type"].startswith(TYPES[address.rpartition(".")[2]])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
        assert integrity in {None, integrity_of(answer.content)}
        assert integrity is not None or address.endswith(".png"), "whatever runs has a digest"


async def test_its_policy_allows_nothing_inline_and_nobody_else(api: Api) -> None:
    answer = await api.http.get("/docs")
    policy = dict(rule.split(" ", 1) for rule in answer.headers["Content-Security-Policy"].split("; "))
    assert (policy["default-src"], policy["frame-ancestors"]) == ("'none'", "'none'")
    assert (policy["script-src"], policy["style-src"], policy["connect-src"]) == ("'self'", "'self'", "'self'")
    assert not re.search(r"unsafe|https?:|\*", answer.headers["Content-Security-Policy"])


@pytest.mark.parametrize("name", ["nothing.js", "vendored.json", "..%2f..%2fdocs_page.py", "%2e%2e/main.py", "LICENSE"])
async def test_nothing_else_is_given_out(api: Api, name: str) -> None:
    [style] = [address for address in (await _references(api)).found if address.endswith(".css")]
    folder = style.rpartition("/")[0]
    assert (await api.http.get(f"http://test{folder}/{name}")).status_code == 404


def test_the_vendored_files_are_those_that_were_pinned() -> None:
    pinned = vendored()
    assert re.fullmatch(r"\d+\.\d+\.\d+", pinned.version)
    assert pinned.licence == "Apache-2.0"
    assert "Apache License" in (VENDORED / "LICENSE").read_text(encoding="utf-8")
    for name, integrity in pinned.files.items():
        assert integrity_of((VENDORED / name).read_bytes()) == integrity, name


@asynccontextmanager
async def _port_of(api: Api) -> AsyncIterator[int]:
    application = api.http._transport.app  # type: ignore[attr-defined]
    server = uvicorn.Server(uvicorn.Config(application, port=0, lifespan="off", log_config=None))
    task = asyncio.create_task(server._serve())
    while not server.started:  # noqa: ASYNC110  uvicorn offers no event to wait for
        await asyncio.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    await task


@pytest.mark.skipif(HEADLESS is None, reason="chromium is not installed")
async def test_a_browser_without_the_internet_shows_every_call(api: Api, tmp_path: Path) -> None:
    """The browser knows no other host, and applies the policy and the digests."""
    assert HEADLESS is not None
    async with _port_of(api) as port, httpx.AsyncClient() as http:
        address = f"http://127.0.0.1:{port}/api/v1"
        paths = (await http.get(f"{address}/openapi.json")).json()["paths"]
        process = await asyncio.create_subprocess_exec(
            HEADLESS,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
            f"--user-data-dir={tmp_path}",
            "--virtual-time-budget=30000",
            "--enable-logging=stderr",
            "--dump-dom",
            f"{address}/docs",
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(120):
            shown, said = await process.communicate()
    sys.stderr.write(said.decode(errors="replace")[-2000:])
    assert shown.count(b"opblock-summary-path") >= len(paths)
    assert b"Content Security Policy" not in said
