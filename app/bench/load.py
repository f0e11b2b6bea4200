"""The load: wrk with the script of ours, as a process of its own."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.bench.failures import BenchFailed
from app.bench.plan import THREADS, connections_for
from app.bench.viewers import Viewers

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 2
"""What a player would wait for an answer; later ones are errors."""
LONGEST_ONCE_SECONDS = 1_800


class Mode(StrEnum):
    """What is sent; ``load.lua`` says more."""

    ONCE = "once"
    MIX = "mix"
    BATCH = "batch"


@dataclass(frozen=True, kw_only=True)
class Order:
    """What a load is to send.

    Attributes:
        seconds: how long; `Mode.ONCE` ends sooner.
        span: of which viewers.
        per_second: at which rate; 0: as fast as answers come.
        connections: over how many; None: as many as the viewers are worth.
        token: a gateway's, for `Mode.BATCH`.
    """

    seconds: float
    span: range
    mode: Mode = Mode.MIX
    per_second: float = 0.0
    connections: int | None = None
    token: str = ""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What one load came to.

    Attributes:
        errors: answers other than 2xx, and requests without an answer in time.
        cpu_seconds: of the load itself.
    """

    requests: int
    seconds: float
    ends: int
    openings: int
    p50_ms: float
    p90_ms: float
    p99_ms: float
    p999_ms: float
    max_ms: float
    errors: int
    error_kinds: dict[str, int]
    cpu_seconds: float

    @property
    def per_second(self) -> float:
        return self.requests / self.seconds


def program() -> str:
    """Where wrk is.

    Raises:
        BenchFailed: it is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise BenchFailed("wrk sends the load and is not installed; on Debian: apt-get install wrk")
    return found


class Load:
    """A running load, from `start` to `result`. As a context it is ended with the block."""

    def __init__(self, url: str, viewers: Viewers, order: Order, *, states: Path) -> None:
        connections = order.connections or connections_for(len(order.span))
        threads = min(THREADS, connections)
        place = (viewers.requests, states, threads, order.span.start, len(order.span))
        self._command = [
            program(),
            f"--threads={threads}",
            f"--connections={connections}",
            f"--duration={max(1, round(order.seconds))}s",
            f"--timeout={TIMEOUT_SECONDS}s",
            f"--script={SCRIPT}",
            url,
            "--",
            *map(str, (*place, order.mode, order.per_second, *viewers.layout.numbers, order.token)),
        ]
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(  # noqa: S603  our own command
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def result(self) -> Loaded:
        """Wait for the end of the load.

        Raises:
            BenchFailed: it did not run.
        """
        if self._process is None or self._process.stdout is None:
            raise BenchFailed("the load was not started")
        text = self._process.stdout.read().decode(errors="replace")
        _, status, used = os.wait4(self._process.pid, 0)
        self._process.stdout.close()
        self._process.returncode = os.waitstatus_to_exitcode(status)
        self._process = None
        try:
            report: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        except (IndexError, ValueError) as error:
            raise BenchFailed(f"wrk failed: {text.strip() or status}") from error
        kinds = {kind: report.pop(kind) for kind in ("connect", "read", "write", "timeout", "status")}
        return Loaded(
            **report, errors=sum(kinds.values()), error_kinds=kinds, cpu_seconds=used.ru_utime + used.ru_stime
        )
