"""The child's page in a real Chromium, against a real API process on a port."""

import asyncio
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from app.auth.tokens import Role, Tokens
from app.clock import now_ms
from app.settings.settings import environment
from app.timestamps import rfc3339
from app.wiring.worker import open_worker
from tests.browsers import FLAGS, HEADLESS
from tests.builders import settings_for
from tests.scenes.households import zone_at_noon
from tests.servers import ending_with_us

PLAYING = (*FLAGS, "--autoplay-policy=no-user-gesture-required")
PASSWORD = "correct horse battery"
ROOT = Path(__file__).parents[3]
BEAT_SECONDS = 5
SECRET = "s" * 32
TITLES = [
    {"id": "dragon-school", "name": "Dragon School", "is_educational": False},
    {"id": "moon-pirates", "name": "Moon Pirates", "is_educational": False},
    {"id": "numbers", "name": "Fun with Numbers", "is_educational": True},
    {"id": "short-story", "name": "A Short Story", "is_educational": False, "duration_seconds": 8},
]
MEASURE = """
() => {
  const video = document.getElementById('film');
  const clock = window.filmClock = {total: 0, since: null};
  video.addEventListener('play', () => { clock.since = clock.since ?? performance.now(); });
  video.addEventListener('pause', () => {
    if (clock.since !== null) clock.total += performance.now() - clock.since;
    clock.since = null;
  });
}
"""
PLAYED = """
() => (filmClock.total + (filmClock.since === null ? 0 : performance.now() - filmClock.since)) / 1000
"""


def environment_of(database_url: str, redis_url: str) -> dict[str, str]:
    """What an API process on these servers is started with."""
    return environment() | {
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "HOURGLASS_JWT_SECRET": SECRET,
        "HOURGLASS_SESSION_SECRET": SECRET,
        "HOURGLASS_PIN_PEPPER": SECRET,
        "HOURGLASS_BCRYPT_COST": "4",
        "HOURGLASS_BEAT_INTERVAL_SECONDS": str(BEAT_SECONDS),
        "HOURGLASS_LOG_LEVEL": "WARNING",
    }


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Service:
    """An API process that can be killed and started again."""

    environment: dict[str, str]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        command = [sys.executable, "-m", "app.cli", "api", "--port", str(self.port), "--workers", "1"]
        self.process = subprocess.Popen(  # noqa: ASYNC220, S603  ours
            [str(word) for word in ending_with_us(command, "TERM")], cwd=ROOT, env=self.environment
        )
        async with httpx.AsyncClient() as http:

            async def is_ready() -> bool:
                try:
                    return (await http.get(f"{self.url}/health/ready")).status_code == 200
                except httpx.TransportError:
                    return False

            await eventually(is_ready, "the service is ready", seconds=90)

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@asynccontextmanager
async def running_service(database_url: str, redis_url: str, variables: Mapping[str, str]) -> AsyncIterator[Service]:
    """An API process on a database that is ready for sessions and balances; ``variables`` win over its environment."""
    async with open_worker(settings_for(database_url=database_url, redis_url=redis_url)) as worker:
        await worker.make_partitions()
    service = Service(environment_of(database_url, redis_url) | dict(variables))
    await service.start()
    try:
        yield service
    finally:
        service.kill()


async def eventually(condition: Callable[[], Awaitable[bool]], what: str, *, seconds: float = 5) -> float:
    """Seconds until it held."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    while not await condition():
        assert loop.time() - began < seconds, f"not within {seconds} s: {what}"
        await asyncio.sleep(0.02)
    return loop.time() - began


@dataclass
class Home:
    """A household with a child, as its parents see it."""

    service: Service
    http: httpx.AsyncClient
    email: str
    account_id: str
    child: str

    async def balance(self) -> dict[str, Any]:
        answer = await self.http.get(f"/viewing-time/balance/{self.child}")
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body

    async def limit(self, minutes: int | None) -> None:
        await self.change(weekday_limit_minutes=minutes, weekend_limit_minutes=minutes)

    async def change(self, **config: Any) -> None:
        """Change fields of the child's config."""
        path = f"/parental-controls/profiles/{self.child}/viewing-time"
        etag = (await self.http.get(path)).headers["ETag"]
        answer = await self.http.put(path, json=config, headers={"If-Match": etag})
        assert answer.status_code == 200, answer.text

    async def spend(self, seconds: float) -> None:
        """Use time up, as another device that was offline an hour ago."""
        now = now_ms()
        began = now - 3_600_000
        interval = {
            "title_id": "moon-pirates",
            "started_at": rfc3339(began),
            "ended_at": rfc3339(began + int(seconds * 1000)),
            "watched_seconds": seconds,
        }
        body = {
            "profile_id": self.child,
            "device_id": "car",
            "batch_id": uuid.uuid4().hex,
            "device_now": rfc3339(now),
            "last_server_time": rfc3339(began - 1000),
            "intervals": [interval],
        }
        answer = await self.http.post("/viewing-time/offline-sync", json=body)
        assert answer.status_code == 200, answer.text
        assert answer.json()["credited_seconds"] == [seconds]

    async def approve(self) -> None:
        """Approve the request that is open."""
        path = f"/parental-controls/profiles/{self.child}/requests"
        entries = (await self.http.get(path)).json()["requests"]
        waiting = next(entry for entry in entries if entry["status"] in {"open", "pending"})
        answer = await self.http.post(f"{path}/{waiting['request_id']}/approve")
        assert answer.status_code == 200, answer.text

    async def grant(self, minutes: int | None) -> None:
        path = f"/parental-controls/profiles/{self.child}/viewing-time/grant"
        answer = await self.http.post(path, json={"minutes": minutes})
        assert answer.status_code == 201, answer.text


def token_of(account_id: str, role: Role) -> str:
    tokens = Tokens(secret=SECRET.encode(), issuer="hourglass", audience="hourglass", outside=None)
    return tokens.issue(account_id=account_id, role=role, at_s=now_ms() // 1000, life_seconds=3600)


async def new_home(service: Service, *, name: str = "Ada") -> Home:
    async with httpx.AsyncClient(base_url=f"{service.url}/api/v1") as anyone:
        email = f"{uuid.uuid4().hex}@example.org"
        zone = zone_at_noon(now_ms())
        body = {"email": email, "password": PASSWORD, "timezone": zone}
        account_id = (await anyone.post("/auth/register", json=body)).json()["account_id"]
        shelf = {"Authorization": f"Bearer {token_of('catalogue', Role.SERVICE)}"}
        assert (await anyone.put("/catalog/titles", json=TITLES, headers=shelf)).status_code == 200
    bearer = {"Authorization": f"Bearer {token_of(account_id, Role.PARENT)}"}
    http = httpx.AsyncClient(base_url=f"{service.url}/api/v1", headers=bearer)
    child = (await http.post("/profiles", json={"name": name, "is_kids": True})).json()["id"]
    return Home(service, http, email, account_id, child)


@dataclass
class Child:
    """Somebody in front of the page."""

    page: Page
    home: Home
    errors: list[str] = field(default_factory=list)

    async def watch(self, title: str = "moon-pirates") -> None:
        await self.page.click(f"[data-title={title}]")
        await self.until_phase("playing")

    async def phase(self) -> str:
        return str(await self.page.evaluate("document.body.dataset.phase"))

    async def until_phase(self, phase: str, *, seconds: float = 5) -> float:
        async def is_there() -> bool:
            return bool(await self.page.evaluate("hourglass.state.phase") == phase)

        return await eventually(is_there, f"phase {phase}", seconds=seconds)

    async def until_shown(self, screen: str, *, seconds: float = 5) -> float:
        async def is_there() -> bool:
            return await self.page.is_visible(f"#{screen}")

        return await eventually(is_there, f"#{screen} is shown", seconds=seconds)

    async def played(self) -> float:
        """Seconds for which the film ran."""
        return float(await self.page.evaluate(PLAYED))

    async def until_played(self, seconds: float) -> None:
        """Wait until the film has run for so much longer."""
        enough = await self.played() + seconds

        async def has_run() -> bool:
            return await self.played() >= enough

        await eventually(has_run, f"the film runs for {seconds} s", seconds=seconds + 15)

    async def is_playing(self) -> bool:
        return not await self.page.evaluate("document.getElementById('film').paused")

    async def leave(self) -> None:
        await self.page.click("#back")

    async def is_settled(self) -> bool:
        return bool(await self.page.evaluate("hourglass.machine.ends.length === 0 && !hourglass.machine.session"))


async def opened(context: BrowserContext, home: Home) -> Child:
    """The page with the child chosen, in a browser that is signed in by now."""
    page = await context.new_page()
    child = Child(page, home)
    page.on("pageerror", lambda error: child.errors.append(str(error)))
    page.on("console", lambda line: child.errors.append(line.text) if "Content Security Policy" in line.text else None)
    await page.goto(f"{home.service.url}/play")
    if "/sign-in" in page.url:
        await page.fill("[name=email]", home.email)
        await page.fill("[name=password]", PASSWORD)
        await page.click("main form button")
        await page.wait_for_url("**/play")
    await page.evaluate(MEASURE)
    await page.click(".person")
    await child.until_shown("shelf")
    return child


@asynccontextmanager
async def chromium(program: str | None = HEADLESS) -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=program, args=PLAYING)
        try:
            yield browser
        finally:
            await browser.close()
