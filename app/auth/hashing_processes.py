"""Processes that hash, apart from those that answer.

A thread that hashes takes from the share of its process, however much it gives way: Linux divides the processors among
sessions first (autogroup) and goes by niceness only within each. So hashing has sessions of its own that give way.
"""

import errno
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import TypeVar

Answer = TypeVar("Answer")
_NICENESS = 5
"""Under full load a hash then takes seconds, not tens of them."""
_AUTOGROUP = Path("/proc/self/autogroup")
_ASKED_TIMES = 20
_REFUSED_SECONDS = 0.1


class HashingProcesses:
    """As many processes as are needed, at most so many; one that dies is replaced."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._pool = self._opened()

    def submit(self, work: Callable[[], Answer]) -> Future[Answer]:
        """Have a picklable function called. The future has BrokenProcessPool when the process died of it or with it."""
        try:
            return self._pool.submit(work)
        except BrokenProcessPool:
            self._pool.shutdown(wait=False)
            self._pool = self._opened()
            return self._pool.submit(work)

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _opened(self) -> ProcessPoolExecutor:
        # Not forked: what a process with threads and an event loop holds at that moment would stay held in its child.
        spawning = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(self._most, mp_context=spawning, initializer=_lower_priority)


def _lower_priority() -> None:
    """Give way to heartbeats, and live as long as the parent, whatever signals a whole service is sent."""
    os.setsid()
    os.nice(_NICENESS)  # added to the parent's own; the kernel ends at 19
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_follow, daemon=True).start()


def _follow() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None  # noqa: S101  a child
    _lower_session()
    parent.join()
    os._exit(0)


def _lower_session() -> None:
    """Lower the session's share, where there is autogroup. Linux takes one such wish each tenth of a second."""
    for _ in range(_ASKED_TIMES):
        try:
            _AUTOGROUP.write_text(str(os.getpriority(os.PRIO_PROCESS, 0)), encoding="ascii")
        except OSError as error:
            if error.errno != errno.EAGAIN:
                return
            time.sleep(_REFUSED_SECONDS)
        else:
            return
