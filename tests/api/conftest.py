"""The API on real servers, with a clock that tests move."""

from collections.abc import AsyncIterator
from typing import Any

import pytest

from app.embedded.valkey import Valkey
from app.postgres_store.partitions import make_partitions
from app.settings.settings import Settings
from tests.scenes.api import NOON, Api, SetClock, opened


@pytest.fixture
def clock() -> SetClock:
    return SetClock()


def api_settings(database_url: str, valkey: Valkey, **overrides: Any) -> Settings:
    secret = "x" * 32
    return Settings(
        database_url=database_url,
        redis_url=valkey.url,
        jwt_secret=secret,
        session_secret=secret,
        pin_pepper=secret,
        bcrypt_cost=4,
        bcrypt_queue=256,  # all of two hundred guesses at once may come before a comparison is made
        redis_timeout_seconds=5,
        database_pool=4,
        **overrides,
    )


@pytest.fixture
async def api(database_url: str, valkey: Valkey, clock: SetClock) -> AsyncIterator[Api]:
    """The API with one empty database per module."""
    async with opened(api_settings(database_url, valkey), clock) as api:
        yield api


@pytest.fixture
async def partitions(api: Api) -> None:
    """Tables for sessions and balances of the weeks around noon, as the worker makes them."""
    await make_partitions(api.services.engine, at_ms=NOON)
