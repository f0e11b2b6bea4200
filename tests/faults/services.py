"""Parts of the service as separate processes, as in containers."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from app.embedded.deployment import locate
from app.lab.chaos.deployment import ChaosDeployment

ROOT = Path(__file__).parents[2]


class Run:
    """A command that was started; what it says is kept."""

    def __init__(self, folder: Path, variables: Mapping[str, str], *arguments: str) -> None:
        self._output = folder / f"output-{time.monotonic_ns()}"
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(  # noqa: S603  ourselves
                [sys.executable, "-P", "-m", "app.cli", *arguments],
                env={**variables, "PYTHONPATH": str(ROOT)},
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )

    @property
    def lines(self) -> list[str]:
        return self._output.read_text(encoding="utf-8").splitlines()

    @property
    def events(self) -> list[dict[str, object]]:
        """Every line as the JSON object it must be."""
        return [json.loads(line) for line in self.lines]

    def count(self, event: str) -> int:
        return sum(found["event"] == event for found in self.events)

    @property
    def ports(self) -> list[int]:
        """Where it said that it listens."""
        told = [found for found in self.events if found["event"] == "listening"]
        return [urlsplit(str(found["url"])).port or 0 for found in told]

    def ended(self, *, seconds: float = 60.0) -> int:
        return self.process.wait(timeout=seconds)

    def kill(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


@contextmanager
def started(folder: Path, variables: Mapping[str, str], *arguments: str) -> Iterator[Run]:
    run = Run(folder, variables, *arguments)
    try:
        yield run
    finally:
        run.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def surroundings() -> dict[str, str]:
    """Our environment without any setting of the service."""
    return {
        name: value
        for name, value in os.environ.items()  # noqa: TID251  handed on
        if not name.startswith(("HOURGLASS_", "DATABASE_URL", "REDIS_URL", "PROMETHEUS_"))
    }


def worker_url(deployment: ChaosDeployment) -> str:
    port = locate(deployment._data_dir).variables["HOURGLASS_WORKER_PORT"]
    return f"http://127.0.0.1:{port}"


def worker_metric(deployment: ChaosDeployment, name: str) -> float:
    """A metric that the worker alone tells."""
    with urllib.request.urlopen(f"{worker_url(deployment)}/metrics", timeout=5) as answer:  # noqa: S310  ours
        text = answer.read().decode()
    return next(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(f"{name} "))
