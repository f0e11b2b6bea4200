"""Find, await and end other processes on this machine."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterable, Sequence

import psutil  # type: ignore[import-untyped]  # its stubs are a package of their own; used here only

POLL_SECONDS = 0.02
PATIENCE_SECONDS = 2.0


def command_of(pid: int) -> list[str]:
    """The command line of a process, empty if it does not exist."""
    try:
        return list(psutil.Process(pid).cmdline())
    except psutil.Error:
        return []


def running(is_meant: Callable[[Sequence[str]], bool]) -> list[int]:
    """The ids of all processes with a matching command line."""
    return [process.pid for process in psutil.process_iter(["cmdline"]) if is_meant(process.info["cmdline"] or [])]


def listens(pid: int, port: int) -> bool:
    """Whether a process accepts connections on a TCP port."""
    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(found.status == psutil.CONN_LISTEN and found.laddr.port == port for found in connections)


def end(pids: Iterable[int], signals: Sequence[signal.Signals], *, seconds: float) -> None:
    """Send signals in turn to all processes until they are gone, at last SIGKILL.

    Args:
        pids: process ids.
        signals: in order of strength.
        seconds: wait after the first signal; after each further one 2 s.
    """
    leaving = _found(pids)
    for attempt, number in enumerate((*signals, signal.SIGKILL)):
        for process in leaving:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)
        if wait_until(lambda: all(map(_is_gone, leaving)), seconds=PATIENCE_SECONDS if attempt else seconds):
            return


def kill_with_children(pid: int) -> None:
    """Kill a process and its descendants with SIGKILL, and wait until they are gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        end([pid, *(child.pid for child in parent.children(recursive=True))], [], seconds=PATIENCE_SECONDS)


def wait_until(condition: Callable[[], bool], *, seconds: float) -> bool:
    """Poll until the condition holds; return False after the timeout."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_SECONDS)
    return True


def _found(pids: Iterable[int]) -> list[psutil.Process]:
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def _is_gone(process: psutil.Process) -> bool:
    """Whether a process has ended. A zombie has: its files are closed, and its parent collects it later."""
    try:
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True
