"""The API of tests/api, at the present time: what a test beats is dated by the server's own clock."""

import pytest

from app.clock import now_ms
from app.postgres_store.partitions import make_partitions
from tests.api.conftest import Api, SetClock, api

__all__ = ["api"]


@pytest.fixture
def clock() -> SetClock:
    return SetClock(now_ms())


@pytest.fixture
async def partitioned(api: Api) -> Api:
    """The same with the tables that the worker makes for this month."""
    await make_partitions(api.services.engine, at_ms=api.clock())
    return api
