"""The clock of an API host is wrong."""

import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from app.deployment.listening import is_ready
from app.lab.chaos.deployment import ChaosDeployment
from tests.faults.record import Trial

Begin = Callable[..., Trial]
LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))


@pytest.mark.faults
@pytest.mark.parametrize("offset", ["+1h", "-1h", "-1d"])
def test_the_clock_of_an_api_host_is_wrong(deployment: ChaosDeployment, trial: Begin, offset: str) -> None:
    if not LIBRARIES:
        pytest.skip("libfaketime is not installed: apt-get install faketime")
    with _api_that_believes(deployment, offset) as url:
        watching = trial(31, f"clock of the API host {offset}")
        watching.clients.url = url
        with watching:
            watching.endure(4)
    watching.expect_exact()
    watching.expect_answers("200")


@contextmanager
def _api_that_believes(deployment: ChaosDeployment, offset: str) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = int(free.getsockname()[1])
    pretended = {"LD_PRELOAD": str(LIBRARIES[0]), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    api = subprocess.Popen(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", "app.cli", "api", "--port", str(port), "--workers", "1"],
        env={**deployment.variables(), **pretended},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert deployment.eventually(lambda: is_ready("127.0.0.1", port), seconds=60)
        yield f"http://127.0.0.1:{port}"
    finally:
        api.terminate()
        api.wait(timeout=30)
