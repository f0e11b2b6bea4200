"""How adapters reach the database: a question, a connection or a transaction, and one name for "it is away"."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from uuid import UUID

from asyncpg import InterfaceError, PostgresError, Record
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import DatabaseUnavailable, RowsLocked

_AWAY = ("08", "53", "57", "40")
"""SQLSTATE classes: connection lost, resources exhausted, shutdown or timeout, conflict with another transaction."""
_PASSING = ("08", "57P01", "40001", "40P01")
_LOCK_TIMEOUT = "55P03"


class Query:
    """A statement that only reads, for those who are asked often: the driver is asked directly.

    What SQLAlchemy does around a statement costs three times as much processor time as the statement. Its pool stays,
    and its way to name values (``:name``); their types PostgreSQL infers from the statement.
    """

    def __init__(self, statement: str) -> None:
        compiled = text(statement).compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call]
        self._statement = str(compiled)
        self._names = compiled.positiontup or ()

    async def rows(self, engine: AsyncEngine, **values: object) -> list[Record]:
        """What the statement finds. Asked once more on another connection when the first turns out to be broken.

        Raises:
            DatabaseUnavailable: as for ``connection``.
        """
        arguments = [values[name] for name in self._names]
        with unavailability_named():
            try:
                return await self._asked(engine, arguments)
            except _Broken:
                return await self._asked(engine, arguments)

    async def _asked(self, engine: AsyncEngine, arguments: Sequence[object]) -> list[Record]:
        opened = await engine.connect()
        try:
            driver = (await opened.get_raw_connection()).driver_connection
            rows: list[Record] = await driver.fetch(self._statement, *arguments)
        finally:
            await opened.close()
        return rows


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
    try:
        return str(UUID(value)) == value
    except ValueError:
        return False
