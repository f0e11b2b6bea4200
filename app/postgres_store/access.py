"""How adapters reach the database: a question, a connection or a transaction, and one name for "it is away"."""

import re
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from asyncpg import Connection, InterfaceError, PostgresError, Record
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.errors import DatabaseUnavailable, RowsLocked

_AWAY = ("08", "53", "57", "40")
"""SQLSTATE classes: connection lost, resources exhausted, shutdown or timeout, conflict with another transaction."""
_CUT = ("08", "57P01")
_CONFLICT = ("40001", "40P01")
_LOCK_TIMEOUT = "55P03"
_UUID = re.compile("[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_CLOSED = "connection is closed"
"""The driver's word for it, without a SQLSTATE."""


class Query:
    """A statement that only reads, for those who are asked often: the driver is asked directly.

    What SQLAlchemy does around a statement costs three times as much processor time as the statement. Its pool stays,
    and its way to name values (``:name``); their types PostgreSQL infers from the statement.
    """

    def __init__(self, statement: str) -> None:
        compiled = text(statement).compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call]
        self.statement = str(compiled)
        self._names = compiled.positiontup or ()

    async def rows(self, engine: AsyncEngine, **values: object) -> list[Record]:
        """What the statement finds. Asked on another connection when the first one turns out to be broken.

        Raises:
            DatabaseUnavailable: as for ``connection``.
        """
        arguments = [values[name] for name in self._names]
        try:
            return await self._asked(engine, arguments)
        except DatabaseUnavailable as error:
            if not is_passing(error):
                raise
        return await self._asked(engine, arguments)

    async def _asked(self, engine: AsyncEngine, arguments: Sequence[object]) -> list[Record]:
        with unavailability_named():
            opened = await engine.connect()
            try:
                driver: Connection[Record] | None = (await opened.get_raw_connection()).driver_connection
                assert driver is not None  # noqa: S101  it has just been opened
                return await driver.fetch(self.statement, *arguments)
            except (PostgresError, InterfaceError, OSError) as error:
                if _is_cut(error):
                    await opened.invalidate(error)
                raise
            finally:
                await opened.close()


@asynccontextmanager
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for reading. Each statement stands for itself: a transaction would cost two more round trips.

    Raises:
        DatabaseUnavailable: no connection in time, or it broke, or a statement or lock timed out.
    """
    with unavailability_named():
        opened = await engine.connect()
        try:
            yield await opened.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            await opened.close()  # leaving it to ``async with`` would make a task of it


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
    except (DBAPIError, PostgresError, InterfaceError) as error:
        if _state(error) == _LOCK_TIMEOUT:
            raise RowsLocked from error
        if not _is_away(error):
            raise
        raise DatabaseUnavailable from error
    except (PoolTimeout, OSError) as error:  # asyncpg lets the socket's errors and timeouts through
        raise DatabaseUnavailable from error


def _is_away(error: Exception) -> bool:
    return _is_cut(error) or _state(error).startswith(_AWAY)


def _is_cut(error: BaseException | None) -> bool:
    """Whether the connection is no more: as SQLAlchemy tells it, and as the driver does."""
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    is_closed = isinstance(error, ConnectionError) or (isinstance(error, InterfaceError) and _CLOSED in str(error))
    return is_closed or _state(error).startswith(_CUT)


def is_passing(error: DatabaseUnavailable) -> bool:
    """Whether the whole transaction, tried again at once, may succeed: it met another, or its connection was cut."""
    cause = error.__cause__
    return _is_cut(cause) or _state(cause).startswith(_CONFLICT)


def _state(error: BaseException | None) -> str:
    told = error.orig if isinstance(error, DBAPIError) else error
    return str(getattr(told, "sqlstate", None) or "")


def is_uuid(value: str) -> bool:
    """Only the spelling we issue; PostgreSQL would accept others and answer with this one."""
    return _UUID.fullmatch(value) is not None
