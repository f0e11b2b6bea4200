"""A deployment in this process whose Redis may be broken."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from tests.integration.scene import Scene, opened
from tests.servers import Databases

LOOPS: Mapping[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
}


def pytest_asyncio_loop_factories(item: pytest.Item) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """The loops that a file may name in its mark; else that of asyncio."""
    mark = item.get_closest_marker("asyncio")
    return LOOPS if mark is not None and "loop_factories" in mark.kwargs else {"asyncio": LOOPS["asyncio"]}


@pytest.fixture
async def scene(postgres: Databases) -> AsyncIterator[Scene]:
    async with opened(postgres.fresh()) as found:
        yield found
