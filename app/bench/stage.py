"""Where the parts measure: servers of our own, viewers ready to beat, processes to beat against."""

import asyncio
import contextlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import redis

from app.bench import openloop, rows, sessions
from app.bench.crew import SERVICE, Crew
from app.bench.failures import BenchFailed
from app.bench.load import LONGEST_ONCE_SECONDS, Load, Loaded, Mode, Order
from app.bench.plan import Plan
from app.bench.usage import Processes
from app.bench.view import View
from app.bench.viewers import Viewers, prepare
from app.clock import now_ms
from app.embedded.deployment import claimed
from app.embedded.postgres import Postgres
from app.embedded.secrets import NAMES, development_secrets
from app.embedded.system import wait_until
from app.embedded.valkey import Valkey
from app.postgres_store.migrate import head, upgrade
from app.redis_store.keys import Keys
from app.settings import SERVER_URLS, Settings, environment, load_settings, variable_of
from app.wiring import open_worker, tokens_of

NOTE = "bench.json"
TOKEN_LIFE_SECONDS = 86_400
DAY_MS = 86_400_000
SHORTEST_FLUSH_AGE_SECONDS = 1.0
SHORTEST_FLUSH_CYCLE_SECONDS = 0.5
ENOUGH_VIEWERS = 20_000
"""With fewer each beats more often than anybody may, at the speed of this load."""
LONGEST_REST_SECONDS = 180.0
ROUNDS = 6
"""A beat reaches any of the processes; after so many rounds each has met nearly all viewers."""
GUEST_LAPS = 5
GUESTS_PER_SECOND = 1_000
GUEST_CONNECTIONS = 16


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A load, and what it took from the processors in seconds by process, the load's own share included."""

    loaded: Loaded
    cpu_seconds: Mapping[str, float]

    def microseconds(self, *names: str) -> float:
        """Processor time of some processes for each request."""
        return round(1e6 * sum(self.cpu_seconds.get(name, 0.0) for name in names) / self.loaded.requests, 2)

    @property
    def microseconds_each(self) -> dict[str, float]:
        return {name: self.microseconds(name) for name in self.cpu_seconds}


@dataclass(frozen=True, kw_only=True)
class Opening:
    """All viewers who beat once, before which nobody had."""

    seconds: float
    errors: int
    cpu_seconds: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes in use: by Valkey in all, by each API process for itself."""

    valkey: int
    api: list[int]


class Stage:
    """One run. The service is started when a part asks for it, and kept until a part needs something else.

    Args:
        variables: the environment of its processes.
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
        valkey: Valkey,
        viewers: Viewers,
    ) -> None:
        self.plan = plan
        self.view = view
        self.folder = folder
        self.settings = settings
        self.variables = variables
        self.postgres = postgres
        self.valkey = valkey
        self.viewers = viewers
        self.opening: Opening | None = None
        self.untouched: Memory | None = None
        self._service: Crew | None = None

    @property
    def flush_age_seconds(self) -> float:
        """After so long what is dirty is due; only after as much load is as much flushed as all the time."""
        return max(SHORTEST_FLUSH_AGE_SECONDS, self.settings.flush_age_seconds * self.plan.flush_scale)

    # --- processes

    def service(self) -> Crew:
        """The service as it is deployed: API processes and the worker."""
        if self._service is None:
            with self.view.doing("starting the service"):
                self._service = self._crew(SERVICE, self.folder, workers=self.plan.workers, flushes=True).__enter__()
        return self._service

    def dismiss(self) -> None:
        """End the service, so that something else may have the machine."""
        if self._service is not None:
            self._service.end()
            self._service = self.untouched = None

    @contextlib.contextmanager
    def instead(self, program: Sequence[str], *, flushes: bool, **settings: object) -> Iterator[Crew]:
        """Something else in the place of the service, with as many processes."""
        self.dismiss()
        with self._crew(program, self.folder, workers=self.plan.workers, flushes=flushes, **settings) as crew:
            yield crew

    @contextlib.contextmanager
    def beside(self, program: Sequence[str], **settings: object) -> Iterator[Crew]:
        """One process of something, while the service runs."""
        folder = self.folder / "beside" / program[-1]
        with self._crew(program, folder, workers=1, flushes=False, **settings) as crew:
            yield crew

    def _crew(self, program: Sequence[str], folder: Path, *, workers: int, flushes: bool, **settings: object) -> Crew:
        cycle_seconds = self.settings.flush_cycle_seconds * self.plan.flush_scale
        rhythm = {
            "flush_age_seconds": self.flush_age_seconds,
            "flush_cycle_seconds": max(SHORTEST_FLUSH_CYCLE_SECONDS, cycle_seconds),
        }
        if self.plan.viewers < ENOUGH_VIEWERS:
            rhythm["max_beats_per_second"] = 0
        changed = {variable_of(name): str(value) for name, value in (rhythm | settings).items()}
        return Crew(
            program=program,
            workers=workers,
            flushes=flushes,
            folder=folder,
            variables={**self.variables, **changed},
        )

    # --- viewers

    def open_sessions(self) -> Crew:
        """The service, with every viewer watching."""
        if self.opening is None:
            self.opening = self.begin("opening all sessions")
        return self.service()

    def begin(self, what: str) -> Opening:
        """A new service that knows nobody, with empty counters, to which everybody beats once."""
        self.dismiss()
        with self.valkey_client() as client:
            client.flushall()
        crew = self.service()
        self.untouched = self.memory(crew)
        return self.everybody_once(crew, what)

    def everybody_once(self, crew: Crew, what: str) -> Opening:
        """Each viewer's request once, as fast as they are answered; then everybody's session is looked up."""
        order = Order(seconds=LONGEST_ONCE_SECONDS, span=range(self.viewers.count), mode=Mode.ONCE)
        processes = self.processes(crew)
        before = processes.cpu_seconds()
        with self.view.doing(what), Load(crew.url, self.viewers, order, states=self.viewers.states) as load:
            loaded = load.result()
        used = processes.used_since(before, wrk=loaded.cpu_seconds)
        crew.requests += loaded.requests
        with self.view.doing("looking up sessions", total=self.viewers.count) as advance:
            running = sessions.learn(self.viewers, self.settings, advance=advance)
        return Opening(
            seconds=loaded.seconds,
            errors=max(loaded.errors, self.viewers.count - running),
            cpu_seconds=used,
        )

    def warm(self, crew: Crew) -> None:
        """Load that nobody measures, once for each crew: processes learn tokens and policies."""
        if not crew.is_warm:
            with self.view.doing("warming up"):
                self.load(crew, Order(seconds=self.plan.warm_seconds, span=self.plan.everybody))
            crew.is_warm = True

    def acquaint(self, crew: Crew) -> None:
        """Load that nobody measures, until nearly every process has met every viewer."""
        with self.view.doing("letting every process meet every viewer"):
            while crew.requests < ROUNDS * self.plan.viewers:
                self.load(crew, Order(seconds=self.plan.sample_seconds, span=self.plan.everybody))

    def introduce(self, crew: Crew) -> None:
        """The first beats of the guests, once for each crew: not measured, and then every process knows them."""
        if not crew.has_met_guests:
            guests = self.plan.guests
            with self.view.doing("introducing the guests"):
                openloop.probe(
                    crew,
                    self.viewers,
                    guests,
                    per_second=GUESTS_PER_SECOND,
                    seconds=GUEST_LAPS * len(guests) / GUESTS_PER_SECOND,
                    connections=GUEST_CONNECTIONS,
                )
            crew.has_met_guests = True

    def rest(self) -> None:
        """Wait until everything is flushed: what a load has left would be in the way of what is measured next."""
        keys = Keys(self.settings.buckets)

        def is_clean() -> bool:
            return not any(client.zcard(keys.dirty(bucket)) for bucket in range(keys.buckets))

        with self.view.doing("letting the worker finish"), self.valkey_client() as client:
            if not wait_until(is_clean, seconds=LONGEST_REST_SECONDS):
                raise BenchFailed("the worker does not get to the end of what it has to flush")

    # --- load

    def measure(self, crew: Crew, what: str, order: Order) -> Measured:
        """A load from beginning to end, with what it took from the processors."""
        processes = self.processes(crew)
        before = processes.cpu_seconds()
        with self.view.doing(what):
            loaded = self.load(crew, order)
        return Measured(loaded=loaded, cpu_seconds=processes.used_since(before, wrk=loaded.cpu_seconds))

    def load(self, crew: Crew, order: Order) -> Loaded:
        with self.loading(crew, order) as load:
            loaded = load.result()
        crew.requests += loaded.requests
        return loaded

    @contextlib.contextmanager
    def loading(self, crew: Crew, order: Order) -> Iterator[Load]:
        """A running load; sessions that it opens are looked up meanwhile."""
        with (
            sessions.kept(self.viewers, self.settings),
            Load(crew.url, self.viewers, order, states=self.viewers.states) as load,
        ):
            yield load

    def measure_rival(self, crew: Crew, what: str) -> Measured:
        """The usual load against something else; what our service knows of sessions stays as it is."""
        states = self.folder / "rival-states"
        states.write_bytes(bytes(self.viewers.states.stat().st_size))
        order = Order(seconds=self.plan.sample_seconds, span=self.plan.everybody)
        processes = self.processes(crew)
        with self.view.doing(what), sessions.pretended(states):
            before = processes.cpu_seconds()
            with Load(crew.url, self.viewers, order, states=states) as load:
                loaded = load.result()
        return Measured(loaded=loaded, cpu_seconds=processes.used_since(before, wrk=loaded.cpu_seconds))

    # --- servers

    def drain(self) -> tuple[int, float]:
        """Write everything unflushed with a flusher in this process. The service must not run.

        Returns:
            entries, and the seconds it took.
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

    @contextlib.contextmanager
    def valkey_client(self) -> Iterator["redis.Redis"]:
        client = redis.Redis.from_url(self.settings.redis_url.get_secret_value(), protocol=2)
        try:
            yield client
        finally:
            client.close()

    def versions(self) -> dict[str, str]:
        with self.valkey_client() as client:
            found = client.info("server")
        valkey = found.get("valkey_version") or found["redis_version"]
        return {"valkey": str(valkey), "postgresql": self.postgres.execute("SHOW server_version")}

    def changed_settings(self) -> dict[str, object]:
        """Settings of the service that are not as they come, given by the environment."""
        return {
            name: value
            for name, value in self.settings.masked().items()
            if name in environment() and name not in _foreign_variables()
        }

    def memory(self, crew: Crew) -> Memory:
        with self.valkey_client() as client:
            used = int(client.info("memory")["used_memory"])
        return Memory(valkey=used, api=self.processes(crew).private_bytes("api"))

    def processes(self, crew: Crew | None = None) -> Processes:
        """The servers, and whoever runs on them."""
        groups = {"api": crew.api, "worker": crew.worker} if crew else {}
        return Processes({**groups, "valkey": [self.valkey.pid]}, families={"postgres": self.postgres.pid})


@contextlib.contextmanager
def staged(folder: Path, plan: Plan, view: View) -> Iterator[Stage]:
    """Servers in a folder of ours, with everything prepared.

    Raises:
        BenchFailed: the folder holds something else.
        DeploymentError: another run uses it.
    """
    with claimed(folder), contextlib.ExitStack() as ending:
        count = plan.guests.stop
        _refuse_foreign(folder)
        postgres, valkey = Postgres(folder / "postgres"), Valkey(folder / "valkey")
        for server in (postgres, valkey):
            with view.doing(f"starting {server.title}"):
                server.start()
            ending.callback(server.stop, seconds=10)
        ours = development_secrets(folder) | {"database_url": postgres.url, "redis_url": valkey.url}
        settings = load_settings(**ours)
        _prepare_rows(folder, postgres, count, view)
        at_s = now_ms() // 1000
        with view.doing("making tokens", total=count) as advance:
            viewers = prepare(
                folder, count, tokens_of(settings), at_s=at_s, life_seconds=TOKEN_LIFE_SECONDS, advance=advance
            )
        stage = Stage(
            plan=plan,
            view=view,
            folder=folder,
            settings=settings,
            variables=_environment() | {variable_of(name): value for name, value in ours.items()},
            postgres=postgres,
            valkey=valkey,
            viewers=viewers,
        )
        ending.callback(stage.dismiss)
        yield stage


def _refuse_foreign(folder: Path) -> None:
    """Only a folder that is empty or that a run has made before is ours to use: runs empty what they count in."""
    strangers = {path.name for path in folder.iterdir()} - {"lock"}
    if strangers and not (folder / NOTE).exists():
        raise BenchFailed(f"{folder} holds something else; name an empty folder, or none for a temporary one")
    if not strangers:
        (folder / NOTE).write_text("{}", encoding="utf-8")


def _prepare_rows(folder: Path, postgres: Postgres, viewers: int, view: View) -> None:
    """Rows of all viewers; those that a run before has left in the folder are used again."""
    wanted = {"viewers": viewers, "schema": head()}
    if json.loads((folder / NOTE).read_text(encoding="utf-8")) == wanted:
        asyncio.run(rows.forget_usage(postgres.url))
    else:
        with view.doing("making the schema"):
            postgres.execute("DROP SCHEMA public CASCADE; CREATE SCHEMA public", database="hourglass")
            upgrade(postgres.url)
        with view.doing("putting viewers into PostgreSQL", total=rows.TABLES_A_VIEWER * viewers) as advance:
            asyncio.run(rows.load(postgres.url, viewers, at_ms=now_ms() - DAY_MS, advance=advance))
    asyncio.run(rows.note_as_prepared(postgres.url, at_ms=now_ms()))
    (folder / NOTE).write_text(json.dumps(wanted), encoding="utf-8")


def _environment() -> dict[str, str]:
    """Ours, without what names other servers and secrets; settings to try out stay."""
    foreign = _foreign_variables()
    return {name: value for name, value in environment().items() if name not in foreign}


def _foreign_variables() -> set[str]:
    names = {variable_of(name) for name in (*NAMES, *SERVER_URLS)} | {"HOURGLASS_DATABASE_URL", "HOURGLASS_REDIS_URL"}
    return names | {f"{name}_FILE" for name in names}
