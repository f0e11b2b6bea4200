"""Checkpoints in PostgreSQL, written in the transaction of the flushed rows."""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.checkpoint import Checkpoint
from app.postgres_store.access import connection, transaction

_READ = text("SELECT bucket, watermark, generation FROM flush_state ORDER BY bucket")
_LOCK = text("SELECT bucket, watermark, generation FROM flush_state ORDER BY bucket FOR UPDATE")
_SETTLE = """
UPDATE flush_state t SET watermark = n.watermark, generation = n.generation
  FROM unnest($1::int[], $2::bigint[], $3::int[]) AS n(bucket, watermark, generation)
 WHERE t.bucket = n.bucket AND (t.watermark, t.generation) IS DISTINCT FROM (n.watermark, n.generation)
"""
_NOTE = """
INSERT INTO flush_state AS t (bucket, watermark, generation)
SELECT * FROM unnest($1::int[], $2::bigint[], $3::int[]) ORDER BY 1
    ON CONFLICT (bucket) DO UPDATE
   SET watermark = GREATEST(t.watermark, excluded.watermark), generation = GREATEST(t.generation, excluded.generation)
"""


class PostgresCheckpoints:
    """Every call may raise DatabaseUnavailable. A bucket of which nothing was ever flushed has no row."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self, buckets: int) -> list[Checkpoint]:
        async with connection(self._engine) as database:
            return await _marks(database, _READ, buckets)

    async def settle(
        self, buckets: int, settling: Callable[[Sequence[Checkpoint]], Awaitable[Sequence[Checkpoint]]]
    ) -> list[Checkpoint]:
        """Decide on all checkpoints under a lock, and store the decision for buckets with flushed rows."""
        async with transaction(self._engine) as database:
            settled = list(await settling(await _marks(database, _LOCK, buckets)))
            await database.exec_driver_sql(_SETTLE, _columns(dict(enumerate(settled))))
        return settled


async def note(database: AsyncConnection, marks: Mapping[int, Checkpoint]) -> None:
    """Write checkpoints by bucket, in the transaction that writes their rows."""
    if not marks:
        return
    await database.exec_driver_sql(_NOTE, _columns(marks))


async def _marks(database: AsyncConnection, statement: TextClause, buckets: int) -> list[Checkpoint]:
    rows = (await database.execute(statement)).mappings()
    found = {row["bucket"]: Checkpoint(row["watermark"], row["generation"]) for row in rows}
    return [found.get(bucket, Checkpoint()) for bucket in range(buckets)]


def _columns(marks: Mapping[int, Checkpoint]) -> tuple[list[int], list[int], list[int]]:
    held = marks.values()
    return list(marks), [mark.watermark for mark in held], [mark.generation for mark in held]
