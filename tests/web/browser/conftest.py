"""The console in a real Chromium, against the real service.

Where there is no Chromium these tests are skipped, each with the reason, so that the summary counts them.
"""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import httpx
import pytest
from playwright.async_api import Browser, BrowserContext, Page, async_playwright

from app.auth.tokens import Role, Tokens
from app.clients.household import EDUCATIONAL, PLAIN, Household, create_household, fill_catalogue, limit
from app.clients.http import Client
from app.clients.past_weeks import Habits, write_past
from app.clock import now_ms
from app.embedded.secrets import development_secrets
from tests.browsers import FLAGS, HEADLESS
from tests.integration.test_up import Up
from tests.servers import reachable_folder

PASSWORD = "correct horse battery"
PIN = "4711"
TIMEZONE = "Europe/Oslo"
PHONE, DESKTOP = {"width": 360, "height": 740}, {"width": 1280, "height": 800}
TIMEOUT_MS = 8_000
REPORT = """
addEventListener("securitypolicyviolation", event => reportViolation(`${event.violatedDirective} ${event.blockedURI}`))
"""
REASON = "there is no Chromium here (apt-get install chromium): the console is not tried in a browser"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if HEADLESS is None:
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason=REASON))


@dataclass
class Service:
    """A running deployment."""

    up: Up
    url: str
    tokens: Tokens

    def token(self, account_id: str, role: Role) -> str:
        return self.tokens.issue(account_id=account_id, role=role, at_s=now_ms() // 1000, life_seconds=3600)

    @property
    def database_url(self) -> str:
        return self.up.deployment().variables["DATABASE_URL"]

    def pid_of(self, server: str) -> int:
        return self.up.deployment().processes[server]


@dataclass
class Home:
    """A household and clients that speak for it."""

    service: Service
    household: Household

    @property
    def email(self) -> str:
        return self.household.email

    def child(self, name: str = "Ada") -> str:
        return self.household.profiles[name]

    def player(self) -> httpx.AsyncClient:
        return self._client(Role.HOUSEHOLD)

    def parent(self) -> httpx.AsyncClient:
        return self._client(Role.PARENT)

    def _client(self, role: Role) -> httpx.AsyncClient:
        token = self.service.token(self.household.account_id, role)
        return httpx.AsyncClient(
            base_url=f"{self.service.url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=10
        )

    async def beat(self, name: str = "Ada", *, title: str = PLAIN[0], session: str | None = None) -> dict[str, object]:
        body = {"profile_id": self.child(name), "title_id": title, "device_id": "tv-1", "device_type": "tv"}
        async with self.player() as player:
            answer = await player.post(
                "/viewing-time/heartbeat", json=body | ({"session_id": session} if session else {})
            )
        assert answer.status_code == 200, answer.text
        found: dict[str, object] = answer.json()
        return found

    async def ask(self, name: str = "Ada", *, minutes: int = 15, note: str = "please") -> None:
        async with self.player() as player:
            path = f"/parental-controls/profiles/{self.child(name)}/requests"
            answer = await player.post(path, json={"minutes": minutes, "note": note})
        assert answer.status_code == 201, answer.text


@pytest.fixture(scope="session")
def service() -> Iterator[Service]:
    """`hourglass up`, once for all."""
    with reachable_folder() as folder, contextlib.ExitStack() as cleaning:
        up = Up(
            folder / "data",
            "--workers",
            "2",
            HOURGLASS_CONSOLE_STYLE_PAGE="1",
            HOURGLASS_BCRYPT_COST="4",
            HOURGLASS_FLUSH_CYCLE_SECONDS="1",
            HOURGLASS_DATABASE_TIMEOUT_SECONDS="1.5",
        )
        cleaning.callback(up.kill_everything)
        url = up.url()
        secret = development_secrets(folder / "data")["jwt_secret"]
        yield Service(up, url, Tokens(secret=secret.encode(), issuer="hourglass", audience="hourglass"))
        up.end()


@pytest.fixture(scope="session")
async def chromium() -> AsyncIterator[Browser]:
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=HEADLESS, args=FLAGS)
        yield browser
        await browser.close()


async def home_of(service: Service, *names: str, past: bool = False) -> Home:
    """A new household; with a past of five weeks if asked for."""
    async with Client(service.url) as client:
        await fill_catalogue(client, service_token=service.token("tests", Role.SERVICE))
        household = await create_household(
            client,
            email=f"{uuid4().hex}@example.org",
            password=PASSWORD,
            pin=PIN,
            timezone=TIMEZONE,
            names=names or ["Ada", "Ben"],
        )
        for profile_id in household.profiles.values():
            await limit(client, household, profile_id, 60, 60)
    if past:
        habits = Habits(
            plain=PLAIN,
            educational=EDUCATIONAL,
            device=("tv-1", "tv"),
            weekday_limit=60,
            weekend_limit=60,
            weekday_minutes=(50, 90),
            weekend_minutes=(50, 90),
            share=0.3,
            left_today_minutes=30,
        )
        await write_past(
            service.database_url, {household.profiles["Ada"]: habits}, timezone=TIMEZONE, reset_hour=6, seed=7
        )
    return Home(service, household)


@pytest.fixture
async def home(service: Service) -> Home:
    return await home_of(service)


@dataclass
class Visitor:
    """A browser context, and what went wrong in it."""

    context: BrowserContext
    url: str
    faults: list[str] = field(default_factory=list)

    def note_request(self, url: str) -> None:
        if not url.startswith((self.url, "data:", "blob:")):
            self.faults.append(f"another host: {url}")

    async def page(self) -> Page:
        page = await self.context.new_page()
        page.set_default_timeout(TIMEOUT_MS)
        page.on("pageerror", lambda error: self.faults.append(f"script: {error}"))
        return page

    async def sign_in(self, home: Home, *, unlocked: bool = True) -> Page:
        page = await self.page()
        await page.goto("/sign-in")
        await page.fill("#email", home.email)
        await page.fill("#password", PASSWORD)
        await page.click("main button")
        await page.wait_for_url(f"{self.url}/")
        if unlocked:
            await unlock(page)
        return page


async def unlock(page: Page) -> None:
    await page.goto("/unlock")
    await page.fill("#pin", PIN)
    await page.click("main button")
    await page.wait_for_selector("h1:has-text('Today')")


Visit = Callable[..., Awaitable[Visitor]]


@pytest.fixture
async def visit(chromium: Browser, service: Service) -> AsyncIterator[Visit]:
    """Opens browser contexts; at the end nothing may have violated the policy, or gone to another host."""
    async with contextlib.AsyncExitStack() as closing:

        async def opened(**options: object) -> Visitor:
            context = await chromium.new_context(
                **{"base_url": service.url, "viewport": DESKTOP, "locale": "en-GB", **options}  # type: ignore[arg-type]
            )
            closing.push_async_callback(context.close)
            visitor = Visitor(context, service.url)
            visitors.append(visitor)
            await context.expose_function("reportViolation", lambda what: visitor.faults.append(f"policy: {what}"))
            await context.add_init_script(REPORT)
            context.on("request", lambda request: visitor.note_request(request.url))
            return visitor

        visitors: list[Visitor] = []
        yield opened
        faults = [fault for visitor in visitors for fault in visitor.faults]
    assert not faults, faults
