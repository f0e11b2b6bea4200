"""One API process and one Chromium for each module that tries the child's page."""

from collections.abc import AsyncIterator, Mapping

import pytest
import pytest_asyncio
from playwright.async_api import Browser

from app.embedded.valkey import Valkey
from tests.web.play.scene import Service, chromium, running_service


@pytest.fixture(scope="module")
def variables() -> Mapping[str, str]:
    """What else configures the service: a module that needs more says so by a fixture of this name."""
    return {}


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(database_url: str, valkey: Valkey, variables: Mapping[str, str]) -> AsyncIterator[Service]:
    async with running_service(database_url, valkey.url, variables) as service:
        yield service


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as started:
        yield started
