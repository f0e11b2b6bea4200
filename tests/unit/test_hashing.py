"""The process pool that hashes passwords and PINs."""

import asyncio
import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.hashing import Hasher, _peppered
from app.embedded.system import wait_until
from app.errors import HashingInterrupted, TooManyRequests

PEPPER = b"the-pepper-of-these-tests-0123456789"


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    pool = Hasher(pepper=PEPPER, cost=4, workers=1, queue=2)
    yield pool
    pool.close()


async def _matches(hasher: Hasher, secret: str, hashed: str | None) -> bool:
    with hasher.queue_slot() as slot:
        return await slot.match(secret, hashed) is not None


def _take_places(hasher: Hasher, count: int) -> None:
    with ExitStack() as places:
        for _ in range(count):
            places.enter_context(hasher.queue_slot())


async def test_only_the_secret_itself_matches(hasher: Hasher) -> None:
    hashed = await hasher.hash("correct horse")
    assert hashed.startswith("$2b$04$")
    assert await _matches(hasher, "correct horse", hashed)
    assert not await _matches(hasher, "correct horsf", hashed)
    assert await hasher.hash("correct horse") != hashed, "each hash has a salt of its own"


async def test_every_letter_of_a_long_secret_counts(hasher: Hasher) -> None:
    hashed = await hasher.hash("x" * 199 + "a")
    assert not await _matches(hasher, "x" * 199 + "b", hashed)
    assert await _matches(hasher, "x" * 199 + "a", hashed)


async def test_accents_may_be_composed_in_either_way(hasher: Hasher) -> None:
    assert await _matches(hasher, "caf\u00e9 au lait", await hasher.hash("cafe\u0301 au lait"))


async def test_the_database_alone_is_not_enough(hasher: Hasher) -> None:
    other = Hasher(pepper=b"another" * 5, cost=4, workers=1, queue=1)
    assert not await _matches(other, "1234", await hasher.hash("1234"))
    other.close()


async def test_nobody_never_matches(hasher: Hasher) -> None:
    assert not await _matches(hasher, "", None)
    assert not await _matches(hasher, "correct horse", None)


def test_comparing_with_nobody_does_the_same_work() -> None:
    """The stand-in has the cost of the real ones, so bcrypt goes through as many rounds."""
    hasher = Hasher(pepper=PEPPER, cost=9, workers=1, queue=1)
    assert hasher._nobody.startswith(b"$2b$09$")
    assert len(hasher._nobody) == 60
    hasher.close()


@given(st.text(max_size=200))
def test_any_text_fits_bcrypt(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # refused before it comes here
    peppered = _peppered(PEPPER, text)
    assert len(peppered) == 44
    assert b"\0" not in peppered


@dataclass(frozen=True)
class Gate:
    """Blocks processes until it is opened."""

    path: Path

    def wait(self) -> bool:
        with self.path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
        return True

    @contextmanager
    def shut(self) -> Iterator[None]:
        with self.path.open("wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@pytest.fixture
def gate(tmp_path: Path) -> Gate:
    return Gate(tmp_path / "gate")


async def test_a_full_queue_refuses_and_recovers(hasher: Hasher, gate: Gate) -> None:
    with gate.shut():
        blocked = [asyncio.ensure_future(hasher.queue_slot().run(gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        with pytest.raises(TooManyRequests) as refusal:
            await hasher.hash("one more")
        assert refusal.value.headers["Retry-After"] == "1"
    assert await asyncio.gather(*blocked) == [True] * 3
    assert await _matches(hasher, "x", await hasher.hash("x"))


async def test_callers_who_go_away_free_their_place(hasher: Hasher, gate: Gate) -> None:
    with gate.shut():
        blocked = [asyncio.ensure_future(hasher.queue_slot().run(gate.wait)) for _ in range(3)]
        await asyncio.sleep(0)
        for call in blocked:
            call.cancel()
        await asyncio.gather(*blocked, return_exceptions=True)
        with hasher.queue_slot():
            pass  # at least the last has left; the first, which is running, holds its place
        with pytest.raises(TooManyRequests):
            _take_places(hasher, 3)
    assert await hasher.queue_slot().run(int) == 0
    assert await _matches(hasher, "x", await hasher.hash("x"))


async def test_a_place_that_was_not_needed_is_given_back(hasher: Hasher) -> None:
    for _ in range(10):
        with hasher.queue_slot():
            pass
    assert await _matches(hasher, "x", await hasher.hash("x"))


async def test_a_process_that_dies_is_replaced(hasher: Hasher) -> None:
    first = await hasher.queue_slot().run(os.getpid)
    with pytest.raises(HashingInterrupted):
        await hasher.queue_slot().run(partial(os.kill, first, signal.SIGKILL))
    assert await hasher.queue_slot().run(os.getpid) not in {first, os.getpid()}
    _take_places(hasher, 3)


async def test_a_signal_to_the_whole_service_does_not_interrupt_what_is_being_hashed(hasher: Hasher) -> None:
    process = await hasher.queue_slot().run(os.getpid)
    await hasher.queue_slot().run(partial(os.kill, process, signal.SIGTERM))
    assert await hasher.queue_slot().run(os.getpid) == process


async def test_hashing_has_a_session_of_its_own(hasher: Hasher) -> None:
    process = await hasher.queue_slot().run(os.getpid)
    assert os.getsid(process) == process


def test_hashing_gives_way_to_a_process_that_gives_way_itself() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def of_hashing() -> int:
        pool = Hasher(pepper=PEPPER, cost=4, workers=1, queue=2)
        try:
            with pool.queue_slot() as slot:
                return await slot.run(partial(os.getpriority, os.PRIO_PROCESS, 0))
        finally:
            pool.close()

    def measured() -> None:  # a process begins with the niceness of the thread that starts it
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(14, niceness() + 7))
        found.append((niceness(), asyncio.run(of_hashing())))

    found: list[tuple[int, int]] = []
    thread = threading.Thread(target=measured)
    thread.start()
    thread.join()
    [(ours, of_its_process)] = found
    assert of_its_process == ours + 5


@pytest.mark.skipif(not Path("/proc/self/autogroup").exists(), reason="this kernel counts no sessions")
async def test_the_session_gives_way_too(hasher: Hasher) -> None:
    process = await hasher.queue_slot().run(os.getpid)
    wanted = f"nice {os.getpriority(os.PRIO_PROCESS, process)}"
    autogroup = Path(f"/proc/{process}/autogroup")
    assert wait_until(lambda: autogroup.read_text(encoding="ascii").rstrip().endswith(wanted), seconds=10)


def test_a_process_ends_with_its_parent_even_if_that_is_killed() -> None:
    script = """
import asyncio, os, signal
from app.auth.hashing import Hasher
async def main():
    hasher = Hasher(pepper=b"p" * 32, cost=4, workers=1, queue=1)
    print(await hasher.queue_slot().run(os.getpid), flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    # The output ends when nobody holds it any more: neither of them lives.
    ended = subprocess.run([sys.executable, "-c", script], stdout=subprocess.PIPE, check=False, timeout=30)  # noqa: S603
    assert ended.returncode == -signal.SIGKILL
