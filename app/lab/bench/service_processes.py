"""The processes under test: API processes and the worker, or a baseline in their place."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own

from app.embedded.system import end, listens
from app.lab.bench.failures import BenchFailed

HOST = "127.0.0.1"
READY_SECONDS = 60.0
POLL_SECONDS = 0.02


@dataclass(frozen=True, kw_only=True)
class Program:
    """A program to run, which ends with the process of ``--parent``.

    Attributes:
        name: used for logs and messages.
        command: its command line without ``--parent``.
        is_threaded: whether one process serves with several threads instead of several processes.
    """

    name: str
    command: tuple[str, ...]
    is_threaded: bool = False

    @classmethod
    def of_module(cls, *arguments: str) -> Self:
        """A Python module with its arguments, named after the last of them."""
        return cls(name=arguments[-1], command=(sys.executable, "-P", "-m", *arguments))


SERVICE = Program.of_module("app.cli", "api")
WORKER = Program.of_module("app.cli", "worker")


def baseline(name: str) -> Program:
    """A baseline that is written in Python; see ``baseline_server``."""
    return Program.of_module("app.lab.bench.baseline_server", name)


class ServiceProcesses:
    """Processes that share a port, from entering to leaving the context. They are killed at the end.

    Args:
        program: the listening program, e.g. `SERVICE`.
        workers: number of processes, or of threads of a threaded program.
        flushes: whether to start the worker process too.
        folder: folder for logs and metrics.
        variables: environment of the processes without host and port.
    """

    def __init__(
        self,
        *,
        program: Program,
        workers: int,
        flushes: bool,
        folder: Path,
        variables: Mapping[str, str],
    ) -> None:
        self._program = program
        self._workers = 1 if program.is_threaded else workers
        self._flushes = flushes
        self._folder = folder
        self._variables = {**variables, "GOMAXPROCS": str(workers)} if program.is_threaded else variables
        self._running: list[subprocess.Popen[bytes]] = []
        self._ending = contextlib.ExitStack()
        self.metrics = folder / "metrics"
        self.url = ""
        self.port = 0
        self.worker_port = 0
        self.is_warm = False
        self.has_met_guests = False
        self.requests = 0

    def __enter__(self) -> Self:
        holder = self._ending.enter_context(contextlib.closing(_reserved()))
        self.port = int(holder.getsockname()[1])
        self.worker_port = int(self._ending.enter_context(contextlib.closing(_reserved())).getsockname()[1])
        self.url = f"http://{HOST}:{self.port}"
        shutil.rmtree(self.metrics, ignore_errors=True)
        self.metrics.mkdir(parents=True)
        try:
            for number in range(self._workers):
                self._start(self._program, f"{self._program.name}-{number + 1}")
            if self._flushes:
                self._start(WORKER, "worker")
            self._wait()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def api(self) -> Sequence[int]:
        """Process ids of the listening processes."""
        return [process.pid for process in self._running[: self._workers]]

    @property
    def worker(self) -> Sequence[int]:
        return [process.pid for process in self._running[self._workers :]]

    def holder_of(self, port: int) -> int | None:
        """The process at the other end of a connection from this local port."""
        for pid in self.api:
            connections = psutil.Process(pid).net_connections("tcp")
            if any(found.raddr and found.raddr.port == port for found in connections):
                return pid
        return None

    def end(self) -> None:
        leaving, self._running = self._running, []
        end([process.pid for process in leaving], [signal.SIGKILL], seconds=5)
        for process in leaving:
            process.wait()
        self._ending.close()

    @contextlib.contextmanager
    def worker_halted(self) -> Iterator[None]:
        """Halt the worker while the block runs."""
        for pid in self.worker:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in self.worker:
                os.kill(pid, signal.SIGCONT)

    def _start(self, program: Program, name: str) -> None:
        variables = {
            **self._variables,
            "HOURGLASS_HOST": HOST,
            "HOURGLASS_PORT": str(self.port),
            "HOURGLASS_METRICS_DIR": str(self.metrics),
            "HOURGLASS_WORKER_PORT": str(self.worker_port),
        }
        with self._log(name).open("ab") as log:
            process = subprocess.Popen(  # noqa: S603  ourselves
                [*program.command, f"--parent={os.getpid()}"],
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # this process handles Ctrl-C
            )
        self._running.append(process)

    def _wait(self) -> None:
        """Wait until all processes listen. A process listens once it has started."""
        deadline = time.monotonic() + READY_SECONDS
        while not all(listens(pid, self.port) for pid in self.api):
            for process in self._running:
                if process.poll() is not None:
                    raise BenchFailed(f"a process of {self._program.name} does not start: {self._log_tail()}")
            if time.monotonic() > deadline:
                raise BenchFailed(f"{self._program.name} is not ready after {READY_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)

    def _log(self, name: str) -> Path:
        folder = self._folder / "log"
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{name}.log"

    def _log_tail(self) -> str:
        for log in sorted((self._folder / "log").iterdir(), key=lambda path: path.stat().st_mtime, reverse=True):
            lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return f"{lines[-1].strip()} (log: {log})"
        return "it said nothing"


def _reserved() -> socket.socket:
    """A free port, reserved for processes that share it. This socket accepts nothing."""
    holder = socket.socket()
    holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    holder.bind((HOST, 0))
    return holder
