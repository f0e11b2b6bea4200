"""The console in this process, on real servers, with a clock that tests move; and a browser that is a plain client."""

import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from html import unescape
from uuid import uuid4

import httpx
import pytest

from app.auth.tokens import Role
from app.embedded.valkey import Valkey
from app.settings.settings import Settings
from app.wiring.api import Services
from tests.rows import Rows
from tests.scenes.api import Api, SetClock, opened

ORIGIN = "http://localhost"
PASSWORD = "correct horse battery"
PIN = "4711"
_FORM = re.compile(r'<form[^>]*action="([^"]*)"[^>]*>(.*?)</form>', re.DOTALL)
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]*)" value="([^"]*)">')


def forms_of(html: str) -> list[tuple[str, dict[str, str]]]:
    """The forms of a page: where each goes to, with its hidden fields."""
    return [
        (unescape(action), {name: unescape(value) for name, value in _HIDDEN.findall(body)})
        for action, body in _FORM.findall(html)
    ]


@dataclass
class Browser:
    """Keeps cookies, and fills in forms as they stand on the page it sees; without scripts."""

    http: httpx.AsyncClient
    page: httpx.Response | None = None

    @property
    def text(self) -> str:
        assert self.page is not None
        return unescape(self.page.text)

    async def open(self, path: str) -> httpx.Response:
        self.page = await self.http.get(path, follow_redirects=True)
        return self.page

    def form(self, action: str) -> dict[str, str]:
        """The hidden fields of the first form of the page that goes there."""
        assert self.page is not None
        actions = [goes_to for goes_to, _ in forms_of(self.page.text)]
        found = [fields for goes_to, fields in forms_of(self.page.text) if goes_to == action]
        assert found, f"no form to {action} on {self.page.url}, but {actions}"
        return found[0]

    async def send(self, action: str, /, **fields: str) -> httpx.Response:
        """Fill in and send the first form of the page that goes there, and follow where it leads."""
        self.page = await self.post(action, self.form(action) | fields, follow=True)
        return self.page

    async def post(
        self, path: str, fields: dict[str, str], headers: Mapping[str, str] | None = None, *, follow: bool = False
    ) -> httpx.Response:
        """Send a form as a browser would; headers that are given win, empty ones are left out."""
        given = {"origin": ORIGIN, "referer": str(self.page.url) if self.page else ORIGIN, **(headers or {})}
        sent = {name: value for name, value in given.items() if value}
        return await self.http.post(path, data=fields, headers=sent, follow_redirects=follow)


@dataclass(frozen=True)
class Site:
    """The application, and browsers that visit it."""

    app: Api

    @property
    def services(self) -> Services:
        return self.app.services

    @property
    def clock(self) -> SetClock:
        return self.app.clock

    @property
    def rows(self) -> Rows:
        return self.app.rows

    def set_forward(self, ms: int) -> None:
        """Let time pass, for the services and for the counters alike."""
        self.app.set_clock(self.clock.at_ms + ms)

    def browser(self, *, base_url: str = ORIGIN, **headers: str) -> Browser:
        return Browser(httpx.AsyncClient(transport=self.app.http._transport, base_url=base_url, headers=headers))

    def api(self, account_id: str, role: Role = Role.HOUSEHOLD) -> httpx.AsyncClient:
        """A client of the API."""
        return self.app.signed_in(account_id, role)


@dataclass
class VisitingFamily:
    """A household with a PIN and children, and the browser of a parent who is signed in and has unlocked it."""

    site: Site
    browser: Browser
    account_id: str
    email: str
    children: dict[str, str]

    @property
    def child(self) -> str:
        return next(iter(self.children.values()))


@pytest.fixture(scope="module")
def clock() -> SetClock:
    """Tests may set it forward."""
    return SetClock()


@pytest.fixture(scope="module")
async def site(database_url: str, valkey: Valkey, clock: SetClock) -> AsyncIterator[Site]:
    """The application with one empty database per module."""
    secret = "x" * 32
    settings = Settings(
        database_url=database_url,
        redis_url=valkey.url,
        jwt_secret=secret,
        session_secret=secret,
        pin_pepper=secret,
        bcrypt_cost=4,
        redis_timeout_seconds=5,
        database_pool=4,
        console_style_page=True,
    )
    async with opened(settings, clock) as app:
        site = Site(app)
        site.set_forward(0)
        yield site


async def family_of(site: Site, *names: str, pin: bool = True, unlocked: bool = True) -> VisitingFamily:
    """A new household, made by the services."""
    email = f"{uuid4().hex}@example.org"
    signed_up = await site.services.households.register(email=email, password=PASSWORD, timezone="Europe/Oslo")
    account_id = signed_up.account_id
    if pin:
        await site.services.pins.choose(account_id, new_pin=PIN, current_pin=None, password=PASSWORD, actor="test")
    children = {}
    for name in names:
        profile = await site.services.members.add(account_id, name=name, is_kids=True, timezone=None, actor="test")
        children[name] = profile.id
    browser = site.browser()
    await browser.open("/sign-in")
    await browser.send("/sign-in", email=email, password=PASSWORD)
    if pin and unlocked:
        await browser.open("/unlock")
        await browser.send("/unlock", pin=PIN)
    return VisitingFamily(site, browser, account_id, email, children)


@pytest.fixture
async def family(site: Site) -> VisitingFamily:
    return await family_of(site, "Ada", "Ben")
