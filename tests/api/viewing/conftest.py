"""Two instances of the API in this process, on real servers, as two processes would share them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
import pytest_asyncio

from app.embedded.valkey import Valkey
from app.main import create_app
from app.redis_store.client import create_client
from app.settings import Settings
from app.wiring import open_worker
from tests.builders import Api, settings_for


@pytest.fixture(scope="module")
def settings(database_url: str, valkey: Valkey) -> Settings:
    return settings_for(database_url=database_url, redis_url=valkey.url)


@asynccontextmanager
async def running(settings: Settings) -> AsyncIterator[Api]:
    """An API with its lifespan, and a client for it."""
    front = create_app(settings)
    transport = httpx.ASGITransport(app=front)
    async with front.lifespan(), httpx.AsyncClient(transport=transport, base_url="http://test/api/v1") as client:
        yield Api(front, client)


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
