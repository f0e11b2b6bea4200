"""Real servers and the real deployment on this machine, each within reach of whoever wants to hurt it."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Self
from urllib.parse import unquote, urlsplit

import redis

from app.bench import rows
from app.chaos.background import Background
from app.chaos.crowd import Crowd
from app.chaos.proxy import Proxy, Weather
from app.clock import now_ms
from app.domain.ledger import Watched
from app.embedded.deployment import locate
from app.embedded.postgres import SOCKET as POSTGRES_SOCKET
from app.embedded.postgres import Postgres
from app.embedded.secrets import development_secrets
from app.embedded.system import wait_until
from app.embedded.valkey import Valkey
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.postgres_store.migrate import upgrade
from app.reconciling.service import Findings
from app.redis_store.keys import Keys
from app.settings import Settings, environment, load_settings, variable_of
from app.wiring import open_reconciliation, tokens_of

START_SECONDS = 120.0
END_SECONDS = 25.0
POLL_SECONDS = 0.05
YESTERDAY_MS = 86_400_000
QUICK: Mapping[str, object] = MappingProxyType(
    {"bcrypt_cost": 4, "flush_cycle_seconds": 0.5, "flush_age_seconds": 1.0, "policy_sweep_seconds": 2.0}
)
"""Everything that usually takes its time, sooner."""


class StandFailed(Exception):
    """The deployment did not start, or did not come back."""


class Stand:
    """A deployment of `hourglass up` on servers of ours, from entering to leaving the context.

    Args:
        folder: for everything.
        postgres, valkey: its servers, not started yet.
        viewers: children in the database.
        proxied: whether a network that can fail lies between the deployment and its servers.
        settings: of the deployment, by field; what is not given is `QUICK`.
    """

    def __init__(
        self,
        folder: Path,
        *,
        postgres: Postgres,
        valkey: Valkey,
        viewers: int,
        proxied: bool = True,
        settings: Mapping[str, object] = MappingProxyType({}),
    ) -> None:
        self.folder = folder
        self.postgres = postgres
        self.valkey = valkey
        self.background = Background()
        self.url = ""
        self._viewers = viewers
        self._unused = iter(range(viewers))
        self._proxied = proxied
        self._changed = {**QUICK, **settings}
        self._data_dir = folder / "deployment"
        self._log = folder / "up.log"
        self._up: subprocess.Popen[bytes] | None = None
        self._ending = contextlib.ExitStack()
        self._proxies: dict[str, Proxy] = {}
        self._promoted: Valkey | None = None

    def __enter__(self) -> Self:
        try:
            self._ending.enter_context(self.background)
            for server in (self.postgres, self.valkey):
                server.start()
                self._ending.callback(server.stop, seconds=10)
            upgrade(self.postgres.url)
            asyncio.run(
                rows.load(self.postgres.url, self._viewers, at_ms=now_ms() - YESTERDAY_MS, advance=lambda _: None)
            )
            self.settings = self._settings(redis_url=self.valkey.url)
            if self._proxied:
                self._proxies = {
                    "postgres": Proxy(self.background, _postgres_socket(self.postgres)),
                    "redis": Proxy(self.background, valkey_socket(self.valkey)),
                }
            for proxy in self._proxies.values():
                self._ending.callback(proxy.close)
            self._ending.callback(self.kill_up)
            self.start_up()
        except BaseException:
            self._ending.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.close()

    # --- the deployment

    @property
    def to_redis(self) -> Proxy:
        return self._proxies["redis"]

    @property
    def to_postgres(self) -> Proxy:
        return self._proxies["postgres"]

    @property
    def log(self) -> str:
        """What the deployment has said so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def pids(self, name: str) -> list[int]:
        """Process ids of the deployment's children whose name begins like this: ``api``, ``worker``."""
        return [pid for found, pid in sorted(locate(self._data_dir).processes.items()) if found.startswith(name)]

    def start_up(self, *, wrapper: Sequence[str] = (), settings: Mapping[str, object] = MappingProxyType({})) -> None:
        """Start the deployment and wait until it is ready.

        Args:
            wrapper: a program that runs it, e.g. ``faketime``.
            settings: other than those of the stand.
        """
        logged = len(self.log)
        data_dir = f"--data-dir={self._data_dir}"
        with self._log.open("ab") as log:
            self._up = subprocess.Popen(  # noqa: S603  ourselves
                [*_ending_with_us(), *wrapper, sys.executable, "-P", "-m", "app.cli", "up", "--port=0", data_dir],
                env=self.variables(settings),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        ready = self.eventually(lambda: "ready: " in self.log[logged:] or not self.is_up, seconds=START_SECONDS)
        if not ready or not self.is_up:
            raise StandFailed(f"the deployment does not start: {self.log[logged:].strip()}")
        self.url = self.log[logged:].partition("ready: ")[2].split()[0]

    @property
    def is_up(self) -> bool:
        return self._up is not None and self._up.poll() is None

    @property
    def supervisor(self) -> int:
        if self._up is None:
            raise StandFailed("the deployment was not started")
        return self._up.pid

    def end_up(self, *, seconds: float = END_SECONDS) -> tuple[int, float]:
        """SIGTERM to the deployment; its exit code, and how long it took."""
        if self._up is None:
            raise StandFailed("the deployment was not started")
        began = time.monotonic()
        self._up.terminate()
        code = self._up.wait(timeout=seconds)
        self._up = None
        return code, time.monotonic() - began

    def kill_up(self) -> None:
        """End the deployment however it stands: its children end when the supervisor dies."""
        if self._up is None:
            return
        with contextlib.suppress(Exception):
            for pid in (*self.pids("api"), *self.pids("worker")):
                os.kill(pid, signal.SIGKILL)
        self._up.kill()
        self._up.wait()
        self._up = None

    def variables(self, settings: Mapping[str, object] = MappingProxyType({})) -> dict[str, str]:
        """The environment of the deployment's processes."""
        ours = {
            name: value for name, value in environment().items() if not name.startswith(("HOURGLASS_", "DATABASE_"))
        }
        changed = {variable_of(name): str(value) for name, value in {**self._changed, **settings}.items()}
        database, cache = self.postgres.url, self.valkey.url
        if self._proxied:
            database = f"postgresql://postgres@127.0.0.1:{self.to_postgres.port}/hourglass"
            cache = f"redis://127.0.0.1:{self.to_redis.port}"
        secrets = {variable_of(name): value for name, value in development_secrets(self._data_dir).items()}
        return {**ours, **secrets, "DATABASE_URL": database, "REDIS_URL": cache, **changed}

    # --- hurting it, and mending it

    def kill(self, name: str) -> int:
        """SIGKILL to the first child of that name; its process id."""
        pid = self.pids(name)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextlib.contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """A process that stands still while the block runs."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def redis(self, *, seconds: float = 5.0) -> Iterator["redis.Redis"]:
        """A client of Valkey itself, past the network that fails."""
        client = redis.Redis.from_url(self._serving.url, protocol=2, socket_timeout=seconds)
        try:
            yield client
        finally:
            client.close()

    @contextlib.contextmanager
    def promoted(self, replica: Valkey) -> Iterator[None]:
        """Another server in the place of Valkey while the block runs."""
        self._lead_to(replica)
        try:
            yield
        finally:
            self._lead_to(None)

    def _lead_to(self, server: Valkey | None) -> None:
        self._promoted = server
        self.to_redis.upstream = valkey_socket(self._serving)
        self.to_redis.cut()

    @property
    def _serving(self) -> Valkey:
        return self._promoted or self.valkey

    def sql(self, statement: str) -> str:
        """Run a statement as superuser in the service's database."""
        return self.postgres.execute(statement, database="hourglass")

    def cut_postgres(self) -> None:
        """Cut every connection of the service."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hourglass'")

    def stop_postgres(self) -> None:
        """As ``pg_ctl stop -m immediate`` does: no checkpoint, no goodbye."""
        os.kill(self.postgres.pid, signal.SIGQUIT)
        self.eventually(lambda: not self.postgres.running, seconds=10)

    def wipe_valkey(self) -> None:
        """It dies, and with it all that it ever wrote."""
        self.valkey.kill9()
        shutil.rmtree(self.valkey.home / "appendonlydir")

    def mend(self) -> None:
        """Fair weather, both servers running, every process going on, the deployment ready."""
        for proxy in self._proxies.values():
            if proxy.weather is not Weather.FAIR:
                proxy.weather = Weather.FAIR
                proxy.cut()
        for server in (self.postgres, self.valkey):
            server.start()
            os.kill(server.pid, signal.SIGCONT)
        if not self.is_up:
            self.start_up()
        for pid in (*self.pids("api"), *self.pids("worker")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # --- who watches, and what came of it

    def crowd(
        self,
        size: int,
        *,
        interval_seconds: float = 0.5,
        patience_seconds: float = 5.0,
        churn: float = 0.0,
        seed: int = 0,
    ) -> Crowd:
        """Children whom nobody has used before."""
        return Crowd(
            self.background,
            url=self.url,
            tokens=tokens_of(self.settings),
            viewers=[next(self._unused) for _ in range(size)],
            interval_seconds=interval_seconds,
            patience_seconds=patience_seconds,
            churn=churn,
            seed=seed,
        )

    def findings(self, ledger: Sequence[Watched] = ()) -> Findings:
        """Redis, PostgreSQL and players compared, past the network that fails."""
        settings = self._settings(redis_url=self._serving.url)

        async def compare() -> Findings:
            async with open_reconciliation(settings) as reconciliation:
                return await reconciliation.compare(ledger)

        return asyncio.run(compare())

    def finished_waiting(self) -> int:
        """Finished sessions and days that PostgreSQL does not have yet."""
        keys = Keys(self.settings.buckets)
        with self.redis() as client:
            return sum(int(client.hlen(keys.closed(bucket))) for bucket in range(keys.buckets))

    def oldest_unflushed_seconds(self) -> float:
        """How long ago the child became dirty that has waited longest."""
        keys = Keys(self.settings.buckets)
        with self.redis() as client:
            heads = [client.zrange(keys.dirty(bucket), 0, 0, withscores=True) for bucket in range(keys.buckets)]
        oldest_ms = [float(head[0][1]) for head in heads if head]
        return (now_ms() - min(oldest_ms)) / 1000 if oldest_ms else 0.0

    def settled(self, ledger: Sequence[Watched], *, seconds: float = 60.0) -> Findings:
        """The same once everything is flushed; whatever still waits after so long is left waiting."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(CountersUnavailable, DatabaseUnavailable):
                findings = self.findings(ledger)
                if not findings.waiting or time.monotonic() > deadline:
                    return findings
            if time.monotonic() > deadline:
                raise StandFailed("the servers cannot be compared")
            time.sleep(POLL_SECONDS * 4)

    eventually = staticmethod(wait_until)

    def _settings(self, *, redis_url: str) -> Settings:
        """The deployment's, with the direct way to both servers."""
        ours = development_secrets(self._data_dir)
        return load_settings(**ours, **self._changed, database_url=self.postgres.url, redis_url=redis_url)


def valkey_socket(valkey: Valkey) -> Path:
    return Path(unquote(urlsplit(valkey.url).path))


def _postgres_socket(postgres: Postgres) -> Path:
    folder = urlsplit(postgres.url).query.removeprefix("host=")
    return Path(unquote(folder)) / POSTGRES_SOCKET


def _ending_with_us() -> Sequence[str]:
    """Has the kernel end the deployment when we die, as when somebody kills a test run."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
