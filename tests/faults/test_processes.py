"""Rows 1 to 3 and 28: processes of the service die, double or are asked to end."""

import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from app.chaos.stand import Stand
from tests.faults.households import Home
from tests.faults.record import PATIENT, Trial

Begin = Callable[..., Trial]
ROOT = Path(__file__).parents[2]
LOCK_HOLDERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks"
    " WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = 'hourglass')"
)


def test_an_api_worker_dies_again_and_again(stand: Stand, trial: Begin) -> None:
    with trial(1, "API worker killed every 2 s") as watching:
        for _ in range(2):
            began = time.monotonic()
            dead = stand.kill("api")
            assert stand.eventually(partial(_is_replaced, stand, dead), seconds=20)
            time.sleep(max(0.0, 2 - (time.monotonic() - began)))
    watching.expect_exact()
    watching.expect_answers("200", "lost")


def _is_replaced(stand: Stand, dead: int) -> bool:
    return dead not in stand.pids("api")


@pytest.mark.parametrize("moment", ["before-commit", "after-commit"])
def test_the_flusher_dies(stand: Stand, trial: Begin, moment: str) -> None:
    with trial(2, f"flusher killed {moment.replace('-', ' ')}") as watching, ExitStack() as going_on:
        going_on.enter_context(stand.stopped(stand.pids("worker")[0]))
        for _ in range(2):
            stand.sql(LOCK_HOLDERS)
            dying = subprocess.run(  # noqa: S603  ourselves
                [sys.executable, "-P", "-m", "tests.faults.dying_worker", moment],
                env={**stand.variables(), "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                check=False,
                capture_output=True,
                timeout=60,
            )
            assert dying.returncode == -9, dying.stderr.decode()
    watching.expect_exact()
    watching.expect_answers("200")


def test_two_flushers(stand: Stand, trial: Begin) -> None:
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'hourglass'"
    before = stand.sql(deadlocks)
    second = subprocess.Popen(
        [sys.executable, "-P", "-m", "app.cli", "worker"],
        env=stand.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with trial(3, "second flusher; the lock's holder cut off 4 times") as watching:
            for _ in range(4):
                stand.sql(LOCK_HOLDERS)
                time.sleep(1)
            assert second.poll() is None
        watching.expect_exact()
        watching.expect_answers("200")
    finally:
        second.terminate()
        second.wait(timeout=30)
    assert stand.sql(deadlocks) == before


@pytest.mark.faults
def test_sigterm_under_load(stand: Stand, trial: Begin) -> None:
    with trial(28, "SIGTERM to everything under load") as watching:
        code, took = stand.end_up()
        watching.crowd.leave()
        assert stand.findings().waiting == 0, "something was left unflushed"
        assert code == 0
        assert took <= 20
        assert "Traceback" not in stand.log
    watching.expect_exact()
    watching.expect_answers("200", "lost")


@pytest.mark.faults
def test_a_stopped_api_process(stand: Stand, trial: Begin) -> None:
    """Its players wait in vain and turn to the other process; what it answers late does no harm."""
    with trial(30, "one API process stands still for 4 s", patience_seconds=1.5) as watching:
        with stand.stopped(stand.pids("api")[0]):
            time.sleep(4)
        time.sleep(1)
    watching.expect_exact()
    watching.expect_answers("200", "late", "409 session_superseded")


@pytest.mark.faults
def test_sigterm_with_open_streams_and_half_bodies(stand: Stand, trial: Begin) -> None:
    home = Home.found(stand)
    address = urlsplit(stand.url)
    authority = f"Host: {address.netloc}\r\nAuthorization: {home.player['Authorization']}\r\n"
    stream = f"GET /api/v1/viewing-time/events/{home.child} HTTP/1.1\r\n{authority}\r\n"
    half = f"POST /api/v1/viewing-time/heartbeat HTTP/1.1\r\n{authority}Content-Length: 200\r\n\r\n{{"
    with trial(29, "SIGTERM with 50 event streams and 20 half bodies") as watching, ExitStack() as open_sockets:
        for request in [stream] * 50 + [half] * 20:
            connected = socket.create_connection((address.hostname or "", address.port or 80))
            open_sockets.enter_context(connected)
            connected.sendall(request.encode())
        time.sleep(1)
        code, took = stand.end_up()
        watching.crowd.leave()
        assert (code, took <= 20) == (0, True)
    watching.expect_exact()
    watching.expect_answers("200", "lost")


@pytest.mark.faults
def test_a_storm_of_pins(stand: Stand, trial: Begin) -> None:
    stand.end_up()
    stand.start_up(settings={"bcrypt_cost": 12, **PATIENT})
    homes = [Home.found(stand) for _ in range(5)]
    with trial(30, "50 PINs verified at once, full cost") as watching, ThreadPoolExecutor(50) as threads:
        statuses = Counter(threads.map(lambda number: homes[number % 5].try_pin("0000"), range(50)))
    stand.end_up()
    watching.expect_exact()
    watching.expect_answers("200")
    assert set(statuses) <= {403, 423, 429}
    assert statuses[403] <= 5 * len(homes)
