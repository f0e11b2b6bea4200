"""How adapters reach the database: a connection or a transaction, and one name for "it is away"."""

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import DatabaseUnavailable, RowsLocked

_AWAY = ("08", "53", "57", "40")
"""SQLSTATE classes: connection lost, resources exhausted, shutdown or timeout, conflict with another transaction."""
_PASSING = ("08", "57P01", "40001", "40P01")
_LOCK_TIMEOUT = "55P03"
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@asynccontextmanager
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for reading. Each statement stands for itself: a transaction would cost two more round trips.

    Raises:
        DatabaseUnavailable: no connection in time, or it broke, or a statement or lock timed out.
    """
    with unavailability_named():
        async with engine.connect() as opened:
            yield await opened.execution_options(isolation_level="AUTOCOMMIT")


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction, committed at the end of the block and rolled back when it raises.

    Raises:
        DatabaseUnavailable: as for ``connection``; nothing was written, unless the connection broke during the commit.
        RowsLocked: nothing was written, because somebody else holds a row.
    """
    with unavailability_named():
        async with engine.begin() as opened:
            yield opened


@contextmanager
def unavailability_named() -> Iterator[None]:
    """Turn a database that is away or busy into DatabaseUnavailable; a defect of ours stays what it is."""
    try:
        yield
    except DBAPIError as error:
        if _state(error) == _LOCK_TIMEOUT:
            raise RowsLocked from error
        if not _is_away(error):
            raise
        raise DatabaseUnavailable from error
    except (PoolTimeout, OSError) as error:  # asyncpg lets the socket's errors and timeouts through
        raise DatabaseUnavailable from error


def _is_away(error: DBAPIError) -> bool:
    return error.connection_invalidated or _state(error).startswith(_AWAY)


def is_passing(error: DatabaseUnavailable) -> bool:
    """Whether the whole transaction, tried again at once, may succeed: it met another, or its connection was cut."""
    cause = error.__cause__
    if isinstance(cause, DBAPIError):
        return cause.connection_invalidated or _state(cause).startswith(_PASSING)
    return isinstance(cause, ConnectionError)


def _state(error: DBAPIError) -> str:
    return str(getattr(error.orig, "sqlstate", None) or "")


def is_uuid(value: str) -> bool:
    """Only the spelling we issue; PostgreSQL would accept others and answer with this one."""
    return _UUID.fullmatch(value) is not None
