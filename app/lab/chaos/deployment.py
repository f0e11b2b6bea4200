"""Real servers and the real deployment on this machine, open to fault injection."""

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

from app.clock import now_ms
from app.domain.playback_bounds import PlaybackBounds
from app.embedded.deployment import locate
from app.embedded.postgres import SOCKET as POSTGRES_SOCKET
from app.embedded.postgres import Postgres
from app.embedded.secrets import development_secrets
from app.embedded.system import wait_until
from app.embedded.valkey import Valkey
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.lab.bench import rows
from app.lab.chaos.background import Background
from app.lab.chaos.clients import SIBLINGS, ClientPool
from app.lab.chaos.feed_consumer import FeedConsumer, FeedResult
from app.lab.chaos.proxy import NetworkFault, Proxy
from app.postgres_store.migrate import upgrade
from app.reconciling.service import Findings
from app.redis_store.keys import Keys
from app.settings.settings import Settings, environment, load_settings, variable_of
from app.wiring.external_identity import tokens_of
from app.wiring.worker import open_reconciliation

START_SECONDS = 120.0
END_SECONDS = 25.0
POLL_SECONDS = 0.05
YESTERDAY_MS = 86_400_000
_KEPT = "SELECT profile_id, id, position FROM feed_events"
_SESSIONS = "SELECT profile_id, id, bool_or(has_ended) FROM viewing_sessions GROUP BY profile_id, id"
QUICK: Mapping[str, object] = MappingProxyType(
    {"bcrypt_cost": 4, "flush_cycle_seconds": 0.5, "flush_age_seconds": 1.0, "policy_sweep_seconds": 2.0}
)
"""Shorter durations than in production."""


class DeploymentFailed(Exception):
    """The deployment did not start, or did not recover."""


class ChaosDeployment:
    """A deployment of `hourglass up` on own servers, from entering to leaving the context.

    Args:
        folder: folder for all files.
        postgres, valkey: its servers, not started yet.
        viewers: children in the database.
        proxied: whether a proxy with injectable faults is in front of the servers.
        settings: settings of the deployment by field; the others are `QUICK`.
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
                rows.load(
                    self.postgres.url,
                    self._viewers,
                    at_ms=now_ms() - YESTERDAY_MS,
                    advance=lambda _: None,
                    children_an_account=SIBLINGS,
                )
            )
            self.settings = self._settings(redis_url=self.valkey.url)
            if self._proxied:
                self._proxies = {
                    "postgres": Proxy(self.background, _postgres_socket(self.postgres)),
                    "redis": Proxy(self.background, valkey_socket(self.valkey)),
                }
            for proxy in self._proxies.values():
                self._ending.callback(proxy.close)
            self._ending.callback(self.kill_deployment)
            self.start_deployment()
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
        """The output of the deployment so far."""
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""

    def pids(self, name: str) -> list[int]:
        """Process ids of the deployment's children with this name prefix: ``api``, ``worker``."""
        return [pid for found, pid in sorted(locate(self._data_dir).processes.items()) if found.startswith(name)]

    def start_deployment(
        self, *, wrapper: Sequence[str] = (), settings: Mapping[str, object] = MappingProxyType({})
    ) -> None:
        """Start the deployment and wait until it is ready.

        Args:
            wrapper: a program that runs the deployment, e.g. ``faketime``.
            settings: changes to the settings of this object.
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
            raise DeploymentFailed(f"the deployment does not start: {self.log[logged:].strip()}")
        self.url = self.log[logged:].partition("ready: ")[2].split()[0]

    @property
    def is_up(self) -> bool:
        return self._up is not None and self._up.poll() is None

    @property
    def supervisor(self) -> int:
        if self._up is None:
            raise DeploymentFailed("the deployment was not started")
        return self._up.pid

    def stop_deployment(self, *, seconds: float = END_SECONDS) -> tuple[int, float]:
        """Send SIGTERM to the deployment; return its exit code and the duration."""
        if self._up is None:
            raise DeploymentFailed("the deployment was not started")
        began = time.monotonic()
        self._up.terminate()
        code = self._up.wait(timeout=seconds)
        self._up = None
        return code, time.monotonic() - began

    def kill_deployment(self) -> None:
        """Kill the deployment in any state. Its children exit when the supervisor dies."""
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

    # --- faults and repair

    def kill(self, name: str) -> int:
        """Send SIGKILL to the first child of that name; return its process id."""
        pid = self.pids(name)[0]
        os.kill(pid, signal.SIGKILL)
        return pid

    @contextlib.contextmanager
    def stopped(self, pid: int) -> Iterator[None]:
        """Stop a process while the block runs."""
        os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    @contextlib.contextmanager
    def redis(self, *, seconds: float = 5.0) -> Iterator["redis.Redis"]:
        """A direct client of Valkey, without the faulty network."""
        client = redis.Redis.from_url(self._serving.url, protocol=2, socket_timeout=seconds)
        try:
            yield client
        finally:
            client.close()

    @contextlib.contextmanager
    def promoted(self, replica: Valkey) -> Iterator[None]:
        """Replace Valkey by another server while the block runs."""
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
        """Cut every database connection of the service."""
        self.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'hourglass'")

    def stop_postgres(self) -> None:
        """Like ``pg_ctl stop -m immediate``: no checkpoint and no orderly end."""
        os.kill(self.postgres.pid, signal.SIGQUIT)
        self.eventually(lambda: not self.postgres.running, seconds=10)

    def wipe_valkey(self) -> None:
        """Kill the server and delete its data."""
        self.valkey.kill9()
        shutil.rmtree(self.valkey.home / "appendonlydir")

    def repair(self) -> None:
        """Remove all faults: both servers run, every process runs, the deployment is ready."""
        for proxy in self._proxies.values():
            if proxy.weather is not NetworkFault.FAIR:
                proxy.weather = NetworkFault.FAIR
                proxy.cut()
        for server in (self.postgres, self.valkey):
            server.start()
            os.kill(server.pid, signal.SIGCONT)
        if not self.is_up:
            self.start_deployment()
        for pid in (*self.pids("api"), *self.pids("worker")):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # --- players and results

    def clients(
        self,
        size: int,
        *,
        interval_seconds: float = 0.5,
        patience_seconds: float = 5.0,
        churn: float = 0.0,
        together: float = 0.0,
        leased: float = 0.0,
        seed: int = 0,
    ) -> ClientPool:
        """Children that no test has used before."""
        return ClientPool(
            self.background,
            url=self.url,
            tokens=tokens_of(self.settings),
            viewers=[next(self._unused) for _ in range(size)],
            interval_seconds=interval_seconds,
            patience_seconds=patience_seconds,
            churn=churn,
            together=together,
            leased=leased,
            seed=seed,
        )

    def feed_consumer(self) -> FeedConsumer:
        return FeedConsumer(self.background, url=self.url, tokens=tokens_of(self.settings))

    def feed_result(self, consumer: FeedConsumer, clients: ClientPool, *, seconds: float) -> FeedResult:
        """What a consumer read about the children of these players, compared once nothing differs, or in the end."""
        ours = set(clients.profile_ids)
        deadline = time.monotonic() + seconds
        while True:
            kept = [row for row in _fields(self.sql(_KEPT)) if row[0] in ours]
            sessions = [row for row in _fields(self.sql(_SESSIONS)) if row[0] in ours]
            result = consumer.result(
                profiles=ours,
                kept={event: int(position or 0) for _, event, position in kept},
                sessions={session: has_ended == "t" for _, session, has_ended in sessions},
                confirmed=clients.ended,
            )
            if not result.differences or time.monotonic() > deadline:
                return result
            time.sleep(POLL_SECONDS * 4)

    def findings(self, ledger: Sequence[PlaybackBounds] = ()) -> Findings:
        """Compare Redis, PostgreSQL and the players' ledgers, without the faulty network."""
        settings = self._settings(redis_url=self._serving.url)

        async def compare() -> Findings:
            async with open_reconciliation(settings) as reconciliation:
                return await reconciliation.compare(ledger)

        return asyncio.run(compare())

    def finished_waiting(self) -> int:
        """The number of finished sessions and days that PostgreSQL does not have yet."""
        keys = Keys(self.settings.buckets)
        with self.redis() as client:
            return sum(int(client.hlen(keys.closed(bucket))) for bucket in range(keys.buckets))

    def oldest_unflushed_seconds(self) -> float:
        """The age of the oldest dirty mark."""
        keys = Keys(self.settings.buckets)
        with self.redis() as client:
            heads = [client.zrange(keys.dirty(bucket), 0, 0, withscores=True) for bucket in range(keys.buckets)]
        oldest_ms = [float(head[0][1]) for head in heads if head]
        return (now_ms() - min(oldest_ms)) / 1000 if oldest_ms else 0.0

    def settled(self, ledger: Sequence[PlaybackBounds], *, seconds: float = 60.0) -> Findings:
        """The same after the flush, or after a timeout."""
        deadline = time.monotonic() + seconds
        while True:
            with contextlib.suppress(CountersUnavailable, DatabaseUnavailable):
                findings = self.findings(ledger)
                if not findings.waiting or time.monotonic() > deadline:
                    return findings
            if time.monotonic() > deadline:
                raise DeploymentFailed("the servers cannot be compared")
            time.sleep(POLL_SECONDS * 4)

    eventually = staticmethod(wait_until)

    def _settings(self, *, redis_url: str) -> Settings:
        """The deployment's settings with direct addresses of both servers."""
        ours = development_secrets(self._data_dir)
        return load_settings(**ours, **self._changed, database_url=self.postgres.url, redis_url=redis_url)


def valkey_socket(valkey: Valkey) -> Path:
    return Path(unquote(urlsplit(valkey.url).path))


def _postgres_socket(postgres: Postgres) -> Path:
    folder = urlsplit(postgres.url).query.removeprefix("host=")
    return Path(unquote(folder)) / POSTGRES_SOCKET


def _fields(rows: str) -> list[list[str]]:
    return [row.split("|") for row in rows.splitlines()]


def _ending_with_us() -> Sequence[str]:
    """Let the kernel end the deployment when this process dies, e.g. with a killed test run."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "TERM"] if setpriv else []
