"""API processes: a single one, or several that share a port."""

import asyncio
import contextlib
import resource
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import structlog
import uvicorn
import uvloop

from app.deployment.errors import CommandError
from app.deployment.listening import base_url, reserve, shared
from app.deployment.preflight import ServiceRole, preflight
from app.deployment.processes import ManagedProcess, ProcessGroup, Signals, drop_metrics
from app.kit.garbage import collect_rarely
from app.settings.settings import Settings, environment

if TYPE_CHECKING:
    from app.main import Dispatcher

log = structlog.get_logger(__name__)
DRAIN_TICK_SECONDS = 0.05
RESERVED_DESCRIPTORS = 200
"""Descriptors reserved for PostgreSQL, Redis and files."""
KEEP_ALIVE_SECONDS = 75
"""Longer than the keep-alive of proxies, so that no proxy sends a request into a closing connection."""


class DrainingServer(uvicorn.Server):
    """A uvicorn server that drains after SIGTERM.

    First it answers and is not ready, then it closes its port, then it exits. It closes idle connections and informs
    the application, so that event streams end.

    Args:
        app: the application.
        config: configuration of uvicorn.
        arrival_seconds: deadline for a request to arrive.
        drain_seconds: time after SIGTERM before the port closes. Each answer then asks the client to
            connect anew, which takes keep-alive clients to another process.
    """

    def __init__(
        self, app: "Dispatcher", config: uvicorn.Config, *, arrival_seconds: float, drain_seconds: float = 0.0
    ) -> None:
        super().__init__(config)
        self._app = app
        self._drain_seconds = drain_seconds
        from app.server.fast_path import Deadlines, FastPathProtocol  # noqa: PLC0415  only now: the supervising process does without

        self._connection = FastPathProtocol
        self._deadlines = Deadlines(
            self.server_state.connections,
            keep_alive_seconds=config.timeout_keep_alive,
            arrival_seconds=arrival_seconds,
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        collect_rarely()

    async def on_tick(self, counter: int) -> bool:
        self._deadlines.tick(time.monotonic())
        is_over = await super().on_tick(counter)
        if self._connection.is_draining:
            self.server_state.default_headers = [*self.server_state.default_headers, (b"connection", b"close")]
        return is_over

    async def main_loop(self) -> None:
        await super().main_loop()
        if self._drain_seconds > 0 and not self.force_exit:
            await self._drain()

    async def _drain(self) -> None:
        """Answer without being ready until load balancers have noticed."""
        self._app.state.is_draining = True
        self._connection.is_draining = True
        log.info("draining", seconds=self._drain_seconds)
        until = time.monotonic() + self._drain_seconds
        while time.monotonic() < until and not self.force_exit:
            await self.on_tick(0)  # 0 makes uvicorn build its default headers again
            await asyncio.sleep(DRAIN_TICK_SECONDS)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = getattr(self._app.state, "draining", None)
        if draining is not None:
            draining.close()
        await super().shutdown(sockets)


def serve(settings: Settings, *, has_parent: bool = False) -> None:
    """Answer requests in this process until SIGTERM, then finish the running ones.

    Args:
        settings: settings of the deployment.
        has_parent: whether a supervisor manages the port and the metrics of several processes.

    Raises:
        CommandError: the installed uvicorn is not a version that the fast path extends.
    """
    _require_known_uvicorn()
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises the signal again after draining: success
        signal.signal(number, lambda _number, _frame: sys.exit(0))
    descriptors = allow_many_descriptors()
    if has_parent:
        listener = shared(settings.host, settings.port)
    else:
        listener, _ = reserve(settings.host, settings.port)
    with contextlib.closing(listener):
        uvloop.run(_serve(settings, listener, descriptors, has_parent=has_parent))


def _require_known_uvicorn() -> None:
    from app.server.uvicorn_version import missing  # noqa: PLC0415  the supervising process does without

    if lacking := missing():
        raise CommandError(
            f"uvicorn {uvicorn.__version__} is not one that this version extends (see pyproject.toml); "
            f"it lacks {', '.join(lacking)}"
        )


async def _serve(settings: Settings, listener: socket.socket, descriptors: int, *, has_parent: bool) -> None:
    await preflight(settings, role=ServiceRole.API)
    from app.main import create_app  # noqa: PLC0415  likewise
    from app.server.fast_path import FastPathProtocol  # noqa: PLC0415  likewise

    app = create_app(settings)
    FastPathProtocol.max_connections = max(1, descriptors - RESERVED_DESCRIPTORS)
    config = uvicorn.Config(
        app,
        http=FastPathProtocol,
        ws="none",
        lifespan="off",  # set up around the server, so that a failed start is logged in the own format
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=True,
        proxy_headers=False,  # no code asks for a client's address
        backlog=4096,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.shutdown_seconds),
    )
    server = DrainingServer(
        app, config, arrival_seconds=settings.body_timeout_seconds, drain_seconds=settings.drain_seconds
    )
    async with app.lifespan():
        if not has_parent:
            host, port = listener.getsockname()[:2]
            log.info("listening", url=base_url(host, port))
        await server.serve(sockets=[listener])


def allow_many_descriptors() -> int:
    """Raise the descriptor limit to its hard limit and return it.

    Shells start with 1,024, and each player needs one.
    """
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def supervise(settings: Settings) -> None:
    """Run several API processes on one port until SIGTERM.

    Raises:
        CommandError: the processes do not start.
    """
    holder, port = reserve(settings.host, settings.port)
    with contextlib.ExitStack() as ending, Signals() as signals:
        ending.enter_context(contextlib.closing(holder))
        if not _passes(settings, signals):
            return
        folder = ending.enter_context(metrics_folder(settings.metrics_dir))
        variables = {
            **environment(),
            "HOURGLASS_HOST": settings.host,
            "HOURGLASS_PORT": str(port),
            "HOURGLASS_METRICS_DIR": str(folder),
        }
        family = ProcessGroup(signals)
        for number in range(1, settings.workers + 1):
            family.add(ManagedProcess(name=f"api {number}", arguments=["api"], variables=variables))
        log.info("listening", url=base_url(settings.host, port))
        patience = settings.drain_seconds + settings.shutdown_seconds + 2
        try:
            while not signals.requests:
                for child, pid in family.restart_exited():
                    log.warning("process_restarted", process=child.name)
                    drop_metrics(folder, pid)
                    if family.cannot_start(child):
                        raise CommandError(f"{child.name} does not start; the line above gives the reason")
                signals.wait(family.pause())
        finally:
            family.end([child.name for child in family], deadline=time.monotonic() + patience)


def _passes(settings: Settings, signals: Signals) -> bool:
    """Check servers and schema once for all processes. Returns False on a request to end."""

    async def look() -> bool:
        looking = asyncio.create_task(preflight(settings, role=ServiceRole.API))
        while not looking.done():
            if signals.requests:
                looking.cancel()
                await asyncio.gather(looking, return_exceptions=True)
                return False
            await asyncio.wait([looking], timeout=0.1)
        await looking
        return True

    return asyncio.run(look())


@contextlib.contextmanager
def metrics_folder(given: Path | None) -> Iterator[Path]:
    """The empty folder for shared metrics: the configured one, or a temporary one."""
    if given is None:
        with tempfile.TemporaryDirectory(prefix="hourglass-metrics-") as made:
            yield Path(made)
        return
    given.mkdir(parents=True, exist_ok=True)
    for left_behind in given.glob("*.db"):
        left_behind.unlink(missing_ok=True)
    yield given
