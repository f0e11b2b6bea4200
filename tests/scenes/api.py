"""The whole API in this process, on real servers."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cached_property

import httpx

from app.auth.tokens import Role
from app.http.requests import API_PREFIX
from app.main import Dispatcher, create_app
from app.settings.settings import Settings
from app.wiring.api import Services, open_services
from tests.rows import Rows

NOON = 1_772_452_800_000
"""2026-03-02 12:00 UTC, a Monday."""
TEN_YEARS_SECONDS = 10 * 365 * 86_400
BASE_URL = f"http://test{API_PREFIX}"


@dataclass
class SetClock:
    """A clock that stands still until it is set."""

    at_ms: int = NOON

    def __call__(self) -> int:
        return self.at_ms


@dataclass(frozen=True)
class Api:
    """A running application and ways to speak to it."""

    front: Dispatcher
    http: httpx.AsyncClient

    @property
    def services(self) -> Services:
        services: Services = self.front.state.services
        return services

    @property
    def clock(self) -> SetClock:
        """For a test to set, where the application was opened with a clock that can be set."""
        clock = self.services.clock
        assert isinstance(clock, SetClock)
        return clock

    def set_clock(self, at_ms: int) -> None:
        """Let it be this instant for the application and for what counts and keeps in Redis alike."""
        services = self.services
        self.clock.at_ms = services.counters.at_ms = services.shared_policies.at_ms = at_ms

    @cached_property
    def rows(self) -> Rows:
        return Rows(self.services.engine)

    def as_role(self, account_id: str, role: Role, *, device_id: str | None = None) -> dict[str, str]:
        """The headers of somebody with a token that stays valid."""
        token = self.services.tokens.issue(
            account_id=account_id,
            role=role,
            at_s=self.services.clock() // 1000,
            life_seconds=TEN_YEARS_SECONDS,
            device_id=device_id,
        )
        return {"Authorization": f"Bearer {token}"}

    def signed_in(
        self, account_id: str, role: Role = Role.PARENT, *, device_id: str | None = None
    ) -> httpx.AsyncClient:
        """The client of somebody with a token that stays valid."""
        return httpx.AsyncClient(
            transport=self.http._transport,
            base_url=self.http.base_url,
            headers=self.as_role(account_id, role, device_id=device_id),
        )

    async def add_title(self, *, is_educational: bool = False) -> str:
        title_id = f"title-{uuid.uuid4().hex[:12]}"
        answer = await self.http.put(
            "/catalog/titles",
            json=[{"id": title_id, "name": f"Film {title_id}", "is_educational": is_educational}],
            headers=self.as_role("catalogue", Role.SERVICE),
        )
        assert answer.status_code == 200, answer.text
        return title_id


@asynccontextmanager
async def opened(settings: Settings, clock: SetClock) -> AsyncIterator[Api]:
    """An application whose time is the test's."""
    async with open_services(settings, clock=clock) as services:
        app = create_app(settings)
        app.state.services = services
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=BASE_URL) as client:
            yield Api(app, client)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Api]:
    """An application with its lifespan, as a process has it."""
    app = create_app(settings)
    transport = httpx.ASGITransport(app)
    async with app.lifespan(), httpx.AsyncClient(transport=transport, base_url=BASE_URL) as client:
        yield Api(app, client)
