"""Stand-ins that behave like the real thing, for tests that need speed rather than servers."""

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# lupa reads this when its runtime starts; our shim stands in for the library that real servers carry.
os.environ["LUA_PATH"] = f"{Path(__file__).parent}/lua/?.lua;;"  # noqa: TID251  the only door into lupa's search path

import msgspec
import pytest
from fakeredis import FakeAsyncRedis

from app.auth.lockout_rules import Admission, Reservation, Rule, TryState
from app.redis_store.client import create_client


def fake_redis() -> FakeAsyncRedis:
    """A Redis in memory that runs our scripts."""
    redis = FakeAsyncRedis(lua_modules={"cmsgpack"})
    redis.connection_pool.scripts = _FakeScripts(redis.connection_pool)  # type: ignore[attr-defined]
    return redis


class _FakeScripts:
    """Sends script calls over the connections of fakeredis: ``app.redis_store.script_connection.ScriptConnection``."""

    def __init__(self, pool: Any) -> None:
        self._pool = pool

    async def run(self, packed: bytes) -> object:
        connection = await self._pool.get_connection()
        try:
            await connection.send_packed_command((packed,))
            return await connection.read_response()
        finally:
            await self._pool.release(connection)


def client_of(request: pytest.FixtureRequest) -> Any:
    """A client of what the parameter of a fixture names: the Redis in memory, or the fixture of a real server."""
    if request.param == "fakeredis":
        return fake_redis()
    return create_client(request.getfixturevalue(request.param).url, timeout_seconds=5, connections=8)


CLOCK_FELL_MS = 60_000


class MemoryTries:
    """Tries of PINs and passwords in memory, by the words of the rule: ``app.auth.lockout.Tries``."""

    def __init__(self) -> None:
        self.states: defaultdict[tuple[str, str], TryState] = defaultdict(TryState)

    async def reserve(self, subject_id: str, rule: Rule, reservation: Reservation) -> Admission:
        key = (subject_id, rule.kind)
        self.states[key], admission = self.states[key].reserve(reservation, rule)
        return admission

    async def conclude(self, subject_id: str, rule: Rule, reservation: Reservation, *, is_right: bool | None) -> None:
        key = (subject_id, rule.kind)
        self.states[key] = self.states[key].conclude(reservation, rule, is_right=is_right)

    async def know(self, subject_id: str, rule: Rule, reservation: Reservation, tried_ms: Sequence[int]) -> None:
        await self.conclude(subject_id, rule, reservation, is_right=None)
        key = (subject_id, rule.kind)
        self.states[key] = msgspec.structs.replace(self.states[key], tried_ms=tuple(tried_ms))

    async def clear(self, subject_id: str, rule: Rule) -> None:
        key = (subject_id, rule.kind)
        self.states[key] = msgspec.structs.replace(self.states[key], tried_ms=())


class MemoryTryLedger:
    """The safe copy of tries in memory: ``app.auth.lockout.AttemptStore``. Every subject is an account."""

    def __init__(self) -> None:
        self.states: defaultdict[tuple[str, str], TryState] = defaultdict(TryState)

    async def reserve(self, subject_id: str, rule: Rule, reservation: Reservation) -> tuple[Admission, Sequence[int]]:
        key = (subject_id, rule.kind)
        self.states[key], admission = self.states[key].reserve(reservation, rule)
        return admission, self.states[key].tried_ms

    async def conclude(self, subject_id: str, rule: Rule, reservation: Reservation, *, is_right: bool | None) -> None:
        key = (subject_id, rule.kind)
        self.states[key] = self.states[key].conclude(reservation, rule, is_right=is_right)

    async def read(self, subject_id: str, kind: str) -> list[int]:
        return list(self.states[subject_id, kind].tried_ms)

    async def clear(self, subject_id: str, kind: str) -> None:
        self.states[subject_id, kind] = msgspec.structs.replace(self.states[subject_id, kind], tried_ms=())
