"""The engine: pools with limits, timeouts on every statement."""

import math
import time
from typing import Any
from urllib.parse import parse_qsl, urlencode, urlsplit

from asyncpg import Connection, InterfaceError, PostgresError
from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import ConnectionPoolEntry, NullPool

_TRUSTED_SECONDS = 1.0
_USED = "used_seconds"


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
        pgbouncer: PgBouncer in transaction mode stands in front: no prepared statements, no pool of our own.
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
        return create_async_engine(
            async_url(database_url), poolclass=NullPool, hide_parameters=True, connect_args=connect_args
        )
    engine = create_async_engine(
        async_url(database_url),
        hide_parameters=True,  # an error that is logged quotes no names
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout_seconds,
        pool_recycle=1800,
        connect_args=connect_args,
    )
    event.listen(engine.sync_engine, "checkout", _see_alive)
    event.listen(engine.sync_engine, "checkin", _note_use)
    return engine


def _see_alive(connection: Any, record: ConnectionPoolEntry, _proxy: object) -> None:  # noqa: ANN401  the driver's
    """See that a connection from the pool is alive; one that is not is replaced.

    One that was used a moment ago is not asked: had the server closed it, the event loop would know.

    So does ``pool_pre_ping``, but in three round trips: it begins a transaction for PgBouncer's sake.
    """
    if connection.driver_connection.is_closed():
        raise InvalidatePoolError
    if time.monotonic() - record.info.get(_USED, -math.inf) < _TRUSTED_SECONDS:
        return
    try:
        connection.run_async(_asked)
    except (OSError, TimeoutError, PostgresError, InterfaceError) as error:
        raise InvalidatePoolError from error


def _note_use(_connection: object, record: ConnectionPoolEntry) -> None:
    record.info[_USED] = time.monotonic()


async def _asked(connection: Connection) -> None:
    await connection.fetchrow(";")


async def warm(engine: AsyncEngine, connections: int) -> None:
    """Open the pool's connections, so that no request waits for one to be made."""
    opened = [await engine.connect() for _ in range(connections)]
    for connection in opened:
        await connection.close()
