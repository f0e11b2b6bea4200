"""The program of a hashing process: bcrypt at low priority, one computation at a time on the machine.

It is started as a script, so that it holds nothing of the service but bcrypt. Each line of its standard input, a
socket, is a salt and one or more secrets. The answer is a line with their hashes, or an empty one for what is no salt.
It ends with its input. Arguments: the number of computations at a time, and the file whose bytes are locked for them.
Without a file it waits for nobody.

A thread that hashes would take from the share of its process, however much it gives way: Linux divides the processors
among sessions first (autogroup) and goes by niceness only within each. So it has a session of its own that gives way.
"""

import contextlib
import errno
import fcntl
import os
import resource
import signal
import sys
from collections.abc import Iterator

import bcrypt

NICENESS = 5
"""Under full load a hash then takes seconds, not tens of them."""
MAX_TURN_SECONDS = 12
"""Turns are for the players' sake. Should a process that has the turn be halted, the others go on without one."""
NO_CORE_BYTES = 1
"""Less than any core dump. Other than 0, it also keeps Linux from passing one to a program."""
_MAX_LINE = 4096


class Turns:
    """At most so many computations at a time of all processes that use a file. Its locks end with their process.

    The first to wait holds one more byte: a process that has just had its turn cannot come before it.
    """

    def __init__(self, at_once: int, file: str) -> None:
        self._at_once = at_once
        self._file = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._is_waiting = False
        signal.signal(signal.SIGALRM, self._give_up)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        with contextlib.suppress(OSError):  # a TimeoutError is one, too
            self._is_waiting = True
            signal.alarm(MAX_TURN_SECONDS)
            self._wait()
            self._is_waiting = False
        self._is_waiting = False
        signal.alarm(0)
        try:
            yield
        finally:
            fcntl.lockf(self._file, fcntl.LOCK_UN)

    def _wait(self) -> None:
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, self._at_once)
        turn = next((byte for byte in range(self._at_once) if self._is_free(byte)), os.getpid() % self._at_once)
        fcntl.lockf(self._file, fcntl.LOCK_EX, 1, turn)
        fcntl.lockf(self._file, fcntl.LOCK_UN, 1, self._at_once)

    def _is_free(self, byte: int) -> bool:
        """Whether it is ours now."""
        try:
            fcntl.lockf(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, byte)
        except BlockingIOError:
            return False
        return True

    def _give_up(self, _number: int, _frame: object) -> None:
        if self._is_waiting:
            raise TimeoutError


def main(at_once: int, file: str | None) -> None:
    _lower_process()
    turns = None
    with contextlib.suppress(OSError):  # turns are for the players' sake: parents need none
        turns = Turns(at_once, file) if file is not None else None
    with os.fdopen(0, "rb", closefd=False) as requests:
        is_session_lowered = False
        while (line := requests.readline(_MAX_LINE)).endswith(b"\n"):
            is_session_lowered = is_session_lowered or _lower_session()
            salt, *secrets = line.split()
            with turns.turn() if turns is not None else contextlib.nullcontext():
                answer = _hashes(salt, secrets)
            os.write(0, answer + b"\n")


def _hashes(salt: bytes, secrets: list[bytes]) -> bytes:
    try:
        return b" ".join(bcrypt.hashpw(secret, salt) for secret in secrets)
    except ValueError:
        return b""


def _lower_process() -> None:
    """Give way, leave no core dump, and live as long as the input, whatever signals a whole service is sent."""
    os.nice(NICENESS)  # added to the parent's own; the kernel ends at 19
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    most = resource.getrlimit(resource.RLIMIT_CORE)[1]
    bound = NO_CORE_BYTES if most == resource.RLIM_INFINITY else min(NO_CORE_BYTES, most)
    resource.setrlimit(resource.RLIMIT_CORE, (bound, bound))


def _lower_session() -> bool:
    """Lower the session's share, where there is autogroup. Linux takes one such wish each tenth of a second.

    Returns:
        Whether it need not be tried again.
    """
    try:
        with open("/proc/self/autogroup", "w", encoding="ascii") as autogroup:  # noqa: PTH123  pathlib takes memory
            autogroup.write(str(os.getpriority(os.PRIO_PROCESS, 0)))
    except OSError as error:
        return error.errno != errno.EAGAIN
    return True


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2] if sys.argv[2:] else None)
