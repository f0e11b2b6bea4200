"""Reserve, write down, compare: whatever happens in between, no guess is free."""

import asyncio
from collections.abc import Iterator

import pytest

from app.auth.hashing import Hasher
from app.auth.lockout import PIN, Lockout
from app.errors import DatabaseUnavailable, Locked
from tests.fakes import MemoryTries, MemoryTryLedger

ACCOUNT = "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"
START_MS = 1_772_452_800_000


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    pool = Hasher(pepper=b"p" * 32, cost=4, workers=2, queue=1000)
    yield pool
    pool.close()


@pytest.fixture
def tries() -> MemoryTries:
    return MemoryTries()


@pytest.fixture
def ledger() -> MemoryTryLedger:
    return MemoryTryLedger()


@pytest.fixture
def lockout(hasher: Hasher, tries: MemoryTries, ledger: MemoryTryLedger) -> Lockout:
    return Lockout(PIN, hasher=hasher, tries=tries, ledger=ledger, clock=lambda: START_MS)


async def test_guesses_stop_at_the_fifth_even_if_redis_forgets_each_time(
    lockout: Lockout, tries: MemoryTries, hasher: Hasher
) -> None:
    hashed = await hasher.hash("4711")
    for _ in range(PIN.most):
        assert not await lockout.matches(ACCOUNT, "0000", hashed)
        tries.tried.clear()
    with pytest.raises(Locked):
        await lockout.matches(ACCOUNT, "4711", hashed)
    assert await lockout.locked_until_ms(ACCOUNT) == START_MS + PIN.lock_ms


async def test_a_try_is_written_down_before_it_is_compared(
    lockout: Lockout, ledger: MemoryTryLedger, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = await hasher.hash("4711")

    async def unavailable(*_: object) -> None:
        raise DatabaseUnavailable

    with monkeypatch.context() as away:
        away.setattr(ledger, "keep", unavailable)
        for _ in range(PIN.most):
            with pytest.raises(DatabaseUnavailable):
                await lockout.matches(ACCOUNT, "4711", hashed)
    with pytest.raises(Locked):  # each of them counted, although nobody knows how it would have ended
        await lockout.matches(ACCOUNT, "4711", hashed)


async def test_of_many_right_answers_at_once_none_locks_for_good(lockout: Lockout, hasher: Hasher) -> None:
    hashed = await hasher.hash("4711")
    answers = await asyncio.gather(
        *(lockout.matches(ACCOUNT, "4711", hashed) for _ in range(20)), return_exceptions=True
    )
    assert answers.count(True) >= PIN.most
    assert all(answer is True or isinstance(answer, Locked) for answer in answers)
    assert await lockout.matches(ACCOUNT, "4711", hashed)


async def test_nobody_is_locked_like_somebody(lockout: Lockout) -> None:
    for _ in range(PIN.most):
        assert not await lockout.matches(ACCOUNT, "4711", None)
    with pytest.raises(Locked) as refusal:
        await lockout.matches(ACCOUNT, "4711", None)
    assert refusal.value.headers["Retry-After"] == str(PIN.lock_ms // 1000)
