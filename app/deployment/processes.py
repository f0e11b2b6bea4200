"""Child processes that are restarted when they exit, and ended in order on request."""

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
MAX_PAUSE_SECONDS = 5.0
HOPELESS_FAILURES = 3


class Signals:
    """Counts requests to end: SIGTERM, Ctrl-C, a closed terminal. They and a child's death end a wait at once."""

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
        """Wait for the next signal, at most this long."""
        if select.select([self._read], [], [], max(0.0, seconds))[0]:
            os.read(self._read, 4096)

    def _count(self, _number: int, _frame: FrameType | None) -> None:
        self.requests += 1


@dataclass(kw_only=True, eq=False)
class ManagedProcess:
    """One process that is restarted when it exits.

    Attributes:
        name: for messages and log files.
        arguments: of ``hourglass``, e.g. ``["worker"]``.
        log: file for its output; None keeps the supervisor's.
        lasting: whether it is restarted after a normal exit.
    """

    name: str
    arguments: Sequence[str]
    variables: Mapping[str, str]
    log: Path | None = None
    is_restarted: bool = True
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
                start_new_session=True,  # the supervisor receives Ctrl-C and passes it on in order
            )
        finally:
            if output is not None:
                output.close()
        self.started_at = time.monotonic()

    def plan_restart(self) -> None:
        """Plan the next start: at once, or after a pause that doubles with each early exit."""
        lived = time.monotonic() - self.started_at
        ended_by_itself = self.process is not None and (self.process.returncode or 0) >= 0
        if lived < UNSETTLED_SECONDS or (ended_by_itself and lived < FAILING_SECONDS):
            self.failures += 1
        else:
            self.failures = 0
        pause = min(MAX_PAUSE_SECONDS, 0.25 * 2**self.failures) if self.failures else 0.0
        self.due_at = time.monotonic() + pause


class ProcessGroup:
    """The child processes in the order in which they were added."""

    def __init__(self, signals: Signals) -> None:
        self._signals = signals
        self._children: list[ManagedProcess] = []

    def __iter__(self) -> Iterator[ManagedProcess]:
        return iter(self._children)

    def add(self, child: ManagedProcess) -> None:
        self._children.append(child)
        child.start()

    def restart_exited(self) -> list[tuple[ManagedProcess, int]]:
        """Collect exited children and start those that are due.

        Returns:
            The exited children with their former process ids.
        """
        died = []
        for child in self._children:
            if child.process is not None and not child.running:
                died.append((child, child.process.pid))
                child.plan_restart()
                child.process = None
            if child.process is None and child.is_restarted and time.monotonic() >= child.due_at:
                child.start()
        return died

    def cannot_start(self, child: ManagedProcess) -> bool:
        """Whether a child never started and no other one did. Restarting it would not help."""
        now = time.monotonic()
        somebody_lives = any(other.running and now - other.started_at > FAILING_SECONDS for other in self._children)
        return child.failures >= HOPELESS_FAILURES and not somebody_lives

    def pause(self) -> float:
        """Seconds until the next start or check is due."""
        waiting = [
            child.due_at - time.monotonic() for child in self._children if not child.running and child.is_restarted
        ]
        return max(0.0, min([POLL_SECONDS, *waiting]))

    def end(self, names: Iterable[str], *, deadline: float) -> None:
        """Send SIGTERM to children, and SIGKILL at the deadline or at a second request to end.

        Args:
            names: names of children.
            deadline: seconds on the monotonic clock.
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


def drop_metrics(folder: Path | None, pid: int) -> None:
    """Remove the gauges of a dead process, so that they are not summed with live ones."""
    from prometheus_client.multiprocess import mark_process_dead  # noqa: PLC0415  slow to import

    if folder is not None:
        with contextlib.suppress(OSError):
            mark_process_dead(pid, str(folder))  # type: ignore[no-untyped-call]
