"""Two instances of the API in this process, on real servers, as two processes would share them."""

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from app.embedded.valkey import Valkey
from app.redis_store.client import create_client
from app.settings.settings import Settings
from app.wiring.worker import open_worker
from tests.builders import settings_for
from tests.scenes.api import Api, running


@pytest.fixture(scope="module")
def settings(database_url: str, valkey: Valkey) -> Settings:
    return settings_for(database_url=database_url, redis_url=valkey.url)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def prepared(settings: Settings) -> Settings:
    """Empty counters and the partitions that the worker makes."""
    redis = create_client(settings.redis_url.get_secret_value(), timeout_seconds=5, connections=2)
    await redis.flushall()
    await redis.aclose()
    async with open_worker(settings) as worker:
        await worker.make_partitions()
    return settings


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def api(prepared: Settings) -> AsyncIterator[Api]:
    async with running(prepared) as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def other_api(prepared: Settings) -> AsyncIterator[Api]:
    async with running(prepared) as started:
        yield started
