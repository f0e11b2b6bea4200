"""Access to the database: queries, connections, transactions, and DatabaseUnavailable for a database that is away."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager

from asyncpg import Connection, InterfaceError, PostgresError, Record
from sqlalchemy import text
from sqlalchemy.dialects.postgresql.asyncpg import PGDialect_asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain import external_ids
from app.errors import DatabaseUnavailable, RowsLocked
from app.observability import metrics, tracing

_AWAY = ("08", "53", "57", "40", "28", "3D", "55000")
"""SQLSTATEs by their beginning: connection lost, resources exhausted, shutdown or timeout, conflict with another
transaction; and a server that takes no connection: login refused, no such database, database closed to connections."""
_CUT = ("08", "57P01")
_CONFLICT = ("40001", "40P01")
_LOCK_TIMEOUT = "55P03"
_CLOSED = "connection is closed"
"""The driver's word for it, without a SQLSTATE."""


class Query:
    """A frequent statement that only reads. It calls the driver directly.

    SQLAlchemy's work around a statement costs three times as much processor time as the statement. Its pool is still
    used, and its names for values (``:name``). PostgreSQL infers their types from the statement.
    """

    def __init__(self, statement: str) -> None:
        compiled = text(statement).compile(dialect=PGDialect_asyncpg())  # type: ignore[no-untyped-call]
        self.statement = str(compiled)
        self._names = compiled.positiontup or ()

    async def rows(self, engine: AsyncEngine, **values: object) -> list[Record]:
        """The rows of the statement. A broken connection is replaced once.

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
        with translate_errors():
            opened = await engine.connect()
            try:
                driver: Connection[Record] | None = (await opened.get_raw_connection()).driver_connection
                assert driver is not None  # noqa: S101  it has just been opened
                with (
                    metrics.SQL_SECONDS.time(),
                    tracing.span("SQL SELECT", db__system__name="postgresql", db__query__text=self.statement),
                ):
                    return await driver.fetch(self.statement, *arguments)
            except (PostgresError, InterfaceError, OSError) as error:
                metrics.SQL_ERRORS.inc()
                if _is_cut(error):
                    await opened.invalidate(error)
                raise
            finally:
                await opened.close()


@asynccontextmanager
async def connection(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A connection for reading. Each statement commits alone: a transaction would cost two more round trips.

    Raises:
        DatabaseUnavailable: no connection in time, or it broke, or a statement or lock timed out.
    """
    with translate_errors():
        opened = await engine.connect()
        try:
            yield await opened.execution_options(isolation_level="AUTOCOMMIT")
        finally:
            await opened.close()  # ``async with`` would create a task for this


@asynccontextmanager
async def transaction(engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
    """A transaction, committed at the end of the block and rolled back when it raises.

    Raises:
        DatabaseUnavailable: as for ``connection``; nothing was written, unless the connection broke during the commit.
        RowsLocked: nothing was written, because another transaction holds a row.
    """
    with translate_errors():
        async with engine.begin() as opened:
            yield opened


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn errors of a database that is away or busy into DatabaseUnavailable. Other errors pass."""
    try:
        yield
    except (DBAPIError, PostgresError, InterfaceError) as error:
        if _state(error) == _LOCK_TIMEOUT:
            raise RowsLocked from error
        if not _is_away(error):
            raise
        metrics.DATABASE_UNAVAILABLE.inc()
        raise DatabaseUnavailable from error
    except (PoolTimeout, OSError) as error:  # asyncpg lets the socket's errors and timeouts through
        metrics.DATABASE_UNAVAILABLE.inc()
        raise DatabaseUnavailable from error


def _is_away(error: Exception) -> bool:
    return _is_cut(error) or _state(error).startswith(_AWAY)


def _is_cut(error: BaseException | None) -> bool:
    """Whether the connection was lost, by SQLAlchemy's or by the driver's error."""
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
    """Whether a text is a UUID in the spelling that the service issues. PostgreSQL would accept other spellings too."""
    return external_ids.is_uuid(value)
