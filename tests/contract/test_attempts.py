"""The counting of attempts is the same in memory, in every Redis and, where it is safe, in PostgreSQL."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from app.auth.lockout_rules import PASSWORD, PIN, RESERVATION_MS, Admission, Reservation, Rule
from app.auth.ports import Attempts, AttemptStore
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.lockouts import PostgresLockouts
from app.redis_store.attempts import RedisAttempts
from tests.fakes import MemoryTries, MemoryTryLedger, client_of
from tests.rows import Rows

START_MS = 1_772_452_800_000
RULE = Rule(kind="pin", most=3, window_ms=100, lock_ms=150)
_STEPS = st.lists(
    st.tuples(st.sampled_from([0, 1, 30, 49, 50, 51, 99, 100, 101, 149, 150, 151, 400]), st.booleans()), max_size=25
)


@pytest.fixture(params=["memory", "fakeredis", "valkey", "redis7", "cluster", "sentinel"])
async def tries(request: pytest.FixtureRequest) -> AsyncIterator[Attempts]:
    if request.param == "memory":
        yield MemoryTries()
        return
    client = client_of(request)
    yield RedisAttempts(client)
    await client.aclose()


_ids = itertools.count()


def _reservation(at_ms: int) -> Reservation:
    return Reservation(id=str(next(_ids)), at_ms=at_ms)


async def _admission(tries: Attempts, subject: str, *, at_ms: int, rule: Rule = RULE) -> Admission:
    return await tries.reserve(subject, rule, _reservation(at_ms))


async def _guess(tries: Attempts, subject: str, *, at_ms: int, is_right: bool = False, rule: Rule = RULE) -> bool:
    """Whether a comparison was allowed; it has then ended."""
    reservation = _reservation(at_ms)
    if not (await tries.reserve(subject, rule, reservation)).is_reserved:
        return False
    await tries.conclude(subject, rule, reservation, is_right=is_right)
    return True


@given(steps=_STEPS)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_tries_lock_as_the_rule_says(tries: Attempts, steps: list[tuple[int, bool]]) -> None:
    """The oracle keeps every wrong try and asks how many lie within the window."""
    subject, at_ms, locked_until_ms = str(uuid4()), START_MS, 0
    wrong: list[int] = []
    for pause_ms, is_right in steps:
        at_ms += pause_ms
        may_compare = await _guess(tries, subject, at_ms=at_ms, is_right=is_right)
        assert may_compare is (at_ms >= locked_until_ms)
        if not may_compare:
            continue
        if is_right:
            wrong = []
            continue
        wrong.append(at_ms)
        if sum(1 for ms in wrong if ms > at_ms - RULE.window_ms) >= RULE.most:
            wrong, locked_until_ms = [], at_ms + RULE.lock_ms


async def test_a_lock_says_until_when(tries: Attempts) -> None:
    subject = str(uuid4())
    for later_ms in range(RULE.most):
        assert await _guess(tries, subject, at_ms=START_MS + later_ms)
    locked = await _admission(tries, subject, at_ms=START_MS + 9)
    assert (locked.locked_until_ms, locked.is_busy) == (START_MS + RULE.most - 1 + RULE.lock_ms, False)


async def test_what_the_ledger_knows_counts(tries: Attempts) -> None:
    subject, reservation = str(uuid4()), _reservation(START_MS + 9)
    assert (await tries.reserve(subject, RULE, reservation)).is_reserved
    await tries.know(subject, RULE, reservation, [START_MS, START_MS + 1, START_MS + 2])
    assert (await _admission(tries, subject, at_ms=START_MS + 9)).locked_until_ms == START_MS + 2 + RULE.lock_ms


async def test_parallel_guesses_share_one_count(tries: Attempts) -> None:
    subject = str(uuid4())
    reservations = [_reservation(START_MS) for _ in range(50)]
    admissions = await asyncio.gather(*(tries.reserve(subject, PIN, each) for each in reservations))
    reserved = [each for each, admission in zip(reservations, admissions, strict=True) if admission.is_reserved]
    assert len(reserved) == PIN.most
    assert all(admission.is_reserved or admission.is_busy for admission in admissions), "none of them is locked"
    for reservation in reserved:
        await tries.conclude(subject, PIN, reservation, is_right=False)
    assert (await _admission(tries, subject, at_ms=START_MS, rule=PIN)).locked_until_ms == START_MS + PIN.lock_ms


async def test_a_comparison_under_way_is_no_wrong_try(tries: Attempts) -> None:
    subject = str(uuid4())
    reservations = [_reservation(START_MS) for _ in range(RULE.most)]
    for reservation in reservations:
        assert (await tries.reserve(subject, RULE, reservation)).is_reserved
    assert (await _admission(tries, subject, at_ms=START_MS)).is_busy
    await tries.conclude(subject, RULE, reservations[0], is_right=True)
    await tries.conclude(subject, RULE, reservations[1], is_right=None)
    assert await _guess(tries, subject, at_ms=START_MS)  # one wrong, one under way
    assert await _guess(tries, subject, at_ms=START_MS)
    assert (await _admission(tries, subject, at_ms=START_MS)).is_busy
    await tries.conclude(subject, RULE, reservations[2], is_right=False)
    assert (await _admission(tries, subject, at_ms=START_MS)).locked_until_ms == START_MS + RULE.lock_ms


@pytest.mark.parametrize("after_ms", [RESERVATION_MS, -RESERVATION_MS - 1])
async def test_a_reservation_that_nobody_concludes_ends(tries: Attempts, after_ms: int) -> None:
    """By its age, also by a clock that was set back."""
    subject = str(uuid4())
    for _ in range(RULE.most):
        assert (await _admission(tries, subject, at_ms=START_MS)).is_reserved
    assert (await _admission(tries, subject, at_ms=START_MS)).is_busy
    assert (await _admission(tries, subject, at_ms=START_MS + after_ms)).is_reserved


async def test_kinds_and_subjects_do_not_mix(tries: Attempts) -> None:
    subject, other = str(uuid4()), str(uuid4())
    for _ in range(RULE.most):
        assert await _guess(tries, subject, at_ms=START_MS)
    assert not await _guess(tries, subject, at_ms=START_MS)
    assert await _guess(tries, other, at_ms=START_MS)
    assert await _guess(tries, subject, at_ms=START_MS, rule=Rule(kind="password", most=3, window_ms=9, lock_ms=9))


@pytest.mark.parametrize("step_ms", [1, 100, 10_800_000])
async def test_a_clock_that_fell_locks_nobody_for_longer_than_the_rule_says(tries: Attempts, step_ms: int) -> None:
    subject, now_ms = str(uuid4()), START_MS - step_ms
    for _ in range(RULE.most):
        assert await _guess(tries, subject, at_ms=START_MS)
    assert not await _guess(tries, subject, at_ms=now_ms), "nor is a lock broken by it"
    assert not await _guess(tries, subject, at_ms=now_ms + RULE.lock_ms - 1)
    assert await _guess(tries, subject, at_ms=now_ms + RULE.lock_ms)


async def test_a_clock_that_fell_locks_nobody_who_was_not_locked(tries: Attempts) -> None:
    subject, now_ms = str(uuid4()), START_MS - 10_800_000
    for _ in range(RULE.most - 1):
        await _guess(tries, subject, at_ms=START_MS)
    assert await _guess(tries, subject, at_ms=now_ms + 10)
    await tries.clear(subject, RULE)
    assert await _guess(tries, subject, at_ms=now_ms + 11)


def test_a_lock_that_lies_ahead_ends_as_the_rule_says() -> None:
    tried = [START_MS] * RULE.most
    assert RULE.locked_until_ms(tried, at_ms=START_MS - 10_800_000) == START_MS - 10_800_000 + RULE.lock_ms
    assert RULE.locked_until_ms(tried, at_ms=START_MS + 1) == START_MS + RULE.lock_ms


@pytest.fixture(params=["memory", "postgres", "postgres15"])
async def ledger(request: pytest.FixtureRequest) -> AsyncIterator[tuple[AttemptStore, str]]:
    """A ledger and an account that it knows."""
    if request.param == "memory":
        yield MemoryTryLedger(), str(uuid4())
        return
    engine = create_engine(request.getfixturevalue(request.param).fresh(), pool_size=3, timeout_seconds=5)
    yield PostgresLockouts(engine), await Rows(engine).account()
    await engine.dispose()


async def test_a_ledger_counts_exactly_whatever_comes_at_once(ledger: tuple[AttemptStore, str]) -> None:
    kept, account = ledger
    assert await kept.read(account, "pin") == []
    reservations = [_reservation(START_MS + place) for place in range(20)]
    answers = await asyncio.gather(*(kept.reserve(account, PIN, each) for each in reservations))
    reserved = [each for each, (admission, _) in zip(reservations, answers, strict=True) if admission.is_reserved]
    assert len(reserved) == PIN.most
    assert await kept.read(account, "pin") == []
    await asyncio.gather(*(kept.conclude(account, PIN, each, is_right=False) for each in reserved))
    assert await kept.read(account, "pin") == sorted(each.at_ms for each in reserved)
    admission, tried_ms = await kept.reserve(account, PIN, _reservation(START_MS + 30))
    assert admission.locked_until_ms == tried_ms[-1] + PIN.lock_ms
    assert await kept.read(account, "password") == []
    await kept.clear(account, "pin")
    assert await kept.read(account, "pin") == []


async def test_a_ledger_keeps_no_empty_rows(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1, timeout_seconds=5)
    kept, account, first, second = PostgresLockouts(engine), await Rows(engine).account(), *map(_reservation, (1, 2))

    async def rows() -> int:
        async with engine.connect() as database:
            mine = select(func.count()).where(tables.lockouts.c.account_id == account)
            return (await database.execute(mine)).scalar_one()

    for reservation, is_right in ((first, True), (second, False)):
        await kept.reserve(account, PIN, reservation)
        assert await rows() == 1
        await kept.conclude(account, PIN, reservation, is_right=is_right)
    assert await rows() == 1
    await kept.clear(account, "pin")
    assert await rows() == 0
    await engine.dispose()


async def test_a_ledger_forgives_with_a_right_answer_what_is_not_under_way(ledger: tuple[AttemptStore, str]) -> None:
    kept, account = ledger
    first, second, third = (_reservation(START_MS) for _ in range(3))
    for reservation in (first, second, third):
        assert (await kept.reserve(account, RULE, reservation))[0].is_reserved
    await kept.conclude(account, RULE, first, is_right=False)
    await kept.conclude(account, RULE, second, is_right=True)
    assert await kept.read(account, "pin") == []
    await kept.conclude(account, RULE, third, is_right=False)
    assert await kept.read(account, "pin") == [START_MS]


async def test_a_ledger_keeps_nothing_for_nobody(database_url: str) -> None:
    engine = create_engine(database_url, pool_size=1, timeout_seconds=5)
    kept, nobody, reservation = PostgresLockouts(engine), str(uuid4()), _reservation(1)
    assert (await kept.reserve(nobody, PASSWORD, reservation))[0].is_reserved
    await kept.conclude(nobody, PASSWORD, reservation, is_right=False)
    assert await kept.read(nobody, "password") == []
    await engine.dispose()
