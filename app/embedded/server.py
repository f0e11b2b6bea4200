"""Base class of the PostgreSQL and Valkey child processes: one server per folder, started, monitored, ended.

This process opens and locks a lock file, and the server and its forks inherit it. The kernel then knows whether any
process still uses the data: also after kill -9 of either process, after a reboot, and with reused process ids. A server
left by a killed process is ended before a new one starts.
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

from app.embedded.account import ENVIRONMENT, SystemUser
from app.embedded.system import end, kill_with_children, running, wait_until

MAX_SOCKET_PATH = 103
PLAIN_PATH = re.compile(r"[A-Za-z0-9/._ -]+")
"""Characters that are safe in a socket path: clients split at commas, and servers have own quoting rules."""

PREDECESSOR_SECONDS = 30.0


class ServerFailed(Exception):
    """A server could not be started or reached. The text names the server, the cause and the log file."""


class Server(ABC):
    """A server on the data of one folder. Blocking; not safe for several threads."""

    title: ClassVar[str]
    start_seconds: ClassVar[float] = 120.0
    stop_signals: ClassVar[Sequence[signal.Signals]]

    def __init__(self, folder: Path) -> None:
        self.folder = folder.absolute()
        self._account = SystemUser(uid=os.geteuid(), gid=os.getegid())
        self._sockets = self.folder
        self._process: subprocess.Popen[bytes] | None = None

    @property
    @abstractmethod
    def url(self) -> str:
        """The address for clients."""

    @abstractmethod
    def _prepare(self) -> None:
        """Create folders, files and settings that the server needs at start."""

    @abstractmethod
    def _command(self) -> Sequence[str | Path]:
        """The command line of the server in the foreground. One argument is a path that is unique to this server."""

    def _variables(self) -> Mapping[str, str]:
        """Environment variables in addition to those of every server."""
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
        """Start the server and wait until it answers. A running server is kept.

        Raises:
            ServerFailed: the server ended, or did not answer in time.
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
                    start_new_session=True,  # this process handles Ctrl-C of the terminal, in order
                    user=self._account.user,
                    group=self._account.group,
                    extra_groups=self._account.extra_groups,
                )
        except OSError as error:
            raise ServerFailed(f"cannot start {self.title}: {error}") from error
        ready = wait_until(lambda: self._is_ready() or not self.running, seconds=self.start_seconds)
        if not ready or not self.running:
            self.kill9()
            raise ServerFailed(f"{self.title} does not start: {self._log_tail(logged)} (log: {self.log})")

    def stop(self, *, seconds: float = 10.0) -> None:
        """End the server in order; after ``seconds`` use stronger signals."""
        if self._process is not None:
            end([self._process.pid] if self.running else [], self.stop_signals, seconds=seconds)
            self._process.wait()
            self._process = None
        if self._sockets != self.home:
            with contextlib.suppress(OSError):
                self._sockets.rmdir()

    def kill9(self) -> None:
        """Kill the server and all its forks, as a power cut would."""
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
            os.close(lock)  # closes only this copy; the server keeps its own, and the lock

    def _log_tail(self, since: int) -> str:
        """The log since a position, from the fatal line on if there is one."""
        lines = self.log.read_bytes()[since:].decode(errors="replace").strip().splitlines()
        fatal = [number for number, line in enumerate(lines) if "FATAL" in line or "PANIC" in line]
        told = lines[fatal[-1] :] if fatal else lines[-1:]
        return "; ".join(line.strip() for line in told[:4]) or "it said nothing"


def socket_folder(home: Path, name: str, account: SystemUser) -> Path:
    """A folder for the unix socket ``name``: the server's own, or a short private one if that path is unsuitable.

    Raises:
        ServerFailed: no folder on this machine can contain a socket.
    """
    if _can_bind(home / name):
        return home
    runtime = Path("/run") if os.geteuid() == 0 else Path("/run/user") / str(os.geteuid())
    for base in (runtime, Path(tempfile.gettempdir()), Path("/tmp")):  # noqa: S108  made private, or refused
        folder = base / f"hourglass-{digest_of(home)}"
        if _is_private(folder, account) and account.may("w", folder) and _can_bind(folder / name):
            return folder
    raise ServerFailed(
        f"no folder for a unix socket: {home} is too long or unsafe, and neither /run nor /tmp can be used"
    )


def _is_private(folder: Path, account: SystemUser) -> bool:
    """Create the folder; return whether it belongs to this user, because /tmp is writable for all."""
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
    """A short, stable name for a path."""
    return hashlib.sha256(os.fsencode(path)).hexdigest()[:16]


def _can_bind(path: Path) -> bool:
    """Whether a socket can be bound: some file systems have no sockets, and socket paths are limited."""
    if len(os.fsencode(path)) > MAX_SOCKET_PATH or not PLAIN_PATH.fullmatch(str(path)):
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
