"""The service as processes of its own, on servers of a test: what operators run, one by one."""

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Self, TypeVar

ROOT = Path(__file__).parents[1]
START_SECONDS = 180.0
END_SECONDS = 30.0
SECRETS = {
    "HOURGLASS_JWT_SECRET": "j" * 32,
    "HOURGLASS_SESSION_SECRET": "s" * 32,
    "HOURGLASS_PIN_PEPPER": "p" * 32,
}

Found = TypeVar("Found")


class Deployed:
    """Processes by name; all of them end with the block.

    Args:
        folder: for their logs and metrics.
        variables: what configures them, beside the secrets of tests.

    ``source`` is the tree whose code the commands of ours run; a test may change it between two of them.
    """

    def __init__(self, folder: Path, variables: Mapping[str, str]) -> None:
        self.folder, self.source = folder, ROOT
        metrics = folder / "metrics"
        metrics.mkdir()
        self.variables = {
            **SECRETS,
            "HOURGLASS_BCRYPT_COST": "4",
            "HOURGLASS_METRICS_DIR": str(metrics),
            "PROMETHEUS_MULTIPROC_DIR": str(metrics),
            **variables,
        }
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._processes):
            self.stop(name)

    def start(self, name: str, *command: str | Path, **variables: str) -> "subprocess.Popen[bytes]":
        """Start a program under a name; its output goes into ``NAME.log``."""
        with (self.folder / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  programs of ours and of the distribution
                command,
                cwd=self.source,
                env={**os.environ, **self.variables, **variables},  # noqa: TID251  handed on as it is
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self._processes[name] = process
        return process

    def hourglass(self, name: str, *arguments: str, **variables: str) -> None:
        """Start a command of ours."""
        variables = {"PYTHONPATH": str(self.source), **variables}
        self.start(name, sys.executable, "-m", "app.cli", *arguments, **variables)

    def api(self, port: int, name: str = "api", **variables: str) -> str:
        """Start an API process; its address, when it is ready."""
        self.hourglass(name, "api", "--workers", "1", "--port", str(port), **variables)
        url = f"http://127.0.0.1:{port}"
        self.until(lambda: is_good(f"{url}/health/ready"), "the API is ready")
        return url

    def token(self, role: str, *, account: str = "operator") -> str:
        """A token of a role."""
        self.hourglass("token", "token", "--account", account, "--role", role)
        assert self.wait("token") == 0, self.log("token")
        return self.log("token").strip().splitlines()[-1]

    def stop(self, name: str, number: int = signal.SIGTERM) -> int:
        """End a process; its exit code."""
        process = self._processes.pop(name)
        process.send_signal(number)
        try:
            return process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            raise AssertionError(f"{name} does not end: {self.log(name)[-2000:]}") from None

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a process that goes on."""
        self._processes[name].send_signal(number)

    def wait(self, name: str) -> int:
        """Wait for a command that ends by itself; its exit code."""
        return self._processes.pop(name).wait(START_SECONDS)

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def until(self, found: Callable[[], Found], what: str, *, seconds: float = START_SECONDS) -> Found:
        """Ask again and again until there is an answer."""
        deadline = time.monotonic() + seconds
        while True:
            answer = found()
            if answer:
                return answer
            dead = [name for name, process in self._processes.items() if process.poll() is not None]
            if dead or time.monotonic() > deadline:
                logs = "\n".join(f"--- {name}\n{self.log(name)[-2000:]}" for name in dead or self._processes)
                raise AssertionError(f"not within {seconds} s: {what}\n{logs}")
            time.sleep(0.05)


def free_port() -> int:
    """A port that nobody listens on at the moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def is_good(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:  # noqa: S310  ours
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):
        return False
