"""One process that starts the others, keeps them alive and ends them in order.

Started in this order: servers, schema, API processes and worker, demo. Ended in the opposite order, so that each
part finishes while what it needs is there: demo, API processes (answering what is in flight), worker (flushing the
rest), servers; all of it within `END_SECONDS`.
"""

import contextlib
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

from app.cli.address import base_url, is_ready, reserve
from app.cli.errors import CommandError, reaching
from app.cli.processes import Child, Family, Signals, bury_metrics
from app.embedded.deployment import Deployment, Servers, claimed, end_leftovers, forget, write
from app.embedded.secrets import development_secrets
from app.embedded.server import ServerFailed
from app.embedded.system import listens
from app.postgres_store.migrate import upgrade
from app.settings import Settings, environment, export, is_given, load_settings

READY_SECONDS = 90.0
DRAIN_SECONDS = 10.0
DEMO_END_SECONDS = 2.0
API_END_SECONDS = 12.0
WORKER_END_SECONDS = 16.0
END_SECONDS = 19.0
HOPELESS_FAILURES = 3
POLL_SECONDS = 0.1
PAUSE_AFTER_FAILURE_SECONDS = 2.0
NOT_YET_KNOWN = {"database_url": "postgresql:///", "redis_url": "redis://"}
"""Stand for the addresses of our own servers in a check that comes before they are started."""


def run(folder: Path, options: Mapping[str, object], *, demo: bool) -> None:
    """Run a deployment until asked to end.

    Args:
        folder: its data folder, absolute.
        options: settings that win over the environment: host, port, workers.
        demo: whether a demo household watches.

    Raises:
        CommandError, DeploymentError, ServerFailed, SettingsError: it cannot start.
    """
    with claimed(folder), Signals() as signals, contextlib.ExitStack() as ending:
        settings = _settings(folder, options)
        end_leftovers(folder)
        holder, port = reserve(settings.host, settings.port)
        ending.enter_context(contextlib.closing(holder))
        ending.callback(forget, folder)
        supervisor = Supervisor(folder, settings, signals, port=port, logs_in_files=demo)
        ending.callback(supervisor.end)
        supervisor.start()
        if supervisor.becomes_ready():
            say(f"ready: {supervisor.url}")
            if demo:
                supervisor.start_demo()
            supervisor.watch()


def _settings(folder: Path, options: Mapping[str, object]) -> Settings:
    """The settings, checked before anything starts; addresses and secrets that are ours to make are filled in."""
    ours = development_secrets(folder) | NOT_YET_KNOWN
    return load_settings(**{name: value for name, value in ours.items() if not is_given(name)}, **options)


class Supervisor:
    """One deployment, from its first server to its last."""

    def __init__(self, folder: Path, settings: Settings, signals: Signals, *, port: int, logs_in_files: bool) -> None:
        self.url = base_url(settings.host, port)
        self._folder = folder
        self._settings = settings
        self._signals = signals
        self._port = port
        self._servers = Servers(folder)
        self._family = Family(signals)
        self._metrics = folder / "metrics"
        self._logs = folder / "log" if logs_in_files else None
        self._noted: Deployment | None = None

    def start(self) -> None:
        for server in self._servers.all:
            say(f"starting {server.title} in {server.folder}")
            server.start()
        export(self._servers.variables())
        with reaching("PostgreSQL", "DATABASE_URL"):
            upgrade(load_settings().database_url.get_secret_value())
        shutil.rmtree(self._metrics, ignore_errors=True)  # what processes counted that are dead now
        self._metrics.mkdir()
        if self._logs is not None:
            self._logs.mkdir(exist_ok=True)
        say(f"starting {self._settings.workers} API processes and the worker")
        for number in range(1, self._settings.workers + 1):
            self._family.add(self._child(f"api {number}", "api"))
        self._family.add(self._child("worker", "worker"))
        self._note()

    def becomes_ready(self) -> bool:
        """Wait for the first good answer; False when asked to end before it came.

        Raises:
            CommandError: a process ends again and again, or nothing is ready in time.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self._signals.requests:
            self._replace_the_dead()
            if self._all_listen() and is_ready(self._settings.host, self._port):
                return True
            for child in self._family:
                if child.failures >= HOPELESS_FAILURES:
                    raise CommandError(f"{child.name} does not start{_last_words(child)}")
            if time.monotonic() > deadline:
                raise CommandError(f"{self.url}/health/ready gives no good answer after {READY_SECONDS:.0f} s")
            self._signals.wait(POLL_SECONDS)
        return False

    def _all_listen(self) -> bool:
        """An API process listens only when it has started; one good answer tells of one process only."""
        processes = [child.process for child in self._family if child.name.startswith("api")]
        return all(process is not None and listens(process.pid, self._port) for process in processes)

    def start_demo(self) -> None:
        arguments = ["demo", "--data-dir", str(self._folder)]
        self._family.add(Child(name="demo", arguments=arguments, variables=self._environment(), lasting=False))

    def watch(self) -> None:
        """Replace whatever dies until asked to end."""
        while not self._signals.requests:
            self._restart_servers()
            self._replace_the_dead()
            self._signals.wait(self._family.pause())

    def end(self) -> None:
        """End in order; a second request cuts it short."""
        began = time.monotonic()
        say("draining (once more: end at once)")
        names = [child.name for child in self._family]
        self._family.end(["demo"], deadline=began + DEMO_END_SECONDS)
        self._family.end([name for name in names if name.startswith("api")], deadline=began + API_END_SECONDS)
        self._family.end(["worker"], deadline=began + WORKER_END_SECONDS)
        for server in reversed(self._servers.all):
            patience = max(1.0, began + END_SECONDS - time.monotonic())
            server.stop(seconds=patience if self._signals.requests <= 1 else 0.0)
        say(f"ended in {time.monotonic() - began:.1f} s")

    def _variables(self) -> dict[str, str]:
        """What configures this deployment, for everybody who uses it."""
        return {
            **self._servers.variables(),
            "HOURGLASS_HOST": self._settings.host,
            "HOURGLASS_PORT": str(self._port),
            "HOURGLASS_WORKERS": str(self._settings.workers),
        }

    def _environment(self) -> dict[str, str]:
        """The environment of our children: that, and what only they may share."""
        return {
            **environment(),
            **self._variables(),
            "HOURGLASS_METRICS_DIR": str(self._metrics),
            "PROMETHEUS_MULTIPROC_DIR": str(self._metrics),
            "HOURGLASS_DRAIN_SECONDS": str(min(self._settings.drain_seconds, DRAIN_SECONDS)),
        }

    def _child(self, name: str, *arguments: str) -> Child:
        log = self._logs / f"{name.replace(' ', '-')}.log" if self._logs is not None else None
        return Child(name=name, arguments=arguments, variables=self._environment(), log=log)

    def _note(self) -> None:
        """Tell other commands where everything is, whenever that has changed."""
        processes = {child.name: child.process.pid for child in self._family if child.process is not None}
        processes |= {server.title: server.pid for server in self._servers.all if server.running}
        now = Deployment(api_url=self.url, supervisor=os.getpid(), processes=processes, variables=self._variables())
        if now != self._noted:
            write(self._folder, now)
            self._noted = now

    def _replace_the_dead(self) -> None:
        for child, pid in self._family.revive():
            say(f"{child.name} ended{'; starting another' if child.lasting else ''}")
            bury_metrics(self._metrics, pid)
        self._note()

    def _restart_servers(self) -> None:
        for server in self._servers.all:
            if not server.running:
                say(f"{server.title} ended; starting it again")
                try:
                    server.start()
                except ServerFailed as error:
                    say(str(error))
                    self._signals.wait(PAUSE_AFTER_FAILURE_SECONDS)


def _last_words(child: Child) -> str:
    if child.log is None:
        return "; see its messages above"
    lines = child.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f": {lines[-1].strip()} (log: {child.log})" if lines else ""


def say(line: str) -> None:
    with contextlib.suppress(OSError):  # the terminal may be gone; ending in order matters more
        print(line, flush=True)
