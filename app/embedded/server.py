"""What PostgreSQL and Valkey have in common as our children: one server per folder, started, watched, ended.

A lock file is opened and locked here and then inherited by the server and by all that it forks. So the kernel
answers the question that matters, "does anything still run on this data?", also after a kill -9 of us or of
the server, after a reboot, and when process ids were used again. What a dead predecessor left running is ended
before a new server starts.
"""

import contextlib
import fcntl
import hashlib
import os
import re
import signal
import socket
import stat
import subprocess
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import ClassVar

from app.embedded.account import ENVIRONMENT, Account
from app.embedded.system import end, kill_with_children, running, wait_until

LONGEST_SOCKET_PATH = 103
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._ -]+")
"""Clients take a comma in a socket's path for a list, and servers have quoting rules of their own."""

PREDECESSOR_SECONDS = 30.0


class ServerFailed(Exception):
    """A server could not be started or reached; the text says which, why and where its log is."""


class Server(ABC):
    """A server on the data of one folder. Blocking; not for use by several threads."""

    title: ClassVar[str]
    start_seconds: ClassVar[float] = 120.0
    stop_signals: ClassVar[Sequence[signal.Signals]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._account = Account(uid=os.geteuid(), gid=os.getegid())
        self._sockets = self.folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect."""

    @abstractmethod
    def _prepare(self) -> None:
        """Bring folders, files and settings into the state the server starts from."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The server in the foreground; one argument is a path that no other server has."""

    def _variables(self) -> Mapping[str, str]:
        """What its environment holds beside what every server's does."""
        return {}

    @abstractmethod
    def _is_mine(self, command: Sequence[str]) -> bool:
        """Whether a process with this command line serves this folder."""

    @abstractmethod
    def _is_ready(self) -> bool:
        """Whether the server answers."""

    @property
    def home(self) -> Path:
        """The folder with data, log and lock."""
        return self.folder

    @property
    def log(self) -> Path:
        return self.home / "server.log"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        if self._process is None:
            raise ServerFailed(f"{self.title} is not running")
        return self._process.pid

    def start(self) -> None:
        """Start, and wait until it answers. Where it already runs for us nothing happens.

        Raises:
            ServerFailed: it ended, or did not answer in time.
        """
        if self.running:
            return
        try:
            self._prepare()
            with self._sole_user_of_the_data() as lock, self.log.open("ab") as log:
                logged = log.tell()
                self._process = subprocess.Popen(  # noqa: S603  our own binary
                    self._command(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    env={**ENVIRONMENT, **self._variables()},
                    pass_fds=[lock],
                    start_new_session=True,  # Ctrl-C in a terminal is ours to answer, in order
                    user=self._account.user,
                    group=self._account.group,
                    extra_groups=self._account.extra_groups,
                )
        except OSError as error:
            raise ServerFailed(f"cannot start {self.title}: {error}") from error
        ready = wait_until(lambda: self._is_ready() or not self.running, seconds=self.start_seconds)
        if not ready or not self.running:
            self.kill9()
            raise ServerFailed(f"{self.title} does not start: {self._last_words(logged)} (log: {self.log})")

    def stop(self, *, seconds: float = 10.0) -> None:
        """End it in order; where that takes longer than ``seconds``, less and less politely."""
        if self._process is not None:
            end([self._process.pid] if self.running else [], self.stop_signals, seconds=seconds)
            self._process.wait()
            self._process = None
        if self._sockets != self.home:
            with contextlib.suppress(OSError):
                self._sockets.rmdir()

    def kill9(self) -> None:
        """End it and all it forked as a power cut would."""
        if self._process is not None:
            kill_with_children(self._process.pid)
            self._process.wait()
            self._process = None

    def restart(self) -> None:
        self.stop()
        self.start()

    @contextlib.contextmanager
    def _sole_user_of_the_data(self) -> Iterator[int]:
        lock = os.open(self.home / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _locked(lock):
                end(running(self._is_mine), self.stop_signals, seconds=PREDECESSOR_SECONDS)
                if not wait_until(lambda: _locked(lock), seconds=10):
                    raise ServerFailed(f"another process uses the data of {self.title} in {self.home}")
            yield lock
        finally:
            os.close(lock)  # ours only: the server keeps its copy, and with it the lock

    def _last_words(self, since: int) -> str:
        """What it logged since a position, from the fatal line on where there is one."""
        lines = self.log.read_bytes()[since:].decode(errors="replace").strip().splitlines()
        fatal = [number for number, line in enumerate(lines) if "FATAL" in line or "PANIC" in line]
        told = lines[fatal[-1] :] if fatal else lines[-1:]
        return "; ".join(line.strip() for line in told[:4]) or "it said nothing"


def socket_folder(home: Path, name: str, account: Account) -> Path:
    """A folder for the unix socket ``name``: the server's own, or where that is too deep (or odd) a short private one.

    Raises:
        ServerFailed: no folder on this machine can hold a socket.
    """
    if _can_bind(home / name):
        return home
    runtime = Path("/run") if os.geteuid() == 0 else Path("/run/user") / str(os.geteuid())
    for base in (runtime, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  made private, or refused
        folder = base / f"hourglass-{digest_of(home)}"
        if _is_private(folder, account) and account.may("w", folder) and _can_bind(folder / name):
            return folder
    raise ServerFailed(f"no folder for a unix socket: {home} is too deep or odd, and neither /run nor /tmp can be used")


def _is_private(folder: Path, account: Account) -> bool:
    """Make the folder; one that exists counts only if it is really this user's, for anybody may write to /tmp."""
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        found = folder.lstat()
        return stat.S_ISDIR(found.st_mode) and found.st_uid == account.uid and not found.st_mode & 0o077
    except OSError:
        return False
    account.own(folder)
    return True


def digest_of(path: Path) -> str:
    """A short name for a path, the same every time."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _can_bind(path: Path) -> bool:
    """Some file systems know no sockets, and no socket may have a long name."""
    if len(os.fsencode(path)) > LONGEST_SOCKET_PATH or not PLAIN_PATH.fullmatch(str(path)):
        return False
    probe = path.with_name("probe")
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as trial:
        probe.unlink(missing_ok=True)
        trial.bind(str(probe))
        probe.unlink()
        return True
    return False


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
