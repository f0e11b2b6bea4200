"""Cached values stay usable while the database is away, without delay."""

import random
from collections.abc import Sequence

import pytest

from app.errors import DatabaseUnavailable
from app.kit.ttl_cache import TtlCache

LIFE_MS, STALE_MS, PATIENCE_MS = 60_000, 600_000, 5_000


class Source:
    """A database with one answer, which may change or become unreachable."""

    def __init__(self) -> None:
        self.at_ms = 0
        self.answer = "old"
        self.is_away = False
        self.asked = 0

    async def load(self, keys: Sequence[str]) -> list[str]:
        self.asked += 1
        if self.is_away:
            raise DatabaseUnavailable
        return [self.answer] * len(keys)

    def cache(self) -> TtlCache[str, str]:
        return TtlCache(
            self.load,
            ttl_ms=LIFE_MS,
            stale_ms=STALE_MS,
            size=10,
            clock=lambda: self.at_ms,
            jitter=random.Random(1),  # noqa: S311  no secret
        )


async def test_while_the_database_is_away_it_is_asked_now_and_then() -> None:
    source = Source()
    cache = source.cache()
    await cache.get("key")
    source.is_away, source.at_ms = True, LIFE_MS
    assert [await cache.get("key") for _ in range(20)] == ["old"] * 20
    assert source.asked == 2
    source.at_ms += PATIENCE_MS
    assert await cache.get("key") == "old"
    assert source.asked == 3
    source.is_away, source.answer = False, "new"
    source.at_ms += PATIENCE_MS
    assert await cache.get("key") == "new"


async def test_what_is_too_old_serves_no_longer_however_often_it_did() -> None:
    source = Source()
    cache = source.cache()
    await cache.get("key")
    source.is_away = True
    for at_ms in range(LIFE_MS, LIFE_MS + STALE_MS - LIFE_MS, PATIENCE_MS):
        source.at_ms = at_ms
        assert await cache.get("key") == "old"
    source.at_ms = LIFE_MS + STALE_MS
    with pytest.raises(DatabaseUnavailable):
        await cache.get("key")


async def test_what_was_expired_by_a_message_serves_while_the_database_is_away() -> None:
    source = Source()
    cache = source.cache()
    await cache.get("key")
    source.is_away = True
    cache.expire()
    assert await cache.get("key") == "old"
    source.at_ms = STALE_MS
    with pytest.raises(DatabaseUnavailable):
        await cache.get("key")
