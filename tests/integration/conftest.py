"""A deployment in this process whose Redis may be broken."""

from collections.abc import AsyncIterator

import pytest

from tests.integration.scene import Scene, opened
from tests.servers import Databases


@pytest.fixture
async def scene(postgres: Databases) -> AsyncIterator[Scene]:
    async with opened(postgres.fresh()) as found:
        yield found
