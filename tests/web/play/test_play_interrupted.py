"""The SDK in a real Chromium while PostgreSQL is away, and in a page that returns from the back/forward cache."""

import asyncio
import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from playwright.async_api import Browser, async_playwright

from app.auth.tokens import Role
from app.lab.chaos.background import Background
from app.lab.chaos.proxy import NetworkFault, Proxy
from tests.browsers import CHROMIUM, HEADLESS
from tests.web.play.scene import (
    BEAT_SECONDS,
    PLAYING,
    Service,
    eventually,
    new_home,
    opened,
    token_of,
)

pytestmark = pytest.mark.skipif(HEADLESS is None, reason="chromium is not installed: interruptions were not tried")
TOLERANCE_SECONDS = 1.0
LIMIT_SECONDS = 15 * 60
REPORT_TIMEOUT_SECONDS = 30
SOCKET = ".s.PGSQL.5432"
WATCHING = """<!doctype html><html lang="en"><title>A player</title><script type="module">
const facts = Object.fromEntries(new URLSearchParams(location.search));
const { HourglassPlayer } = await import(`${facts.service}/sdk/v1/hourglass-player.js`);
const clock = { total: 0, since: null };
const pause = () => { if (clock.since !== null) clock.total += performance.now() - clock.since; clock.since = null; };
const play = () => { clock.since = clock.since ?? performance.now(); };
const player = new HourglassPlayer({
  url: facts.service, token: () => facts.token, profileId: facts.profile, deviceId: "tab",
});
player.control({ play, pause });
const until = async (condition) => { while (!condition()) await new Promise((done) => setTimeout(done, 20)); };
const rest = (ms) => new Promise((done) => setTimeout(done, ms));
const watch = async (ms) => {
  play();
  player.play("moon-pirates");
  await until(() => player.state.phase === "playing");
  const session = player.state.sessionId;
  await rest(ms);
  return session;
};
addEventListener("pagehide", pause);
addEventListener("pageshow", async (event) => {
  if (!event.persisted) return;
  const phase = player.state.phase;
  const second = await watch(2000);
  player.end();
  pause();
  await until(() => player.machine.ends.length === 0 && !player.machine.session);
  const report = { phase, first, second, playedSeconds: clock.total / 1000 };
  await fetch(`/report?found=${encodeURIComponent(JSON.stringify(report))}`);
});
const first = await watch(2000);
location.href = "/elsewhere";
</script>"""
ELSEWHERE = """<!doctype html><html lang="en"><title>Elsewhere</title><script>
addEventListener("load", () => setTimeout(() => history.back(), 3000));
</script>"""


@dataclass
class Site:
    """A site of another origin than the service, and what its pages report."""

    url: str
    reports: "Queue[dict[str, Any]]"


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    reports: Queue[dict[str, Any]] = Queue()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            address = urlsplit(self.path)
            if address.path == "/report":
                reports.put(json.loads(parse_qs(address.query)["found"][0]))
            page = {"/watching": WATCHING, "/elsewhere": ELSEWHERE}.get(address.path, "").encode()
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield Site(f"http://127.0.0.1:{server.server_port}", reports)
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def postgres_proxy(database_url: str) -> Iterator[Proxy]:
    with ExitStack() as closing:
        background = closing.enter_context(Background())
        folder = parse_qs(urlsplit(database_url).query)["host"][0]
        proxy = Proxy(background, Path(folder) / SOCKET)
        closing.callback(proxy.close)
        yield proxy


@pytest.fixture(scope="module")
def variables(database_url: str, postgres_proxy: Proxy, site: Site) -> Mapping[str, str]:
    """Only the way to PostgreSQL can be cut."""
    address = urlsplit(database_url)
    return {
        "DATABASE_URL": f"postgresql://{address.username}@127.0.0.1:{postgres_proxy.port}{address.path}",
        "HOURGLASS_CORS_ORIGINS": site.url,
        "HOURGLASS_DATABASE_TIMEOUT_SECONDS": "1.5",
    }


async def test_a_film_goes_on_while_postgresql_is_away(
    service: Service, browser: Browser, postgres_proxy: Proxy
) -> None:
    home = await new_home(service)
    await home.limit(15)
    await home.spend(LIMIT_SECONDS - BEAT_SECONDS - 5)
    context = await browser.new_context()
    child = await opened(context, home)
    page = child.page
    before = float((await home.balance())["used_seconds"])
    await child.watch()
    try:
        postgres_proxy.weather = NetworkFault.BLACK_HOLE
        await child.until_shown("lock", seconds=BEAT_SECONDS + 8)
        played = await child.played()
        assert abs(played - (LIMIT_SECONDS - before)) <= TOLERANCE_SECONDS, "it stops on time all the same"
        await eventually(child.is_settled, "the end is answered without PostgreSQL", seconds=15)
        assert await page.is_hidden("#learning"), "what is not known is not offered"
        await page.click("#ask-open")
        await page.click("[data-minutes='15']")
        await eventually(lambda: _says(page, "That did not work. Try again."), "the failure is told", seconds=20)
    finally:
        postgres_proxy.weather = NetworkFault.FAIR
    await page.click("#ask-open")
    await page.click("[data-minutes='15']")
    await eventually(lambda: _says(page, "You asked for 15 more minutes."), "it is asked", seconds=20)
    await home.approve()
    await child.until_shown("stage")
    assert float((await home.balance())["used_seconds"]) >= LIMIT_SECONDS
    assert child.errors == []
    await context.close()
    await home.http.aclose()


async def _says(page: Any, beginning: str) -> bool:
    return bool((await page.inner_text("#ask-answer")).startswith(beginning))


@pytest.mark.skipif(CHROMIUM is None, reason="chromium is not installed: its headless shell has no such cache")
async def test_a_page_from_the_back_forward_cache_plays_on_in_a_new_session(service: Service, site: Site) -> None:
    """Its session ended when it was left, and the time in the cache counts for nothing."""
    home = await new_home(service)
    token = token_of(home.account_id, Role.HOUSEHOLD)
    async with async_playwright() as playwright:
        cached = await playwright.chromium.launch(
            executable_path=CHROMIUM, args=PLAYING, ignore_default_args=["--disable-back-forward-cache"]
        )
        page = await cached.new_page()
        await page.goto(f"{site.url}/watching?service={quote(service.url)}&profile={home.child}&token={token}")
        found = await asyncio.to_thread(site.reports.get, timeout=REPORT_TIMEOUT_SECONDS)
        await cached.close()
    assert found["phase"] == "idle"
    assert found["second"] != found["first"]
    assert found["playedSeconds"] >= 4
    used = float((await home.balance())["used_seconds"])
    assert abs(used - found["playedSeconds"]) <= TOLERANCE_SECONDS
    await home.http.aclose()
