"""Counting tries: the same rule in memory, in every Redis, and where it is safe in PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.auth.lockout import PIN, Rule, Tries, TryLedger
from app.postgres_store.engine import create_engine
from app.postgres_store.lockouts import PostgresLockouts
from app.redis_store.tries import RedisTries
from tests.fakes import MemoryTries, MemoryTryLedger, client_of
from tests.rows import Rows

START_MS = 1_772_452_800_000
RULE = Rule(kind="pin", most=3, window_ms=100, lock_ms=150)
_STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 30, 49, 50, 51, 99, 100, 101, 149, 150, 151, 400]), st.booleans()), max_size=25
)


@pytest.fixture(params=["memory", "fakeredis", "valkey", "redis7", "cluster", "sentinel"])
async def tries(request: pytest.FixtureRequest) -> AsyncIterator[Tries]:
    if request.param == "memory":
        yield MemoryTries()
        return
    client = client_of(request)
    yield RedisTries(client)
    await client.aclose()


async def _try(tries: Tries, subject: str, *, at_ms: int, rule: Rule = RULE) -> bool:
    """Whether a comparison may be made, by a caller that knows of nothing before."""
    reservation = await tries.reserve(subject, rule, at_ms=at_ms, known_ms=[])
    assert reservation is not None
    return reservation.may_compare


@given(steps=_STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_tries_lock_as_the_rule_says(tries: Tries, steps: list[tuple[int, bool]]) -> None:
    """The oracle keeps every wrong try and asks how many lie within the window."""
    subject, at_ms, locked_until_ms = str(uuid4()), START_MS, 0
    wrong: list[int] = []
    for pause_ms, is_right in steps:
        at_ms += pause_ms
        may_compare = await _try(tries, subject, at_ms=at_ms)
        assert may_compare is (at_ms >= locked_until_ms)
        if not may_compare:
            continue
        if is_right:
            wrong = []
            await tries.clear(subject, RULE)
            continue
        wrong.append(at_ms)
        if sum(1 for ms in wrong if ms > at_ms - RULE.window_ms) >= RULE.most:
            wrong, locked_until_ms = [], at_ms + RULE.lock_ms


async def test_what_is_not_known_is_asked_for(tries: Tries) -> None:
    subject = str(uuid4())
    assert await tries.reserve(subject, RULE, at_ms=START_MS, known_ms=None) is None
    locked = await tries.reserve(subject, RULE, at_ms=START_MS + 9, known_ms=[START_MS, START_MS + 1, START_MS + 2])
    assert locked is not None
    assert (locked.may_compare, locked.tried_ms) == (False, (START_MS, START_MS + 1, START_MS + 2))
    again = await tries.reserve(subject, RULE, at_ms=START_MS + 9, known_ms=None)
    assert again == locked, "from now on it is known"


async def test_parallel_guesses_share_one_count(tries: Tries) -> None:
    subject = str(uuid4())
    allowed = await asyncio.gather(*(_try(tries, subject, at_ms=START_MS, rule=PIN) for _ in range(50)))
    assert sum(allowed) == PIN.most


async def test_kinds_and_subjects_do_not_mix(tries: Tries) -> None:
    subject, other = str(uuid4()), str(uuid4())
    for _ in range(RULE.most):
        assert await _try(tries, subject, at_ms=START_MS)
    assert not await _try(tries, subject, at_ms=START_MS)
    assert await _try(tries, other, at_ms=START_MS)
    assert await _try(tries, subject, at_ms=START_MS, rule=Rule(kind="password", most=3, window_ms=9, lock_ms=9))


@pytest.fixture(params=["memory", "postgres", "postgres15"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[tuple[TryLedger, str]]:
    """A ledger and an account that it knows."""
    if request.param == "memory":
        yield MemoryTryLedger(), str(uuid4())
        return
    engine = create_engine(request.getfixturevalue(request.param).fresh(), pool_size=3, timeout_seconds=5)
    yield PostgresLockouts(engine), await Rows(engine).account()
    await engine.dispose()


async def test_a_ledger_keeps_the_latest_whatever_arrives_when(ledger: tuple[TryLedger, str]) -> None:
    kept, account = ledger
    assert await kept.read(account, "pin") == []
    states = [[1], [1, 2], [1, 2, 2], [2, 2, 50], [60]]
    await asyncio.gather(*(kept.keep(account, "pin", state) for state in reversed(states)))
    for state in states:
        await kept.keep(account, "pin", state)
    assert await kept.read(account, "pin") == [60]
    assert await kept.read(account, "password") == []
    await kept.clear(account, "pin")
    assert await kept.read(account, "pin") == []


async def test_a_ledger_keeps_nothing_for_nobody(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1, timeout_seconds=5)
    kept, nobody = PostgresLockouts(engine), str(uuid4())
    await kept.keep(nobody, "password", [1])
    assert await kept.read(nobody, "password") == []
    await engine.dispose()
