"""Child processes that are kept alive while we live, and ended in order when we are asked to end."""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Self

POLL_SECONDS = 0.5
UNSETTLED_SECONDS = 1.0
FAILING_SECONDS = 10.0
LONGEST_PAUSE_SECONDS = 5.0


class Signals:
    """Requests to end (SIGTERM, Ctrl-C, a closed terminal), counted; they and a child's death end a wait at once."""

    def __init__(self) -> None:
        self.requests = 0

    def __enter__(self) -> Self:
        self._read, self._write = os.pipe()
        os.set_blocking(self._read, False)
        os.set_blocking(self._write, False)
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, self._count) for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
        }
        self._before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(-1)
        os.close(self._read)
        os.close(self._write)

    def wait(self, seconds: float) -> None:
        """Wait for the next signal, at most so long."""
        if select.select([self._read], [], [], max(0.0, seconds))[0]:
            os.read(self._read, 4096)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.requests += 1


@dataclass(kw_only=True, eq=False)
class Child:
    """One process that is replaced when it dies.

    Attributes:
        name: for messages and log files.
        arguments: of ``hourglass``, e.g. ``["worker"]``.
        log: where its output goes; None: where ours goes.
        lasting: whether it is replaced when it ends by itself.
    """

    name: str
    arguments: Sequence[str]
    variables: Mapping[str, str]
    log: Path | None = None
    lasting: bool = True
    failures: int = 0
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)
    started_at: float = 0.0
    due_at: float = 0.0

    @property
    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "app.cli", *self.arguments, f"--parent={os.getpid()}"]
        output = self.log.open("ab") if self.log is not None else None
        try:
            self.process = subprocess.Popen(  # noqa: S603  ourselves
                command,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,  # Ctrl-C reaches only us, and we pass it on in order
            )
        finally:
            if output is not None:
                output.close()
        self.started_at = time.monotonic()

    def plan_restart(self) -> None:
        """At once, unless it cannot live: then after a pause that doubles."""
        lived = time.monotonic() - self.started_at
        ended_by_itself = self.process is not None and (self.process.returncode or 0) >= 0
        if lived < UNSETTLED_SECONDS or (ended_by_itself and lived < FAILING_SECONDS):
            self.failures += 1
        else:
            self.failures = 0
        pause = min(LONGEST_PAUSE_SECONDS, 0.25 * 2**self.failures) if self.failures else 0.0
        self.due_at = time.monotonic() + pause


class Family:
    """Our children, by the order in which they were added."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._children: list[Child] = []

    def __iter__(self) -> Iterator[Child]:
        return iter(self._children)

    def add(self, child: Child) -> None:
        self._children.append(child)
        child.start()

    def revive(self) -> list[tuple[Child, int]]:
        """Bury the dead and start those who are due.

        Returns:
            who died, with the process id it had.
        """
        died = []
        for child in self._children:
            if child.process is not None and not child.running:
                died.append((child, child.process.pid))
                child.plan_restart()
                child.process = None
            if child.process is None and child.lasting and time.monotonic() >= child.due_at:
                child.start()
        return died

    def pause(self) -> float:
        """Seconds until somebody is due, or something may be looked at again."""
        waiting = [child.due_at - time.monotonic() for child in self._children if not child.running and child.lasting]
        return max(0.0, min([POLL_SECONDS, *waiting]))

    def end(self, names: Iterable[str], *, deadline: float) -> None:
        """SIGTERM to these; SIGKILL to those still there at the deadline, or when asked to end a second time.

        Args:
            names: of children.
            deadline: on the monotonic clock.
        """
        wanted = set(names)
        leaving = [child for child in self._children if child.name in wanted]
        for child in leaving:
            if child.process is not None and child.running:
                child.process.terminate()
        while any(child.running for child in leaving):
            if self._signals.requests > 1 or time.monotonic() > deadline:
                for child in leaving:
                    if child.process is not None:
                        child.process.kill()
                        child.process.wait()
                break
            self._signals.wait(min(POLL_SECONDS, deadline - time.monotonic()))
        self._children = [child for child in self._children if child not in leaving]


def bury_metrics(folder: Path | None, pid: int) -> None:
    """Gauges of a dead process must not be summed with those of the living."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  slow to import

    if folder is not None:
        with contextlib.suppress(OSError):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
