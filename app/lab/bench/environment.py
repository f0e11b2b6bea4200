"""The environment of the parts: servers, prepared viewers, and the processes under test."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import SecretStr

from app.clock import now_ms
from app.embedded.deployment import locked
from app.embedded.postgres import Postgres
from app.embedded.secrets import NAMES, development_secrets
from app.embedded.system import wait_until
from app.embedded.valkey import Valkey
from app.lab.bench import openloop, rows, sessions
from app.lab.bench.failures import BenchFailed
from app.lab.bench.load import MAX_ONCE_SECONDS, Load, Loaded, Mode, Order
from app.lab.bench.plan import Plan
from app.lab.bench.redis_servers import RedisServers
from app.lab.bench.service_processes import SERVICE, Program, ServiceProcesses
from app.lab.bench.usage import Processes
from app.lab.bench.view import View
from app.lab.bench.viewers import Viewers, prepare
from app.postgres_store.migrate import head, upgrade
from app.redis_store.keys import Keys
from app.settings.settings import SERVER_URLS, Settings, environment, load_settings, variable_of
from app.wiring.external_identity import tokens_of
from app.wiring.worker import open_worker

NOTE = "bench.json"
TOKEN_LIFE_SECONDS = 86_400
DAY_MS = 86_400_000
MIN_FLUSH_AGE_SECONDS = 1.0
MIN_FLUSH_CYCLE_SECONDS = 0.5
ENOUGH_VIEWERS = 20_000
"""With fewer viewers, this load would exceed the heartbeat limit of a child."""
MAX_REST_SECONDS = 180.0
ROUNDS = 6
"""Each heartbeat reaches any process. After this many rounds each process has seen nearly all viewers."""
GUEST_LAPS = 5
GUESTS_PER_SECOND = 1_000
GUEST_CONNECTIONS = 16


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A load with the CPU seconds of each process, including the load generator."""

    loaded: Loaded
    cpu_seconds: Mapping[str, float]

    def microseconds(self, *names: str) -> float:
        """CPU time of some processes per request."""
        return round(1e6 * sum(self.cpu_seconds.get(name, 0.0) for name in names) / self.loaded.requests, 2)

    @property
    def microseconds_each(self) -> dict[str, float]:
        return {name: self.microseconds(name) for name in self.cpu_seconds}


@dataclass(frozen=True, kw_only=True)
class Opening:
    """The first heartbeat of all viewers after an empty start."""

    seconds: float
    errors: int
    cpu_seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes in use: Valkey's total, and the private memory of each API process."""

    valkey: int
    api: list[int]


class BenchEnvironment:
    """One run. The service starts when a part needs it, and stays until a part needs another program.

    Args:
        variables: the environment of the service's processes.
    """

    def __init__(
        self,
        *,
        plan: Plan,
        view: View,
        folder: Path,
        settings: Settings,
        variables: Mapping[str, str],
        postgres: Postgres,
        redis_servers: RedisServers,
        viewers: Viewers,
    ) -> None:
        self.plan = plan
        self.view = view
        self.folder = folder
        self.settings = settings
        self.variables = variables
        self.postgres = postgres
        self.redis_servers = redis_servers
        self.viewers = viewers
        self.opening: Opening | None = None
        self.untouched: Memory | None = None
        self._service: ServiceProcesses | None = None

    @property
    def flush_age_seconds(self) -> float:
        """Time after which dirty counters are due. Afterwards the flush rate equals the load."""
        return max(MIN_FLUSH_AGE_SECONDS, self.settings.flush_age_seconds * self.plan.flush_scale)

    @property
    def flush_sample_seconds(self) -> float:
        """Length of a load that meets the flusher at work on everybody."""
        return max(self.plan.sample_seconds, self.flush_age_seconds)

    # --- processes

    def service(self) -> ServiceProcesses:
        """The service as deployed: API processes and the worker."""
        if self._service is None:
            with self.view.doing("starting the service"):
                self._service = self._crew(SERVICE, self.folder, workers=self.plan.workers, flushes=True).__enter__()
        return self._service

    def stop_service(self) -> None:
        """End the service, so that another program can have the machine."""
        if self._service is not None:
            self._service.end()
            self._service = self.untouched = None

    @contextlib.contextmanager
    def replace_service(self, program: Program, *, flushes: bool, **settings: object) -> Iterator[ServiceProcesses]:
        """Another program in place of the service, with as many processes."""
        self.stop_service()
        with self._crew(program, self.folder, workers=self.plan.workers, flushes=flushes, **settings) as crew:
            yield crew

    @contextlib.contextmanager
    def start_beside(self, program: Program, *, workers: int = 1, **settings: object) -> Iterator[ServiceProcesses]:
        """Processes of another program while the service runs."""
        folder = self.folder / "beside" / program.name
        with self._crew(program, folder, workers=workers, flushes=False, **settings) as crew:
            yield crew

    @contextlib.contextmanager
    def flusher_halted(self) -> Iterator[None]:
        """Halt the worker of the service, if it runs."""
        if self._service is None:
            yield
        else:
            with self._service.worker_halted():
                yield

    @contextlib.contextmanager
    def moved_to(self, redis_servers: RedisServers, *, buckets: int) -> Iterator["BenchEnvironment"]:
        """The same viewers on other Redis servers, with nothing counted yet.

        Afterwards this environment has nothing counted either.
        """
        self._forget_everything()
        url = redis_servers.url
        moved = BenchEnvironment(
            plan=self.plan,
            view=self.view,
            folder=self.folder,
            settings=self.settings.model_copy(update={"redis_url": SecretStr(url), "buckets": buckets}),
            variables={**self.variables, variable_of("redis_url"): url, variable_of("buckets"): str(buckets)},
            postgres=self.postgres,
            redis_servers=redis_servers,
            viewers=self.viewers,
        )
        try:
            yield moved
        finally:
            moved.stop_service()
            self._forget_everything()

    def _forget_everything(self) -> None:
        """End the service, and delete what it counted. The next part opens all sessions again."""
        self.stop_service()
        self.opening = None
        asyncio.run(rows.delete_usage(self.postgres.url))
        self.viewers.forget_sessions()

    def _crew(
        self, program: Program, folder: Path, *, workers: int, flushes: bool, **settings: object
    ) -> ServiceProcesses:
        cycle_seconds = self.settings.flush_cycle_seconds * self.plan.flush_scale
        rhythm = {
            "flush_age_seconds": self.flush_age_seconds,
            "flush_cycle_seconds": max(MIN_FLUSH_CYCLE_SECONDS, cycle_seconds),
        }
        if self.plan.viewers < ENOUGH_VIEWERS:
            rhythm["max_beats_per_second"] = 0
        changed = {variable_of(name): str(value) for name, value in (rhythm | settings).items()}
        return ServiceProcesses(
            program=program,
            workers=workers,
            flushes=flushes,
            folder=folder,
            variables={**self.variables, **changed},
        )

    # --- viewers

    def open_sessions(self) -> ServiceProcesses:
        """The service, with every viewer in a running session."""
        if self.opening is None:
            self.opening = self.begin("opening all sessions")
        return self.service()

    def begin(self, what: str) -> Opening:
        """A new service with empty caches and counters, after one heartbeat of every viewer."""
        self.stop_service()
        self.redis_servers.flush_all()
        crew = self.service()
        self.untouched = self.memory(crew)
        return self.send_once(crew, what)

    def send_once(self, crew: ServiceProcesses, what: str) -> Opening:
        """Send each viewer's request once at full speed, then look up all sessions."""
        order = Order(seconds=MAX_ONCE_SECONDS, span=range(self.viewers.count), mode=Mode.ONCE)
        processes = self.processes(crew)
        before = processes.cpu_seconds()
        with self.view.doing(what), Load(crew.url, self.viewers, order, states=self.viewers.states) as load:
            loaded = load.result()
        used = processes.used_since(before, wrk=loaded.cpu_seconds)
        crew.requests += loaded.requests
        with self.view.doing("looking up sessions", total=self.viewers.count) as advance:
            running = sessions.look_up_sessions(self.viewers, self.settings, advance=advance)
        return Opening(
            seconds=loaded.seconds,
            errors=max(loaded.errors, self.viewers.count - running),
            cpu_seconds=used,
        )

    def warm(self, crew: ServiceProcesses) -> None:
        """Unmeasured load, once for each process group, so that processes cache tokens and policies."""
        if not crew.is_warm:
            with self.view.doing("warming up"):
                self.load(crew, Order(seconds=self.plan.warm_seconds, span=self.plan.everybody))
            crew.is_warm = True

    def warm_caches(self, crew: ServiceProcesses) -> None:
        """Unmeasured load until nearly every process has seen every viewer."""
        with self.view.doing("letting every process meet every viewer"):
            while crew.requests < ROUNDS * self.plan.viewers:
                self.load(crew, Order(seconds=self.plan.sample_seconds, span=self.plan.everybody))

    def warm_probes(self, crew: ServiceProcesses) -> None:
        """Send the first heartbeats of the extra viewers, once per process group and unmeasured.

        Afterwards every process knows them.
        """
        if not crew.has_met_guests:
            probe_viewers = self.plan.probe_viewers
            with self.view.doing("introducing the guests"):
                openloop.probe(
                    crew,
                    self.viewers,
                    probe_viewers,
                    per_second=GUESTS_PER_SECOND,
                    seconds=GUEST_LAPS * len(probe_viewers) / GUESTS_PER_SECOND,
                    connections=GUEST_CONNECTIONS,
                )
            crew.has_met_guests = True

    def wait_until_flushed(self) -> None:
        """Wait until everything is flushed, because leftover work would disturb the next measurement."""
        keys = Keys(self.settings.buckets)

        def is_clean() -> bool:
            return not any(client.zcard(keys.dirty(bucket)) for bucket in range(keys.buckets))

        with self.view.doing("letting the worker finish"), self.redis_servers.client() as client:
            if not wait_until(is_clean, seconds=MAX_REST_SECONDS):
                raise BenchFailed("the worker cannot flush all usage in time")

    # --- load

    def measure(self, crew: ServiceProcesses, what: str, order: Order) -> Measured:
        """Run a load and return its result with the CPU time."""
        processes = self.processes(crew)
        before = processes.cpu_seconds()
        with self.view.doing(what):
            loaded = self.load(crew, order)
        return Measured(loaded=loaded, cpu_seconds=processes.used_since(before, wrk=loaded.cpu_seconds))

    def load(self, crew: ServiceProcesses, order: Order) -> Loaded:
        with self.loading(crew, order) as load:
            loaded = load.result()
        crew.requests += loaded.requests
        return loaded

    @contextlib.contextmanager
    def loading(self, crew: ServiceProcesses, order: Order) -> Iterator[Load]:
        """Start a load. The sessions that it opens are looked up meanwhile."""
        with (
            sessions.kept(self.viewers, self.settings),
            Load(crew.url, self.viewers, order, states=self.viewers.states) as load,
        ):
            yield load

    def measure_with_flusher(self, crew: ServiceProcesses, what: str) -> Measured:
        """The usual load, after the flusher has caught up with what was counted while it was halted."""
        with self.view.doing("catching up"):
            self.load(crew, Order(seconds=1.5 * self.flush_age_seconds, span=self.plan.everybody))
        return self.measure(crew, what, Order(seconds=self.flush_sample_seconds, span=self.plan.everybody))

    def measure_baseline(self, crew: ServiceProcesses, what: str) -> Measured:
        """The usual load on another program. The stored sessions of the service stay unchanged."""
        states = self.folder / "baseline-states"
        states.write_bytes(bytes(self.viewers.states.stat().st_size))
        order = Order(seconds=self.plan.sample_seconds, span=self.plan.everybody)
        processes = self.processes(crew)
        with self.flusher_halted(), self.view.doing(what), sessions.without_sessions(states):
            before = processes.cpu_seconds()
            with Load(crew.url, self.viewers, order, states=states) as load:
                loaded = load.result()
        return Measured(loaded=loaded, cpu_seconds=processes.used_since(before, wrk=loaded.cpu_seconds))

    # --- servers

    def drain(self) -> tuple[int, float]:
        """Flush everything with a flusher in this process. The service must not run.

        Returns:
            The number of entries, and the duration in seconds.
        """

        async def drained() -> tuple[int, float]:
            async with open_worker(self.settings) as worker:
                await worker.make_partitions()
                began = time.monotonic()
                flushed = await worker.flusher.drain()
                if not flushed.was_ours:
                    raise BenchFailed("another flusher is at work")
                return flushed.entries, time.monotonic() - began

        return asyncio.run(drained())

    def versions(self) -> dict[str, str]:
        return {"valkey": self.redis_servers.version(), "postgresql": self.postgres.execute("SHOW server_version")}

    def changed_settings(self) -> dict[str, object]:
        """Settings of the service that the environment changes from their defaults."""
        return {
            name: value
            for name, value in self.settings.masked().items()
            if name in environment() and name not in _foreign_variables()
        }

    def memory(self, crew: ServiceProcesses) -> Memory:
        return Memory(valkey=self.redis_servers.used_memory(), api=self.processes(crew).private_bytes("api"))

    def processes(self, crew: ServiceProcesses | None = None) -> Processes:
        """The servers, and the user that runs them. The flusher of the service counts for processes beside it too."""
        flushers = [running for running in (crew, self._service) if running is not None and running.worker]
        groups = {"api": crew.api, "worker": flushers[0].worker if flushers else []} if crew else {}
        return Processes({**groups, "valkey": self.redis_servers.pids}, families={"postgres": self.postgres.pid})


@contextlib.contextmanager
def prepared_environment(folder: Path, plan: Plan, view: View) -> Iterator[BenchEnvironment]:
    """Start the servers in a folder, with all data prepared.

    Raises:
        BenchFailed: the folder has other content.
        DeploymentError: another run uses the folder.
    """
    with locked(folder), contextlib.ExitStack() as ending:
        count = plan.probe_viewers.stop
        _refuse_foreign(folder)
        postgres, valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
        for server in (postgres, valkey):
            with view.doing(f"starting {server.title}"):
                server.start()
            ending.callback(server.stop, seconds=10)
        ours = development_secrets(folder) | {"database_url": postgres.url, "redis_url": valkey.url}
        settings = load_settings(**ours)
        _prepare_rows(folder, postgres, count, view, all_rules=plan.all_rules)
        at_s = now_ms() // 1000
        with view.doing("making tokens", total=count) as advance:
            viewers = prepare(
                folder, count, tokens_of(settings), at_s=at_s, life_seconds=TOKEN_LIFE_SECONDS, advance=advance
            )
        stage = BenchEnvironment(
            plan=plan,
            view=view,
            folder=folder,
            settings=settings,
            variables=_environment() | {variable_of(name): value for name, value in ours.items()},
            postgres=postgres,
            redis_servers=RedisServers(valkey.url, [valkey]),
            viewers=viewers,
        )
        ending.callback(stage.stop_service)
        yield stage


def _refuse_foreign(folder: Path) -> None:
    """Accept only an empty folder or one of an earlier run, because a run deletes counted data there."""
    strangers = {path.name for path in folder.iterdir()} - {"lock"}
    if strangers and not (folder / NOTE).exists():
        raise BenchFailed(f"{folder} has other content; choose an empty folder, or none for a temporary one")
    if not strangers:
        (folder / NOTE).write_text("{}", encoding="utf-8")


def _prepare_rows(folder: Path, postgres: Postgres, viewers: int, view: View, *, all_rules: bool) -> None:
    """The rows of all viewers; rows of an earlier run in the folder are used again."""
    wanted = {"viewers": viewers, "schema": head(), "all_rules": all_rules}
    rules = rows.ALL_RULES if all_rules else None
    if json.loads((folder / NOTE).read_text(encoding="utf-8")) == wanted:
        asyncio.run(rows.delete_usage(postgres.url))
    else:
        with view.doing("making the schema"):
            postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database="hourglass")
            upgrade(postgres.url)
        with view.doing("putting viewers into PostgreSQL", total=rows.TABLES_A_VIEWER * viewers) as advance:
            asyncio.run(rows.load(postgres.url, viewers, at_ms=now_ms() - DAY_MS, advance=advance, rules=rules))
    asyncio.run(rows.mark_reports_prepared(postgres.url, at_ms=now_ms()))
    (folder / NOTE).write_text(json.dumps(wanted), encoding="utf-8")


def _environment() -> dict[str, str]:
    """The current environment without servers and secrets. Settings under test stay."""
    foreign = _foreign_variables()
    return {name: value for name, value in environment().items() if name not in foreign}


def _foreign_variables() -> set[str]:
    names = {variable_of(name) for name in (*NAMES, *SERVER_URLS)} | {"HOURGLASS_DATABASE_URL", "HOURGLASS_REDIS_URL"}
    return names | {f"{name}_FILE" for name in names}
