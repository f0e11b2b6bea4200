"""Policies in memory, where those who keep them are fakes."""

import random
from collections.abc import Sequence

import pytest

from app.domain.policy import Policy
from app.errors import CountersUnavailable
from app.viewing.policies import PolicyCache


class Nowhere:
    """Neither a shared copy nor a row of anybody."""

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        return [None] * len(profile_ids)

    async def put(self, policies: Sequence[Policy]) -> list[Policy]:
        return list(policies)


async def _restore(_: Sequence[Policy]) -> set[str]:
    return set()


async def test_where_too_many_wait_the_rest_is_refused() -> None:
    cache = PolicyCache(
        shared=Nowhere(),
        source=Nowhere(),
        restore=_restore,
        weekend_days=(5, 6),
        ttl_ms=60_000,
        stale_ms=0,
        size=10,
        clock=lambda: 0,
        jitter=random.Random(1),  # noqa: S311  no secret
    )
    assert await cache.get("nobody") is None
    for loading in (cache._from_shared, cache._from_source):
        loading._max_waiting = 0
    with pytest.raises(CountersUnavailable):
        await cache.get("nobody")
