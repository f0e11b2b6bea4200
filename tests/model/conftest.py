"""The same tests over every server: in memory, Valkey of the wheel, Redis of Debian, a cluster."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fakes import client_of


@pytest.fixture(params=["fakeredis", "valkey", "redis7", "cluster"])
async def redis_client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    client = client_of(request)
    await client.flushall()
    yield client
    await client.aclose()
