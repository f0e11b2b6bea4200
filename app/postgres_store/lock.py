"""Advisory locks of PostgreSQL."""

import asyncio

from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.postgres_store.access import translate_errors

FLUSH_LOCK = 0x486F7572_676C6173  # "Hourglas"
DELIVERY_LOCK = 0x576562686F6F6B73  # "Webhooks"
_ERASURE_LOCK = 0x45726173_75726531  # "Erasure1"
_AMONG_WRITERS = text(f"SELECT pg_advisory_xact_lock_shared({_ERASURE_LOCK})")
_WITHOUT_WRITERS = text(f"SELECT pg_advisory_xact_lock({_ERASURE_LOCK})")
_TAKE = text("SELECT pg_try_advisory_lock(:key)")
_PROBE = text("SELECT 1")


async def hold_off_erasures(database: AsyncConnection) -> None:
    """Until this transaction ends no erasure removes rows; statements that follow see every earlier tombstone.

    Usage has no row of its owner to hold on to. Without this, a row could be written beside an erasure that does not
    see it, by a statement that does not see the tombstone.
    """
    await database.execute(_AMONG_WRITERS)


async def hold_off_writers(database: AsyncConnection) -> None:
    """Wait for those who write usage; those who come later wait for the end of this transaction."""
    await database.execute(_WITHOUT_WRITERS)


class AdvisoryLock:
    """A lock that one process holds as long as its connection lives.

    It has a connection of its own. If that is cut, PostgreSQL frees the lock, and the next check takes it again.
    """

    def __init__(self, engine: AsyncEngine, key: int = FLUSH_LOCK) -> None:
        self._engine = engine
        self._key = key
        self._connection: AsyncConnection | None = None
        self._asking = asyncio.Lock()

    async def is_ours(self) -> bool:
        """Whether this process holds the lock, taking it when it is free. Raises DatabaseUnavailable."""
        async with self._asking:  # two jobs that ask at once share a connection, which serves one at a time
            if self._connection is not None and await self._is_alive(self._connection):
                return True
            self._connection = None
            with translate_errors():
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
