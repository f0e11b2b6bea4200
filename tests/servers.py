"""Real servers of our own for tests, and databases on them."""

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from redis import Redis

from app.embedded.postgres import Postgres
from app.embedded.valkey import NO_OPTIONS, Valkey
from app.postgres_store.migrate import upgrade

TEMPLATE = "hourglass_template"
DEBIAN_REDIS = Path("/usr/bin/redis-server")
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")


class Cache(Valkey):
    """A Valkey that does not outlive the tests."""

    def _command(self) -> Sequence[str | Path]:
        return ending_with_us(super()._command(), "TERM")


class Databases(Postgres):
    """A PostgreSQL that hands out databases: careless about power cuts, quick to make another."""

    def __init__(self, folder: Path, *, binaries: Path | None = None) -> None:
        super().__init__(folder, binaries=binaries, durable=False)
        self._numbers = count(1)
        self._has_template = False

    def _command(self) -> Sequence[str | Path]:
        return ending_with_us(super()._command(), "INT")

    def fresh(self) -> str:
        """The address of a new database with the newest schema and no rows, copied from one migrated once."""
        if not self._has_template:
            self.execute(f"CREATE DATABASE {TEMPLATE}")
            with ThreadPoolExecutor(1) as thread:  # it opens an event loop of its own, and we may be called in one
                thread.submit(upgrade, self.url_of(TEMPLATE)).result()
            self._has_template = True
        name = f"fresh_{next(self._numbers)}"
        # Copying files costs less than writing every page to the log.
        self.execute(f"CREATE DATABASE {name} TEMPLATE {TEMPLATE} STRATEGY file_copy")
        return self.url_of(name)

    def empty(self) -> str:
        """The address of a new database without any schema."""
        name = f"empty_{next(self._numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        return self.url_of(name)


def ending_with_us(command: Sequence[str | Path], signal_name: str) -> Sequence[str | Path]:
    """The same command; the kernel sends it a signal when we die, as when somebody kills a test run."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", signal_name, *command] if setpriv else command


@contextmanager
def running_postgres(*, binaries: Path | None = None) -> Iterator[Databases]:
    with reachable_folder() as folder:
        server = Databases(folder / "postgres", binaries=binaries)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def running_valkey(*, binary: Path | None = None, options: Mapping[str, str] = NO_OPTIONS) -> Iterator[Valkey]:
    with reachable_folder() as folder:
        server = Cache(folder / "valkey", binary=binary, options={"enable-debug-command": "local", **options})
        try:
            server.start()
            yield server
        finally:
            server.stop()


def emptied(server: Valkey) -> Valkey:
    """The same server, without keys."""
    with Redis.from_url(server.url) as redis:
        redis.flushall()
    return server


@contextmanager
def reachable_folder() -> Iterator[Path]:
    """A temporary folder that PostgreSQL's user can reach, unlike pytest's own."""
    with tempfile.TemporaryDirectory(prefix="hourglass-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder)


def debian_postgres() -> Path | None:
    """The programs of the distribution's oldest PostgreSQL."""
    found = sorted(DEBIAN_POSTGRES.glob("*/bin/postgres"))
    return found[0].parent if found else None
