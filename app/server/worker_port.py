"""The worker's own port: whether it lives, has started and does its work, and its metrics.

It is open before the servers are reached, so that an operator sees a worker that waits for one of them.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from typing import Any, Literal

import msgspec
import uvicorn

from app.domain.unflushed import Backlog
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.observability.worker_metrics import JobState, render_worker

_BUDGET_SECONDS = 1.0
_METRICS_TYPE = b"text/plain; version=0.0.4; charset=utf-8"
_OK, _NOT_FOUND, _NOT_ALLOWED, _NOT_READY = 200, 404, 405, 503

State = Literal["up", "degraded", "down"]
Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Probe = Callable[[], Awaitable[object]]


class JobReport(msgspec.Struct):
    """One job in the answer to a probe."""

    status: State
    last_success_age_seconds: float | None


class WorkerReadiness(msgspec.Struct):
    """``degraded`` while a server is away or a job is overdue: nothing is lost, but time waits in Redis."""

    status: State
    phase: Literal["starting", "working", "draining"]
    redis: State
    postgresql: State
    flush_lag_seconds: float | None
    jobs: dict[str, JobReport]


class WorkerPort:
    """An ASGI application on what the worker tells about itself.

    Attributes:
        phase: what the worker is doing.
        jobs: answers the state of each job.
        backlog: asks Redis what waits; None until it can be asked.
        ping_database: asks PostgreSQL for anything; likewise.
        holds_lock: answers whether this worker flushes; None until a cycle has told.
    """

    def __init__(self) -> None:
        self.phase: Literal["starting", "working", "draining"] = "starting"
        self.jobs: Callable[[], Mapping[str, JobState]] = dict
        self.backlog: Callable[[], Awaitable[Backlog]] | None = None
        self.ping_database: Probe | None = None
        self.holds_lock: Callable[[], bool | None] = lambda: None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI
        if scope["type"] != "http":
            return
        if scope["method"] not in {"GET", "HEAD"}:
            await _answer(send, _NOT_ALLOWED, b"", b"text/plain")
            return
        match scope["path"]:
            case "/health/live":
                await _answer(send, _OK, b'{"status":"up"}', b"application/json")
            case "/health/startup":
                readiness = await self.readiness()
                status = _NOT_READY if self.phase == "starting" else _OK
                await _answer(send, status, msgspec.json.encode(readiness), b"application/json")
            case "/health/ready":
                readiness = await self.readiness()
                status = _NOT_READY if readiness.status == "down" else _OK
                await _answer(send, status, msgspec.json.encode(readiness), b"application/json")
            case "/metrics":
                text = render_worker(self.jobs(), backlog=await self._backlog_now(), holds_lock=self.holds_lock())
                await _answer(send, _OK, text, _METRICS_TYPE)
            case _:
                await _answer(send, _NOT_FOUND, b"", b"text/plain")

    async def readiness(self) -> WorkerReadiness:
        """How the worker stands now; servers are asked, each for at most a second."""
        backlog, database = await asyncio.gather(self._backlog_now(), _state(self.ping_database))
        jobs = {
            name: JobReport(
                status="degraded" if state.is_overdue else "up",
                last_success_age_seconds=round(state.success_age_seconds, 3) if state.has_succeeded else None,
            )
            for name, state in self.jobs().items()
        }
        redis: State = "down" if backlog is None else "up"
        is_well = redis == database == "up" and all(job.status == "up" for job in jobs.values())
        return WorkerReadiness(
            status="down" if self.phase != "working" else "up" if is_well else "degraded",
            phase=self.phase,
            redis=redis,
            postgresql=database,
            flush_lag_seconds=None if backlog is None else backlog.lag_seconds,
            jobs=jobs,
        )

    async def _backlog_now(self) -> Backlog | None:
        if self.backlog is None:
            return None
        with contextlib.suppress(TimeoutError, CountersUnavailable):
            async with asyncio.timeout(_BUDGET_SECONDS):
                return await self.backlog()
        return None


async def _state(probe: Probe | None) -> State:
    if probe is None:
        return "down"
    with contextlib.suppress(TimeoutError, DatabaseUnavailable):
        async with asyncio.timeout(_BUDGET_SECONDS):
            await probe()
            return "up"
    return "down"


async def _answer(send: Send, status: int, body: bytes, media_type: bytes) -> None:
    headers = [(b"content-type", media_type), (b"cache-control", b"no-store"), (b"connection", b"close")]
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class _QuietServer(uvicorn.Server):
    """A server inside a process that handles signals itself."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextlib.asynccontextmanager
async def answering(port: WorkerPort, listener: socket.socket) -> AsyncIterator[None]:
    """Answer on a bound socket while the block runs."""
    config = uvicorn.Config(
        port,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=5,
        timeout_graceful_shutdown=1,
        limit_concurrency=50,
    )
    server = _QuietServer(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]), name="worker port")
    try:
        yield
    finally:
        server.should_exit = True
        await serving
