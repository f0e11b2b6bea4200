"""The engine: pools with limits, timeouts on every statement."""

import math
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from asyncpg import Connection, InterfaceError, PostgresError
from sqlalchemy import event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool, QueuePool

from app.observability import metrics, tracing

_TRUSTED_SECONDS = 1.0
_USED = "used_seconds"
"""When a connection was last given back, on the monotonic clock."""


def async_url(database_url: str) -> str:
    """The same address for SQLAlchemy's asyncpg driver; a socket folder in ``?host=`` is kept."""
    parts = urlsplit(database_url)
    if parts.scheme not in {"postgresql", "postgres", "postgresql+asyncpg"}:
        raise ValueError("DATABASE_URL must begin with postgresql://")
    query = urlencode(parse_qsl(parts.query), safe="/")
    return f"postgresql+asyncpg://{parts.netloc}{parts.path}" + (f"?{query}" if query else "")


def create_engine(database_url: str, *, pool_size: int, timeout_seconds: float, pgbouncer: bool = False) -> AsyncEngine:
    """An engine whose connections cannot wait for ever.

    Args:
        database_url: ``postgresql://…``.
        pool_size: connections of this process; no overflow beyond them.
        timeout_seconds: for a connection from the pool and for each statement; a lock is waited for half as long.
        pgbouncer: whether PgBouncer in transaction mode is in front. Then there is no pool, and nothing is prepared.
    """
    timeout_ms = int(timeout_seconds * 1000)
    connect_args: dict[str, Any] = {
        "timeout": timeout_seconds,
        "command_timeout": timeout_seconds + 1,
        "server_settings": {
            "application_name": "hourglass",
            "statement_timeout": str(timeout_ms),
            "lock_timeout": str(timeout_ms // 2),
            "timezone": "UTC",
            "jit": "off",  # our statements are short; compiling them costs more than it saves
        },
    }
    if pgbouncer:
        connect_args["statement_cache_size"] = 0
        connect_args["prepared_statement_cache_size"] = 0
        del connect_args["server_settings"]
        return _measured(
            create_async_engine(
                async_url(database_url), poolclass=NullPool, hide_parameters=True, connect_args=connect_args
            )
        )
    engine = create_async_engine(
        async_url(database_url),
        hide_parameters=True,  # an error that is logged quotes no names
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        pool_recycle=1800,
        pool_use_lifo=True,  # the one used last need not be asked whether it lives
        connect_args=connect_args,
    )
    trust = ConnectionLiveness()
    event.listen(engine.sync_engine, "checkout", trust.see_alive)
    event.listen(engine.sync_engine, "checkin", trust.note_use)
    event.listen(engine.sync_engine, "invalidate", trust.note_cut)
    return _measured(engine)


def _measured(engine: AsyncEngine) -> AsyncEngine:
    """The same engine; its statements are timed and those that fail counted."""

    def begin(*arguments: Any) -> None:  # noqa: ANN401  connection, cursor, statement, values, context, whether many
        context, statement = arguments[4], arguments[2]
        context.began_seconds = time.perf_counter()
        name = f"SQL {statement.split(maxsplit=1)[0]}"
        context.span = tracing.begin_span(name, db__system__name="postgresql", db__query__text=statement)

    def end(*arguments: Any) -> None:  # noqa: ANN401  likewise
        context = arguments[4]
        metrics.SQL_SECONDS.observe(time.perf_counter() - context.began_seconds)
        if context.span is not None:
            context.span.end()

    def fail(failure: ExceptionContext) -> None:
        metrics.SQL_ERRORS.inc()
        span = getattr(failure.execution_context, "span", None)
        if span is not None:
            span.set_attribute("error.type", type(failure.original_exception).__name__)
            span.end()

    event.listen(engine.sync_engine, "before_cursor_execute", begin)
    event.listen(engine.sync_engine, "after_cursor_execute", end)
    event.listen(engine.sync_engine, "handle_error", fail)
    return engine


def pool_gauges(engine: AsyncEngine) -> Callable[[], None]:
    """Reads how many connections of the pool are in use, and how many there may be."""
    pool = engine.sync_engine.pool
    in_use, limit = metrics.SQL_CONNECTIONS.labels("in_use"), metrics.SQL_CONNECTIONS.labels("limit")

    def read() -> None:
        if isinstance(pool, QueuePool):  # with PgBouncer in front there is none
            in_use.set(pool.checkedout())
            limit.set(pool.size())

    return read


class ConnectionLiveness:
    """Checks that a connection from the pool is alive, and replaces one that is not.

    ``pool_pre_ping`` does the same in three round trips, because it begins a transaction for PgBouncer. A connection
    used a moment ago is not probed: the event loop has noticed if it was closed, unless that happened just now. Then
    the first failure marks all others.
    """

    def __init__(self) -> None:
        self._cut_seconds = -math.inf

    def see_alive(self, connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:  # noqa: ANN401  the driver's
        if connection.driver_connection.is_closed():
            raise InvalidatePoolError
        if record.info.get(_USED, -math.inf) > max(self._cut_seconds, time.monotonic() - _TRUSTED_SECONDS):
            return
        try:
            connection.run_async(_asked)
        except (OSError, TimeoutError, PostgresError, InterfaceError) as error:
            raise InvalidatePoolError from error

    def note_use(self, _connection: object, record: ConnectionPoolEntry) -> None:
        record.info[_USED] = time.monotonic()

    def note_cut(self, *_: object) -> None:
        self._cut_seconds = time.monotonic()


async def _asked(connection: Connection) -> None:
    await connection.fetchrow(";")


async def warm(engine: AsyncEngine, connections: int) -> None:
    """Open the pool's connections, so that no request waits for one to be made."""
    opened = [await engine.connect() for _ in range(connections)]
    for connection in opened:
        await connection.close()
