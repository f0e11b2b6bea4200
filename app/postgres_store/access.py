"""How adapters reach the database: a connection or a transaction, and one name for "it is away"."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import DatabaseUnavailable

_AWAY = ("08", "53", "57", "40")
"""SQLSTATE classes: connection lost, resources exhausted, shutdown or timeout, conflict with another transaction."""
_LOCK_TIMEOUT = "55P03"


@asynccontextmanager
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for reading; whatever it began is rolled back.

    Raises:
        DatabaseUnavailable: no connection in time, or it broke, or a statement or lock timed out.
    """
    with _unavailability_named():
        async with engine.connect() as opened:
            yield opened


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction, committed at the end of the block and rolled back when it raises.

    Raises:
        DatabaseUnavailable: as for ``connection``; nothing was written, unless the connection broke during the commit.
    """
    with _unavailability_named():
        async with engine.begin() as opened:
            yield opened


@contextmanager
def _unavailability_named() -> Iterator[None]:
    try:
        yield
    except DBAPIError as error:
        if not _is_away(error):
            raise
        raise DatabaseUnavailable from error
    except (PoolTimeout, OSError) as error:  # asyncpg lets the socket's errors and timeouts through
        raise DatabaseUnavailable from error


def _is_away(error: DBAPIError) -> bool:
    if error.connection_invalidated:
        return True
    state = str(getattr(error.orig, "sqlstate", None) or "")
    return state.startswith(_AWAY) or state == _LOCK_TIMEOUT


def is_uuid(value: str) -> bool:
    """Only the spelling we issue; PostgreSQL would accept others and answer with this one."""
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False
