"""A lock that one process holds for as long as its connection lives."""

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.postgres_store.access import unavailability_named

FLUSH_LOCK = 0x486F7572_676C6173  # "Hourglas"
_TAKE = text("SELECT pg_try_advisory_lock(:key)")
_PROBE = text("SELECT 1")


class AdvisoryLock:
    """Held on a connection of its own. When that is cut, PostgreSQL frees the lock, and the next look takes it anew."""

    def __init__(self, engine: AsyncEngine, key: int = FLUSH_LOCK) -> None:
        self._engine = engine
        self._key = key
        self._connection: AsyncConnection | None = None

    async def is_ours(self) -> bool:
        """Whether this process holds the lock, taking it when it is free. Raises DatabaseUnavailable."""
        if self._connection is not None and await self._is_alive(self._connection):
            return True
        self._connection = None
        with unavailability_named():
            opened = await (await self._engine.connect()).execution_options(isolation_level="AUTOCOMMIT")
            if (await opened.execute(_TAKE, {"key": self._key})).scalar_one():
                self._connection = opened
                return True
            await opened.close()
            return False

    async def release(self) -> None:
        if self._connection is not None:
            connection, self._connection = self._connection, None
            await connection.invalidate()  # closes it, and with it frees the lock
            await connection.close()

    async def _is_alive(self, connection: AsyncConnection) -> bool:
        try:
            await connection.execute(_PROBE)
        except (DBAPIError, OSError):
            await connection.invalidate()
            await connection.close()
            return False
        return True
