"""API processes: one that answers, or several that share a port."""

import contextlib
import gc
import resource
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

import uvicorn

from app.cli.address import base_url, reserve, shared
from app.cli.processes import Child, Family, Signals, bury_metrics
from app.settings import Settings, environment

if TYPE_CHECKING:
    from app.main import Front

RESERVED_DESCRIPTORS = 200
"""For PostgreSQL, Redis and files, whatever players do."""
KEEP_ALIVE_SECONDS = 75
"""Longer than proxies keep theirs, so that none sends a request into a connection just being closed."""

GC_THRESHOLDS = (20_000, 20, 100)
"""Hardly anything that a beat makes is part of a cycle: looking through the young ones so often finds nothing."""


class DrainingServer(uvicorn.Server):
    """Closes connections on which nothing moves, and tells the application of the end, so that event streams finish."""

    def __init__(self, app: "Front", config: uvicorn.Config, *, arrival_seconds: float) -> None:
        super().__init__(config)
        self._app = app
        from app.connections import Deadlines  # noqa: PLC0415  only now: the supervising process does without it

        self._deadlines = Deadlines(
            self.server_state.connections,
            keep_alive_seconds=config.timeout_keep_alive,
            arrival_seconds=arrival_seconds,
        )

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        gc.collect()
        gc.freeze()  # what is here now stays: nobody need look through it again
        gc.set_threshold(*GC_THRESHOLDS)

    async def on_tick(self, counter: int) -> bool:
        self._deadlines.tick(time.monotonic())
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        draining = getattr(self._app.state, "draining", None)
        if draining is not None:
            draining.close()
        await super().shutdown(sockets)


def serve(settings: Settings) -> None:
    """Answer requests in this process until SIGTERM; those in flight are answered first."""
    for number in (signal.SIGTERM, signal.SIGINT):  # uvicorn raises it once more when it has drained: success
        signal.signal(number, lambda _number, _frame: sys.exit(0))
    descriptors = allow_many_descriptors()
    listener = shared(settings.host, settings.port)
    from app.connections import Connection  # noqa: PLC0415  likewise
    from app.main import create_app  # noqa: PLC0415  likewise

    app = create_app(settings)
    Connection.most = max(1, descriptors - RESERVED_DESCRIPTORS)
    config = uvicorn.Config(
        app,
        loop="uvloop",  # on asyncio's own loop several processes lose TCP_NODELAY: 44 ms a request
        http=Connection,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        proxy_headers=False,  # nobody asks for the address of a client
        backlog=4096,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(settings.drain_seconds),
    )
    DrainingServer(app, config, arrival_seconds=settings.body_timeout_seconds).run(sockets=[listener])


def allow_many_descriptors() -> int:
    """Shells start programs with room for 1,024 descriptors; each player needs one. How many there may be now."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    return most


def supervise(settings: Settings) -> None:
    """Keep several API processes alive on one port until SIGTERM."""
    holder, port = reserve(settings.host, settings.port)
    variables = {**environment(), "HOURGLASS_HOST": settings.host, "HOURGLASS_PORT": str(port)}
    with contextlib.closing(holder), Signals() as signals:
        family = Family(signals)
        for number in range(1, settings.workers + 1):
            family.add(Child(name=f"api {number}", arguments=["api"], variables=variables))
        print(f"listening: {base_url(settings.host, port)}", flush=True)
        while not signals.requests:
            for child, pid in family.revive():
                print(f"{child.name} ended; starting another", file=sys.stderr, flush=True)
                bury_metrics(settings.metrics_dir, pid)
            signals.wait(family.pause())
        family.end([child.name for child in family], deadline=time.monotonic() + settings.drain_seconds + 2)
