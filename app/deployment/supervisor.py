"""One process that starts the others, restarts them, and ends them in order.

Start order: servers, schema, API processes and worker, demo. They end in the opposite order, so that each part finishes
while its dependencies run: demo, API processes (finish running requests), worker (flushes the rest), servers. All of it
takes at most `END_SECONDS`.
"""

import asyncio
import contextlib
import json
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from app.clock import now_ms
from app.deployment.errors import CommandError, is_service, translate_connection_errors
from app.deployment.listening import base_url, is_ready, reserve
from app.deployment.preflight import ServiceRole, preflight
from app.deployment.processes import HOPELESS_FAILURES, ManagedProcess, ProcessGroup, Signals, drop_metrics
from app.deployment.serving import metrics_folder
from app.embedded.deployment import Deployment, Servers, end_leftovers, forget, locked, write
from app.embedded.secrets import development_secrets
from app.embedded.server import ServerFailed
from app.embedded.system import listens
from app.postgres_store.migrate import upgrade
from app.settings.settings import Settings, environment, export, is_given, load_settings
from app.timestamps import utc

READY_SECONDS = 90.0
SHUTDOWN_SECONDS = 10.0
DEMO_END_SECONDS = 2.0
API_END_SECONDS = 12.0
WORKER_END_SECONDS = 16.0
END_SECONDS = 19.0
POLL_SECONDS = 0.1
PAUSE_AFTER_FAILURE_SECONDS = 2.0
PLACEHOLDERS = {"database_url": "postgresql:///", "redis_url": "redis://"}
"""Placeholder addresses of own servers for a check before they start."""


def run(folder: Path, options: Mapping[str, object], *, demo: bool) -> None:
    """Run a deployment until asked to end.

    Args:
        folder: absolute path of its data folder.
        options: settings with priority over the environment: host, port, workers.
        demo: whether to run the demo household.

    Raises:
        CommandError, DeploymentError, ServerFailed, SettingsError: it cannot start.
    """
    with locked(folder), Signals() as signals, contextlib.ExitStack() as ending:
        settings = _settings(folder, options)
        end_leftovers(folder)
        holder, port = reserve(settings.host, settings.port)
        ending.enter_context(contextlib.closing(holder))
        ending.callback(forget, folder)
        supervisor = Supervisor(folder, settings, signals, port=port, logs_in_files=demo)
        ending.callback(supervisor.end)
        supervisor.start()
        if supervisor.wait_until_ready():
            say(f"ready: {supervisor.url}")
            if demo:
                supervisor.start_demo()
            supervisor.watch()


def _settings(folder: Path, options: Mapping[str, object]) -> Settings:
    """Check the settings before anything starts, with placeholders for own addresses and secrets."""
    ours = development_secrets(folder) | PLACEHOLDERS
    return load_settings(**{name: value for name, value in ours.items() if not is_given(name)}, **options)


class Supervisor:
    """One deployment, from the start of the first server to the end of the last one."""

    def __init__(self, folder: Path, settings: Settings, signals: Signals, *, port: int, logs_in_files: bool) -> None:
        self.url = base_url(settings.host, port)
        self._folder = folder
        self._settings = settings
        self._signals = signals
        self._port = port
        self._servers = Servers(folder)
        self._family = ProcessGroup(signals)
        self._metrics = folder / "metrics"
        self._logs = folder / "log" if logs_in_files else None
        self._noted: Deployment | None = None
        self._ending = contextlib.ExitStack()
        worker_holder, self._worker_port = reserve(settings.host, settings.worker_port, option="HOURGLASS_WORKER_PORT")
        self._ending.enter_context(contextlib.closing(worker_holder))

    def start(self) -> None:
        for server in self._servers.all:
            say(f"starting {server.title} in {server.folder}")
            server.start()
        export(self._servers.variables())
        settings = load_settings()
        with translate_connection_errors("PostgreSQL", "DATABASE_URL"):
            upgrade(settings.database_url.get_secret_value())
        asyncio.run(preflight(settings, role=ServiceRole.API, waits=False))
        self._ending.enter_context(metrics_folder(self._metrics))  # removes the counts of dead processes
        if self._logs is not None:
            self._logs.mkdir(exist_ok=True)
        say(f"starting {self._settings.workers} API processes and the worker")
        say(f"worker: {base_url(self._settings.host, self._worker_port)} (health, metrics)")
        for number in range(1, self._settings.workers + 1):
            self._family.add(self._child(f"api {number}", "api"))
        self._family.add(self._child("worker", "worker"))
        self._note()

    def wait_until_ready(self) -> bool:
        """Wait for the first good answer. Returns False on a request to end.

        Raises:
            CommandError: a process exits repeatedly, or the deployment is not ready in time.
        """
        deadline = time.monotonic() + READY_SECONDS
        while not self._signals.requests:
            self._replace_the_dead()
            if self._all_listen() and is_ready(self._settings.host, self._port):
                return True
            for child in self._family:
                if child.failures >= HOPELESS_FAILURES:
                    raise CommandError(f"{child.name} does not start{_log_tail(child)}")
            if time.monotonic() > deadline:
                raise CommandError(f"{self.url}/health/ready has no good answer after {READY_SECONDS:.0f} s")
            self._signals.wait(POLL_SECONDS)
        return False

    def _all_listen(self) -> bool:
        """Whether every API process is up. A good answer proves that for only one of them."""
        processes = [child.process for child in self._family if child.name.startswith("api")]
        return all(process is not None and listens(process.pid, self._port) for process in processes)

    def start_demo(self) -> None:
        arguments = ["demo", "--data-dir", str(self._folder)]
        self._family.add(
            ManagedProcess(name="demo", arguments=arguments, variables=self._environment(), is_restarted=False)
        )

    def watch(self) -> None:
        """Restart exited children until asked to end."""
        while not self._signals.requests:
            self._restart_servers()
            self._replace_the_dead()
            self._signals.wait(self._family.pause())

    def end(self) -> None:
        """End everything in order; a second request shortens it."""
        began = time.monotonic()
        pause = self._settings.drain_seconds
        if self._signals.requests:
            say("draining (repeat the signal to end at once)")
        names = [child.name for child in self._family]
        self._family.end(["demo"], deadline=began + DEMO_END_SECONDS)
        self._family.end([name for name in names if name.startswith("api")], deadline=began + pause + API_END_SECONDS)
        self._family.end(["worker"], deadline=began + pause + WORKER_END_SECONDS)
        for server in reversed(self._servers.all):
            patience = max(1.0, began + pause + END_SECONDS - time.monotonic())
            server.stop(seconds=patience if self._signals.requests <= 1 else 0.0)
        self._ending.close()
        say(f"ended in {time.monotonic() - began:.1f} s")

    def _variables(self) -> dict[str, str]:
        """The variables of this deployment, for its processes and for other commands."""
        return {
            **self._servers.variables(),
            "HOURGLASS_HOST": self._settings.host,
            "HOURGLASS_PORT": str(self._port),
            "HOURGLASS_WORKERS": str(self._settings.workers),
            "HOURGLASS_WORKER_PORT": str(self._worker_port),
        }

    def _environment(self) -> dict[str, str]:
        """The environment of the children: the same, and variables that only they share."""
        return {
            **environment(),
            **self._variables(),
            "HOURGLASS_METRICS_DIR": str(self._metrics),
            "HOURGLASS_SHUTDOWN_SECONDS": str(min(self._settings.shutdown_seconds, SHUTDOWN_SECONDS)),
            "HOURGLASS_LOG_FORMAT": self._settings.log_format or ("console" if sys.stderr.isatty() else "json"),
        }

    def _child(self, name: str, *arguments: str) -> ManagedProcess:
        log = self._logs / f"{name.replace(' ', '-')}.log" if self._logs is not None else None
        return ManagedProcess(name=name, arguments=arguments, variables=self._environment(), log=log)

    def _note(self) -> None:
        """Write the description for other commands whenever it has changed."""
        processes = {child.name: child.process.pid for child in self._family if child.process is not None}
        processes |= {server.title: server.pid for server in self._servers.all if server.running}
        now = Deployment(api_url=self.url, supervisor=os.getpid(), processes=processes, variables=self._variables())
        if now != self._noted:
            write(self._folder, now)
            self._noted = now

    def _replace_the_dead(self) -> None:
        for child, pid in self._family.restart_exited():
            say(f"{child.name} ended{'; starting another' if child.is_restarted else ''}")
            drop_metrics(self._metrics, pid)
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


def _log_tail(child: ManagedProcess) -> str:
    if child.log is None:
        return "; see its messages above"
    lines = child.log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return f": {_reason_in(lines[-1])} (log: {child.log})" if lines else ""


def _reason_in(line: str) -> str:
    """The reason of a failed start, from the last log line."""
    with contextlib.suppress(ValueError, AttributeError):
        return str(json.loads(line).get("reason") or line)
    return line.strip()


def say(line: str) -> None:
    """Print a message for the caller; as a JSON object if JSON logs are configured."""
    if is_service():
        line = json.dumps({"event": line, "level": "info", "timestamp": utc(now_ms()).isoformat()})
    with contextlib.suppress(OSError):  # the terminal may be gone; an orderly end matters more
        print(line, flush=True)
