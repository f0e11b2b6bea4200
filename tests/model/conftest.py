"""The same tests over every server: in memory, Valkey of the wheel, Redis of Debian, a cluster."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.redis_store.client import create_client
from tests.fakes import fake_redis


@pytest.fixture(params=["fakeredis", "valkey", "redis7", "cluster"])
async def redis_client(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    if request.param == "fakeredis":
        client: Any = fake_redis()
    else:
        server = request.getfixturevalue(request.param)
        client = create_client(server.url, timeout_seconds=5, connections=4)
    await client.flushall()
    yield client
    await client.aclose()
