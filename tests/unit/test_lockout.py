"""Reserve, store, compare: no guess is free, whatever happens in between."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from app.auth.hashing import Hasher, QueueSlot
from app.auth.hashing_queue import HashingKind
from app.auth.lockout import Lockout
from app.auth.lockout_rules import PIN, RESERVATION_MS, Reservation
from app.errors import DatabaseUnavailable, HashingInterrupted, Locked, TooManyRequests
from tests.fakes import MemoryTries, MemoryTryLedger

ACCOUNT = "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"
START_MS = 1_772_452_800_000


@pytest.fixture
async def hasher() -> AsyncIterator[Hasher]:
    hasher = Hasher(pepper=b"p" * 32, cost=4, queue=1000)
    yield hasher
    await hasher.close()


@pytest.fixture
def tries() -> MemoryTries:
    return MemoryTries()


@pytest.fixture
def ledger() -> MemoryTryLedger:
    return MemoryTryLedger()


@pytest.fixture
def lockout(hasher: Hasher, tries: MemoryTries, ledger: MemoryTryLedger) -> Lockout:
    return Lockout(PIN, kind=HashingKind.PIN, hasher=hasher, tries=tries, ledger=ledger, clock=lambda: START_MS)


async def _is_compared(lockout: Lockout, hashed: str) -> bool:
    """Whether a wrong guess was compared."""
    try:
        await lockout.matches(ACCOUNT, "0000", hashed)
    except (Locked, TooManyRequests):
        return False
    return True


async def test_guesses_stop_at_the_fifth_even_if_redis_forgets_each_time(
    lockout: Lockout, tries: MemoryTries, hasher: Hasher
) -> None:
    hashed = await hasher.hash("4711", HashingKind.PIN, ACCOUNT)
    for _ in range(PIN.most):
        assert not await lockout.matches(ACCOUNT, "0000", hashed)
        tries.states.clear()
    with pytest.raises(Locked):
        await lockout.matches(ACCOUNT, "4711", hashed)
    assert await lockout.locked_until_ms(ACCOUNT) == START_MS + PIN.lock_ms


async def test_a_wrong_answer_is_given_only_when_it_is_written_down(
    lockout: Lockout, ledger: MemoryTryLedger, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = await hasher.hash("4711", HashingKind.PIN, ACCOUNT)

    async def unavailable(*_: object, **__: object) -> None:
        raise DatabaseUnavailable

    for call in ("reserve", "conclude"):
        with monkeypatch.context() as away:
            away.setattr(ledger, call, unavailable)
            with pytest.raises(DatabaseUnavailable):
                await lockout.matches(ACCOUNT, "0000", hashed)
    assert await lockout.locked_until_ms(ACCOUNT) is None
    assert await lockout.matches(ACCOUNT, "4711", hashed), "nobody has learned anything, so nothing is counted"


async def test_right_answers_at_once_never_lock(lockout: Lockout, hasher: Hasher) -> None:
    hashed = await hasher.hash("4711", HashingKind.PIN, ACCOUNT)
    answers = await asyncio.gather(
        *(lockout.matches(ACCOUNT, "4711", hashed) for _ in range(12)), return_exceptions=True
    )
    assert answers.count(True) == PIN.most
    refusals = [answer for answer in answers if answer is not True]
    assert all(isinstance(answer, TooManyRequests) for answer in refusals)
    assert {answer.headers["Retry-After"] for answer in refusals if isinstance(answer, TooManyRequests)} == {"1"}
    assert await lockout.matches(ACCOUNT, "4711", hashed)


@pytest.mark.parametrize("loses_redis", [False, True])
async def test_wrong_answers_at_once_get_five_comparisons(
    lockout: Lockout, tries: MemoryTries, hasher: Hasher, monkeypatch: pytest.MonkeyPatch, loses_redis: bool
) -> None:
    hashed, compared = await hasher.hash("4711", HashingKind.PIN, ACCOUNT), 0
    match = QueueSlot.match

    async def counted(self: QueueSlot, secret: str, hashed: str | None) -> int | None:
        nonlocal compared
        compared += 1
        if loses_redis:
            tries.states.clear()
        return await match(self, secret, hashed)

    monkeypatch.setattr(QueueSlot, "match", counted)
    answers = await asyncio.gather(
        *(lockout.matches(ACCOUNT, "0000", hashed) for _ in range(200)), return_exceptions=True
    )
    assert (compared, answers.count(False)) == (PIN.most, PIN.most)
    with pytest.raises(Locked):
        await lockout.matches(ACCOUNT, "4711", hashed)


async def test_a_right_answer_does_not_forgive_guesses_under_way(lockout: Lockout, hasher: Hasher) -> None:
    hashed = await hasher.hash("4711", HashingKind.PIN, ACCOUNT)
    answers = await asyncio.gather(*(lockout.matches(ACCOUNT, pin, hashed) for pin in ("4711", *["0000"] * 4)))
    assert answers.count(True) == 1
    assert not await lockout.matches(ACCOUNT, "0000", hashed)
    wrong = 1 + sum([await _is_compared(lockout, hashed) for _ in range(PIN.most)])
    assert wrong <= PIN.most


async def test_an_interrupted_comparison_counts_for_nobody(
    lockout: Lockout, hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed = await hasher.hash("4711", HashingKind.PIN, ACCOUNT)

    async def interrupted(*_: object) -> int | None:
        raise HashingInterrupted

    with monkeypatch.context() as broken:
        broken.setattr(QueueSlot, "match", interrupted)
        for _ in range(3 * PIN.most):
            with pytest.raises(HashingInterrupted):
                await lockout.matches(ACCOUNT, "0000", hashed)
    assert await lockout.matches(ACCOUNT, "4711", hashed)


async def test_reservations_of_a_process_that_died_end(hasher: Hasher, ledger: MemoryTryLedger) -> None:
    """Both stores keep them, and both release them."""
    hashed, tries, now_ms = await hasher.hash("4711", HashingKind.PIN, ACCOUNT), MemoryTries(), START_MS
    lockout = Lockout(PIN, kind=HashingKind.PIN, hasher=hasher, tries=tries, ledger=ledger, clock=lambda: now_ms)
    for slot in range(PIN.most):
        left = Reservation(id=str(slot), at_ms=START_MS)
        assert (await tries.reserve(ACCOUNT, PIN, left)).is_reserved
        assert (await ledger.reserve(ACCOUNT, PIN, left))[0].is_reserved
    with pytest.raises(TooManyRequests):
        await lockout.matches(ACCOUNT, "4711", hashed)
    now_ms += RESERVATION_MS - 1
    with pytest.raises(TooManyRequests):
        await lockout.matches(ACCOUNT, "4711", hashed)
    now_ms += 1
    assert await lockout.matches(ACCOUNT, "4711", hashed)


async def test_nobody_is_locked_like_somebody(lockout: Lockout) -> None:
    for _ in range(PIN.most):
        assert not await lockout.matches(ACCOUNT, "4711", None)
    with pytest.raises(Locked) as refusal:
        await lockout.matches(ACCOUNT, "4711", None)
    assert refusal.value.headers["Retry-After"] == str(PIN.lock_ms // 1000)
