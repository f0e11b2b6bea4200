"""The whole API in this process, on real servers, with a clock that tests move."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import httpx
import pytest

from app.auth.tokens import Role
from app.embedded.valkey import Valkey
from app.main import create_app
from app.requests import API_PREFIX
from app.settings import Settings
from app.wiring import Services, open_services
from tests.rows import Rows

NOON = 1_772_452_800_000
"""2026-03-02 12:00 UTC, a Monday."""


@dataclass
class SetClock:
    """A clock that stands still until it is set."""

    at_ms: int = NOON

    def __call__(self) -> int:
        return self.at_ms


@dataclass
class Api:
    """The application and ways to speak to it."""

    services: Services
    clock: SetClock
    http: httpx.AsyncClient
    rows: Rows = field(init=False)

    def __post_init__(self) -> None:
        self.rows = Rows(self.services.engine)

    def signed_in(
        self, account_id: str, role: Role = Role.PARENT, *, device_id: str | None = None
    ) -> httpx.AsyncClient:
        """The client of somebody with a token that stays valid."""
        token = self.services.tokens.issue(
            account_id=account_id,
            role=role,
            at_s=self.clock() // 1000,
            life_seconds=10 * 365 * 86_400,
            device_id=device_id,
        )
        return httpx.AsyncClient(
            transport=self.http._transport,
            base_url=self.http.base_url,
            headers={"Authorization": f"Bearer {token}"},
        )


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


@pytest.fixture
async def api(database_url: str, valkey: Valkey, clock: SetClock) -> AsyncIterator[Api]:
    """The API with one empty database per module."""
    secret = "x" * 32
    settings = Settings(
        database_url=database_url,
        redis_url=valkey.url,
        jwt_secret=secret,
        session_secret=secret,
        pin_pepper=secret,
        bcrypt_cost=4,
        bcrypt_queue=256,  # all of two hundred guesses at once may come before a comparison is made
        redis_timeout_seconds=5,
        database_pool=4,
    )
    async with open_services(settings, clock=clock) as services:
        app = create_app(settings)
        app.state.services = services
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url=f"http://test{API_PREFIX}") as client:
            yield Api(services, clock, client)
