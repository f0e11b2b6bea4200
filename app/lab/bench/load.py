"""The load generator: wrk with ``load.lua``, in a separate process."""

import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from app.lab.bench.failures import BenchFailed
from app.lab.bench.plan import THREADS, connections_for
from app.lab.bench.viewers import Viewers

SCRIPT = Path(__file__).with_name("load.lua")
TIMEOUT_SECONDS = 2
"""Later answers are errors."""
MAX_ONCE_SECONDS = 1_800


class Mode(StrEnum):
    """The kind of requests; see ``load.lua``."""

    ONCE = "once"
    MIX = "mix"
    BATCH = "batch"


@dataclass(frozen=True, kw_only=True)
class Order:
    """Description of a load.

    Attributes:
        seconds: duration; `Mode.ONCE` ends sooner.
        span: range of viewers.
        per_second: rate; 0 means full speed.
        connections: number of connections; None derives it from the number of viewers.
        token: token of a gateway, for `Mode.BATCH`.
    """

    seconds: float
    span: range
    mode: Mode = Mode.MIX
    per_second: float = 0.0
    connections: int | None = None
    token: str = ""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """The result of a load.

    Attributes:
        errors: answers other than 2xx, and requests without an answer in time.
        cpu_seconds: CPU time of the load generator.
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
    """The path of wrk.

    Raises:
        BenchFailed: wrk is not installed.
    """
    found = shutil.which("wrk")
    if found is None:
        raise BenchFailed("wrk sends the load and is not installed; on Debian: apt-get install wrk")
    return found


class Load:
    """A running load, from `start` to `result`. Leaving the context ends it."""

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
            BenchFailed: wrk failed.
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
