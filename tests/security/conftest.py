"""The API of tests/api, at the present time: what a test beats is dated by the server's own clock."""

from collections.abc import AsyncIterator

import pytest

from app.clock import now_ms
from app.embedded.valkey import Valkey
from app.postgres_store.partitions import make_partitions
from tests.api.conftest import api_settings
from tests.scenes.api import Api, SetClock, opened


@pytest.fixture
def clock() -> SetClock:
    return SetClock(now_ms())


@pytest.fixture
async def api(database_url: str, valkey: Valkey, clock: SetClock) -> AsyncIterator[Api]:
    """With all that is optional, so that every route answers."""
    async with opened(api_settings(database_url, valkey, event_feed=True), clock) as api:
        yield api


@pytest.fixture
async def partitioned(api: Api) -> Api:
    """The same with the tables that the worker makes for this month."""
    await make_partitions(api.services.engine, at_ms=api.clock())
    return api
