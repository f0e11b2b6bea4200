"""Secrets are hashed in a process that gives way, one at a time on the machine, whatever happens to processes."""

import asyncio
import contextlib
import fcntl
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth import hashing, hashing_process, hashing_program
from app.auth.hashing import Hasher, _peppered
from app.auth.hashing_queue import MAX_PLACES_OF_AN_ACCOUNT, HashingKind
from app.embedded.system import wait_until
from app.errors import HashingInterrupted, TooManyRequests
from app.wiring.identity import _open_hasher
from tests.builders import settings_for

PEPPER = b"the-pepper-of-these-tests-0123456789"
ACCOUNT = "5d2f3d7e-1c5b-4f4e-9d0a-0f3b0d1c2b3a"
API_PROCESS = """
import asyncio, sys
from pathlib import Path
from app.auth.hashing import Hasher
from app.auth.hashing_queue import HashingKind
async def main():
    hasher = Hasher(pepper=b"p" * 32, cost=4, queue=1, lock_file=Path(sys.argv[1]) if sys.argv[1:] else None)
    await hasher.hash("x", HashingKind.PIN, "account")
    print(hasher._process._process.pid, flush=True)
    sys.stdin.read()
asyncio.run(main())
"""
"""An API process with a hashing process, whose id it prints."""


@contextlib.asynccontextmanager
async def opened(**options: object) -> AsyncIterator[Hasher]:
    hasher = Hasher(**{"pepper": PEPPER, "cost": 4, "queue": 2} | options)  # type: ignore[arg-type]
    yield hasher
    await hasher.close()


@pytest.fixture
async def hasher() -> AsyncIterator[Hasher]:
    async with opened() as hasher:
        yield hasher


async def _hash(hasher: Hasher, secret: str = "x", account: str = ACCOUNT) -> str:  # noqa: S107
    return await hasher.hash(secret, HashingKind.PIN, account)


async def _matches(hasher: Hasher, secret: str, hashed: str | None) -> bool:
    with hasher.queue_slot(HashingKind.PIN, ACCOUNT) as slot:
        return await slot.match(secret, hashed) is not None


async def _process_of(hasher: Hasher) -> int:
    """The id of its process, which runs now."""
    await _hash(hasher)
    process = hasher._process._process
    assert process is not None
    return process.pid


def _is_hash(answer: object) -> bool:
    return isinstance(answer, str) and answer.startswith("$2b$")


def _is_gone(process: int) -> bool:
    return not Path(f"/proc/{process}").exists()


def _read(process: int, file: str) -> str:
    return Path(f"/proc/{process}/{file}").read_text(encoding="utf-8")


@contextlib.contextmanager
def locked(file: Path, *bytes_of_it: int) -> Iterator[None]:
    """Somebody else has the turn."""
    script = "import fcntl, sys; f = open(sys.argv[1], 'a+')\n"
    script += f"for byte in {bytes_of_it}: fcntl.lockf(f, fcntl.LOCK_EX, 1, byte)\n"
    script += "print('locked', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", script, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:  # noqa: S603
        assert other.stdout is not None
        assert other.stdout.readline() == b"locked\n"
        yield
        other.kill()


async def test_only_the_secret_itself_matches(hasher: Hasher) -> None:
    hashed = await _hash(hasher, "correct horse")
    assert hashed.startswith("$2b$04$")
    assert await _matches(hasher, "correct horse", hashed)
    assert not await _matches(hasher, "correct horsf", hashed)
    assert await _hash(hasher, "correct horse") != hashed, "each hash has a salt of its own"


async def test_every_letter_of_a_long_secret_counts(hasher: Hasher) -> None:
    hashed = await _hash(hasher, "x" * 199 + "a")
    assert not await _matches(hasher, "x" * 199 + "b", hashed)
    assert await _matches(hasher, "x" * 199 + "a", hashed)


async def test_accents_may_be_composed_in_either_way(hasher: Hasher) -> None:
    assert await _matches(hasher, "caf\u00e9 au lait", await _hash(hasher, "cafe\u0301 au lait"))


async def test_the_database_alone_is_not_enough(hasher: Hasher) -> None:
    async with opened(pepper=b"another" * 5) as other:
        assert not await _matches(other, "1234", await _hash(hasher, "1234"))


async def test_nobody_never_matches(hasher: Hasher) -> None:
    assert not await _matches(hasher, "", None)
    assert not await _matches(hasher, "correct horse", None)


def test_comparing_with_nobody_does_the_same_work() -> None:
    """The stand-in has the cost of the real ones, so bcrypt goes through as many rounds."""
    hasher = Hasher(pepper=PEPPER, cost=9, queue=1)
    assert hasher._nobody.startswith(b"$2b$09$")
    assert len(hasher._nobody) == 60


async def test_a_hash_of_an_earlier_pepper_matches_and_says_so(hasher: Hasher) -> None:
    hashed = await _hash(hasher, "4711")
    async with opened(pepper=b"new" * 11, previous=(b"older" * 7, PEPPER)) as renewed:
        with renewed.queue_slot(HashingKind.PIN, ACCOUNT) as slot:
            assert await slot.match("4711", hashed) == 2
            assert await slot.match("4711", await _hash(renewed, "4711")) == 0
            assert await slot.match("0815", hashed) is None


async def test_what_is_no_hash_of_bcrypt_is_a_defect_of_one_caller(hasher: Hasher) -> None:
    process = await _process_of(hasher)
    for hashed in ("", "4711", "$2b$99$" + "." * 53):
        with pytest.raises(ValueError, match="bcrypt"):
            await _matches(hasher, "4711", hashed)
    assert await _process_of(hasher) == process


@given(st.text(max_size=200))
def test_any_text_fits_bcrypt(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # refused before it comes here
    peppered = _peppered(PEPPER, text)
    assert len(peppered) == 44
    assert b"\0" not in peppered


# --- the queue


async def test_a_full_queue_refuses_and_recovers(tmp_path: Path) -> None:
    async with opened(lock_file=tmp_path / "lock") as hasher:
        with locked(tmp_path / "lock", 0):
            waiting = [asyncio.create_task(_hash(hasher, account=str(number))) for number in range(3)]
            await asyncio.sleep(0)
            with pytest.raises(TooManyRequests) as refusal:
                await _hash(hasher, account="one more")
            assert refusal.value.headers["Retry-After"] == "1"
        assert len(await asyncio.gather(*waiting)) == 3
        assert await _matches(hasher, "x", await _hash(hasher))


async def test_callers_who_go_away_free_their_places(tmp_path: Path) -> None:
    async with opened(lock_file=tmp_path / "lock") as hasher:
        with locked(tmp_path / "lock", 0):
            waiting = [asyncio.create_task(_hash(hasher)) for _ in range(3)]
            await asyncio.sleep(0.1)
            for call in waiting:
                call.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            others = [asyncio.create_task(_hash(hasher)) for _ in range(3)]
            await asyncio.sleep(0.1)
        assert len(await asyncio.gather(*others)) == 3


async def test_an_account_with_many_requests_leaves_places_to_others() -> None:
    async with opened(queue=64) as hasher:
        many = [asyncio.create_task(_hash(hasher)) for _ in range(64)]
        await asyncio.sleep(0)
        assert await _hash(hasher, account="another")
        refused = [answer for answer in await asyncio.gather(*many, return_exceptions=True) if not _is_hash(answer)]
        assert len(refused) == 64 - MAX_PLACES_OF_AN_ACCOUNT
        assert all(isinstance(answer, TooManyRequests) for answer in refused)


async def test_an_account_with_few_requests_does_not_wait_for_all_of_another(tmp_path: Path) -> None:
    order: list[str] = []
    async with opened(queue=64, lock_file=tmp_path / "lock") as hasher:

        async def hashed(account: str) -> None:
            await _hash(hasher, account=account)
            order.append(account)

        with locked(tmp_path / "lock", 0):
            accounts = ["many"] * 8 + ["few", "other"]
            waiting = [asyncio.create_task(hashed(account)) for account in accounts]
            await asyncio.sleep(0.1)
        await asyncio.gather(*waiting)
    assert max(order.index("few"), order.index("other")) <= 3, "after one that was under way, and one more"


async def test_who_would_wait_too_long_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(_: object, request: bytes) -> bytes:
        await asyncio.sleep(0.05)
        return request.split()[0] + b"\n"

    monkeypatch.setattr(hashing_process.HashingProcess, "ask", slow)
    async with opened(queue=64) as hasher:
        assert await asyncio.gather(*(_hash(hasher, account=str(number)) for number in range(60)))
        monkeypatch.setattr(hashing, "MAX_WAIT_SECONDS", 0.5)
        calls = [asyncio.create_task(_hash(hasher, account=str(number))) for number in range(60)]
        await asyncio.sleep(0)
        refused = [call for call in calls if call.done()]
        assert 60 - len(refused) <= 0.5 / 0.05 + 1
        assert {type(call.exception()) for call in refused} == {TooManyRequests}
        await asyncio.gather(*calls, return_exceptions=True)
        assert _is_hash(await _hash(hasher)), "and not for long"


async def test_waiting_ends(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "MAX_WAIT_SECONDS", 0.5)
    async with opened(lock_file=tmp_path / "lock") as hasher:
        with locked(tmp_path / "lock", 0):
            answers = await asyncio.gather(*(_hash(hasher) for _ in range(3)), return_exceptions=True)
        assert [type(answer) for answer in answers] == [HashingInterrupted] * 3
        assert hasher._queue.next() is None, "nothing is hashed that nobody waits for"
        assert await _hash(hasher)


# --- processes that end, hang or stop


async def test_a_process_that_dies_is_replaced(tmp_path: Path) -> None:
    async with opened(lock_file=tmp_path / "lock") as hasher:
        first = await _process_of(hasher)
        with locked(tmp_path / "lock", 0):
            interrupted, waiting = [asyncio.create_task(_hash(hasher)) for _ in range(2)]
            await asyncio.sleep(0.2)
            os.kill(first, signal.SIGKILL)
            with pytest.raises(HashingInterrupted):
                await interrupted
        assert _is_hash(await waiting), "only the caller whose secret was being hashed is told"
        assert await _process_of(hasher) != first
        assert _is_gone(first)


async def test_a_process_that_died_while_idle_interrupts_nobody(hasher: Hasher) -> None:
    first = await _process_of(hasher)
    os.kill(first, signal.SIGKILL)
    assert wait_until(lambda: _read(first, "stat").split()[2] == "Z", seconds=10)
    assert await _process_of(hasher) != first


async def test_a_process_that_hangs_is_replaced(hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    first = await _process_of(hasher)
    os.kill(first, signal.SIGSTOP)
    with monkeypatch.context() as patch:
        patch.setattr(hashing_process, "MAX_SECONDS", 0.5)
        with pytest.raises(HashingInterrupted):
            await _hash(hasher)
    assert await _process_of(hasher) != first
    assert _is_gone(first)


async def test_a_process_that_cannot_start_is_told_and_tried_again(
    hasher: Hasher, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/nowhere/python")
        with pytest.raises(HashingInterrupted):
            await _hash(hasher)
    assert await _hash(hasher)


async def test_an_end_answers_everybody(tmp_path: Path) -> None:
    async with opened(lock_file=tmp_path / "lock") as hasher:
        process = await _process_of(hasher)
        with locked(tmp_path / "lock", 0):
            waiting = [asyncio.create_task(_hash(hasher)) for _ in range(3)]
            await asyncio.sleep(0.1)
            await hasher.close()
            answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [HashingInterrupted] * 3
    assert _is_gone(process)


async def test_an_idle_process_ends(hasher: Hasher, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hashing, "IDLE_SECONDS", 0.1)
    process = await _process_of(hasher)
    for _ in range(200):
        await asyncio.sleep(0 if _is_gone(process) else 0.05)
    assert _is_gone(process)
    assert await _process_of(hasher) != process


async def test_a_signal_to_the_whole_service_does_not_interrupt_what_is_being_hashed(hasher: Hasher) -> None:
    process = await _process_of(hasher)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        os.kill(process, number)
    assert await _process_of(hasher) == process


def test_a_process_ends_with_its_parent_even_if_that_is_killed() -> None:
    command = [sys.executable, "-c", API_PROCESS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:  # noqa: S603
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        parent.kill()
    assert wait_until(lambda: _is_gone(process), seconds=30)


# --- what a process holds, and how it gives way


async def test_hashing_has_a_session_of_its_own(hasher: Hasher) -> None:
    process = await _process_of(hasher)
    assert os.getsid(process) == process


def test_hashing_gives_way_to_a_process_that_gives_way_itself() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def of_hashing() -> int:
        async with opened() as hasher:
            return os.getpriority(os.PRIO_PROCESS, await _process_of(hasher))

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
    process = await _process_of(hasher)
    wanted = f"nice {os.getpriority(os.PRIO_PROCESS, process)}"
    for _ in range(100):
        if _read(process, "autogroup").rstrip().endswith(wanted):
            return
        await asyncio.sleep(0.1)
        await _hash(hasher)  # what Linux refused is asked again
    raise AssertionError(_read(process, "autogroup"))


async def test_a_process_is_given_no_secret_of_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOURGLASS_PIN_PEPPER", "the-pepper-of-the-environment")
    monkeypatch.setenv("DATABASE_URL", "postgresql://user:password@host/database")
    async with opened() as hasher:
        process = await _process_of(hasher)
        environment, arguments = _read(process, "environ"), _read(process, "cmdline")
    assert environment, "it could be read"
    assert not [word for word in ("HOURGLASS", "DATABASE", "pepper", "password") if word in environment + arguments]


async def test_a_process_leaves_no_core_dump(hasher: Hasher) -> None:
    process = await _process_of(hasher)
    assert max(resource.prlimit(process, resource.RLIMIT_CORE)) <= hashing_program.NO_CORE_BYTES


# --- turns on the machine


@pytest.fixture
def computations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[tuple[float, float, int]]]:
    """Every computation from now on: when it began and ended, and its process."""
    program, log = tmp_path / "program.py", tmp_path / "log"
    program.write_text(
        f"""
import os, sys, time, bcrypt
sys.path.insert(0, {str(Path(hashing_program.__file__).parents[2])!r})
from app.auth import hashing_program
log, hashpw = os.open({str(log)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT), bcrypt.hashpw
def logged(secret, salt):
    began = time.monotonic()
    time.sleep(0.01)
    hashed = hashpw(secret, salt)
    os.write(log, f"{{began}} {{time.monotonic()}} {{os.getpid()}}\\n".encode())
    return hashed
bcrypt.hashpw = logged
hashing_program.MAX_TURN_SECONDS = 2
hashing_program.main(int(sys.argv[1]), sys.argv[2] if sys.argv[2:] else None)
""",
        encoding="utf-8",
    )
    monkeypatch.setattr(hashing_program, "__file__", str(program))

    def read() -> list[tuple[float, float, int]]:
        lines = [line.split() for line in log.read_text(encoding="ascii").splitlines()]
        return sorted((float(began), float(ended), int(process)) for began, ended, process in lines)

    return read


def _most_at_a_time(computations: list[tuple[float, float, int]]) -> int:
    return max(sum(began <= instant < ended for began, ended, _ in computations) for instant, _, _ in computations)


async def _hash_in_three_processes(times: int, **options: object) -> None:
    async with contextlib.AsyncExitStack() as stack:
        hashers = [await stack.enter_async_context(opened(queue=64, **options)) for _ in range(3)]
        await asyncio.gather(*(_hash(hasher) for hasher in hashers))
        await asyncio.gather(*(_hash(hasher, account=str(n)) for hasher in hashers for n in range(times)))


@pytest.mark.parametrize(("at_once", "most"), [(1, 1), (2, 2), (3, 3)])
async def test_so_many_processes_compute_at_a_time(
    computations: Callable[[], list[tuple[float, float, int]]], tmp_path: Path, at_once: int, most: int
) -> None:
    await _hash_in_three_processes(12, lock_file=tmp_path / "lock", at_once=at_once)
    assert len(computations()) == 39
    assert _most_at_a_time(computations()) == most


async def test_processes_without_a_file_wait_for_nobody(
    computations: Callable[[], list[tuple[float, float, int]]],
) -> None:
    await _hash_in_three_processes(12)
    assert _most_at_a_time(computations()) == 3


async def test_processes_take_turns(computations: Callable[[], list[tuple[float, float, int]]], tmp_path: Path) -> None:
    """Of three with as much work, none is far ahead, though each gets its next work from this busy one."""
    await _hash_in_three_processes(20, lock_file=tmp_path / "lock")
    served = [process for _, _, process in computations()]
    for number in range(6, 45):
        counts = [served[:number].count(process) for process in set(served)]
        assert max(counts) - min(counts) <= 4, f"{counts} of the first {number}"


@pytest.mark.usefixtures("computations")
async def test_a_process_that_keeps_its_turn_is_waited_for_only_so_long(tmp_path: Path) -> None:
    for held in [(0,), (1,), (0, 1)]:
        async with opened(lock_file=tmp_path / "lock") as hasher:
            with locked(tmp_path / "lock", *held):
                began = time.monotonic()
                assert await _hash(hasher)
                assert time.monotonic() - began >= 2
            assert await _hash(hasher)


def test_a_turn_ends_with_its_process(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    command = [sys.executable, "-c", API_PROCESS, str(file)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:  # noqa: S603
        assert parent.stdout is not None
        process = int(parent.stdout.readline())
        parent.kill()
    assert wait_until(lambda: _is_gone(process), seconds=30)
    with file.open("r+b") as lock:
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_a_file_that_cannot_be_used_stops_nobody(tmp_path: Path) -> None:
    for file in (tmp_path, tmp_path / "missing" / "lock"):
        async with opened(lock_file=file) as hasher:
            assert await _hash(hasher)


@pytest.mark.parametrize("own", [None, "own.lock"])
async def test_the_api_processes_of_a_host_use_the_file_in_their_metrics_folder(
    tmp_path: Path, own: str | None
) -> None:
    given = {"bcrypt_lock_file": tmp_path / own} if own else {}
    settings = settings_for(database_url="postgresql:///", redis_url="redis://", metrics_dir=tmp_path, **given)
    async with contextlib.AsyncExitStack() as stack:
        await _hash(_open_hasher(stack, settings))
    assert os.listdir(tmp_path) == [own or "hashing.lock"]  # noqa: PTH208  a folder of one file


async def test_the_file_holds_nothing_and_is_for_one_user(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    async with opened(lock_file=file) as hasher:
        await _hash(hasher)
    assert (file.stat().st_mode & 0o777, file.read_bytes()) == (0o600, b"")
