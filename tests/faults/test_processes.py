"""Processes of the service fail, run twice, or are asked to end."""

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

from app.lab.chaos.deployment import ChaosDeployment
from tests.faults.households import Home
from tests.faults.record import PATIENT, Trial

Begin = Callable[..., Trial]
ROOT = Path(__file__).parents[2]
LOCK_HOLDERS = (
    "SELECT pg_terminate_backend(pid) FROM pg_locks"
    " WHERE locktype = 'advisory' AND granted AND database = (SELECT oid FROM pg_database WHERE datname = 'hourglass')"
)


def test_an_api_worker_dies_again_and_again(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(1, "API worker killed every 2 s") as watching:
        for _ in range(2):
            began = time.monotonic()
            dead = deployment.kill("api")
            assert deployment.eventually(partial(_is_replaced, deployment, dead), seconds=20)
            watching.endure(max(0.0, 2 - (time.monotonic() - began)))
    watching.expect_exact()
    watching.expect_answers("200", "lost")


def _is_replaced(deployment: ChaosDeployment, dead: int) -> bool:
    return dead not in deployment.pids("api")


@pytest.mark.parametrize("moment", ["before-commit", "after-commit"])
def test_the_flusher_dies(deployment: ChaosDeployment, trial: Begin, moment: str) -> None:
    with trial(2, f"flusher killed {moment.replace('-', ' ')}") as watching, ExitStack() as going_on:
        going_on.enter_context(deployment.stopped(deployment.pids("worker")[0]))
        for _ in range(2):
            deployment.sql(LOCK_HOLDERS)
            dying = subprocess.run(  # noqa: S603  ourselves
                [sys.executable, "-P", "-m", "tests.faults.dying_worker", moment],
                env={**deployment.variables(), "PYTHONPATH": str(ROOT)},
                cwd=ROOT,
                check=False,
                capture_output=True,
                timeout=60,
            )
            assert dying.returncode == -9, dying.stderr.decode()
    watching.expect_exact()
    watching.expect_answers("200")


def test_two_flushers(deployment: ChaosDeployment, trial: Begin) -> None:
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = 'hourglass'"
    before = deployment.sql(deadlocks)
    second = subprocess.Popen(
        [sys.executable, "-P", "-m", "app.cli", "worker"],
        env=deployment.variables(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with trial(3, "second flusher; the lock's holder cut off 4 times") as watching:
            for _ in range(4):
                deployment.sql(LOCK_HOLDERS)
                watching.endure(1)
            assert second.poll() is None
        watching.expect_exact()
        watching.expect_answers("200")
    finally:
        second.terminate()
        second.wait(timeout=30)
    assert deployment.sql(deadlocks) == before


@pytest.mark.faults
def test_sigterm_under_load(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(28, "SIGTERM to everything under load") as watching:
        code, took = deployment.stop_deployment()
        watching.clients.leave()
        assert deployment.findings().waiting == 0, "something was left unflushed"
        assert code == 0
        assert took <= 20
        assert "Traceback" not in deployment.log
    watching.expect_exact()
    watching.expect_answers("200", "lost")


@pytest.mark.faults
def test_a_stopped_api_process(deployment: ChaosDeployment, trial: Begin) -> None:
    """Its players wait in vain and turn to the other process; what it answers late does no harm."""
    with trial(30, "one API process stands still for 4 s", patience_seconds=1.5) as watching:
        with deployment.stopped(deployment.pids("api")[0]):
            watching.endure(4)
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers("200", "late", "409 session_superseded")


@pytest.mark.faults
def test_sigterm_with_open_streams_and_half_bodies(deployment: ChaosDeployment, trial: Begin) -> None:
    home = Home.found(deployment)
    address = urlsplit(deployment.url)
    authority = f"Host: {address.netloc}\r\nAuthorization: {home.player['Authorization']}\r\n"
    stream = f"GET /api/v1/viewing-time/events/{home.child} HTTP/1.1\r\n{authority}\r\n"
    half = f"POST /api/v1/viewing-time/heartbeat HTTP/1.1\r\n{authority}Content-Length: 200\r\n\r\n{{"
    with trial(29, "SIGTERM with 50 event streams and 20 half bodies") as watching, ExitStack() as open_sockets:
        for request in [stream] * 50 + [half] * 20:
            connected = socket.create_connection((address.hostname or "", address.port or 80))
            open_sockets.enter_context(connected)
            connected.sendall(request.encode())
            if request is stream:
                connected.recv(1)  # its head: the stream is open
        code, took = deployment.stop_deployment()
        watching.clients.leave()
        assert (code, took <= 20) == (0, True)
    watching.expect_exact()
    watching.expect_answers("200", "lost")


@pytest.mark.faults
def test_a_storm_of_pins(deployment: ChaosDeployment, trial: Begin) -> None:
    deployment.stop_deployment()
    deployment.start_deployment(settings={"bcrypt_cost": 12, **PATIENT})
    homes = [Home.found(deployment) for _ in range(5)]
    with trial(30, "50 PINs verified at once, full cost") as watching, ThreadPoolExecutor(50) as threads:
        statuses = Counter(threads.map(lambda number: homes[number % 5].try_pin("0000"), range(50)))
    deployment.stop_deployment()
    watching.expect_exact()
    watching.expect_answers("200")
    assert set(statuses) <= {403, 423, 429}
    assert statuses[403] <= 5 * len(homes)
