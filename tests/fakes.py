"""Stand-ins that behave like the real thing, for tests that need speed rather than servers."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# lupa reads this when its runtime starts; our shim stands in for the library that real servers carry.
os.environ["LUA_PATH"] = f"{Path(__file__).parent}/lua/?.lua;;"  # noqa: TID251  the only door into lupa's search path

import pytest
from fakeredis import FakeAsyncRedis

from app.auth.lockout import Reservation, Rule
from app.redis_store.client import create_client


def fake_redis() -> FakeAsyncRedis:
    """A Redis in memory that runs our scripts."""
    return FakeAsyncRedis(lua_modules={"cmsgpack"})


def client_of(request: pytest.FixtureRequest) -> Any:
    """A client of what the parameter of a fixture names: the Redis in memory, or the fixture of a real server."""
    if request.param == "fakeredis":
        return fake_redis()
    return create_client(request.getfixturevalue(request.param).url, timeout_seconds=5, connections=8)


class MemoryTries:
    """Tries of PINs and passwords in memory, by the words of the rule: ``app.auth.lockout.Tries``."""

    def __init__(self) -> None:
        self.tried: dict[tuple[str, str], tuple[int, ...]] = {}

    async def reserve(
        self, subject_id: str, rule: Rule, *, at_ms: int, known_ms: Sequence[int] | None
    ) -> Reservation | None:
        key = (subject_id, rule.kind)
        if key not in self.tried and known_ms is None:
            return None
        tried = self.tried.get(key, tuple(known_ms or ()))
        if rule.locked_until_ms(tried, at_ms=at_ms) is not None:
            self.tried[key] = tried
            return Reservation(may_compare=False, tried_ms=tried)
        counted = () if len(tried) >= rule.most else tuple(ms for ms in tried if ms + rule.window_ms > at_ms)
        self.tried[key] = (*counted, at_ms)
        return Reservation(may_compare=True, tried_ms=self.tried[key])

    async def clear(self, subject_id: str, rule: Rule) -> None:
        self.tried.pop((subject_id, rule.kind), None)


class MemoryTryLedger:
    """The safe copy of tries in memory: ``app.auth.lockout.TryLedger``. Every subject is an account."""

    def __init__(self) -> None:
        self.tried: dict[tuple[str, str], list[int]] = {}

    async def keep(self, subject_id: str, kind: str, tried_ms: Sequence[int]) -> None:
        self.tried[subject_id, kind] = max(list(tried_ms), self.tried.get((subject_id, kind), []))

    async def read(self, subject_id: str, kind: str) -> list[int]:
        return list(self.tried.get((subject_id, kind), []))

    async def clear(self, subject_id: str, kind: str) -> None:
        self.tried.pop((subject_id, kind), None)
