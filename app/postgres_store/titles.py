"""Titles of the catalogue."""

from collections.abc import Sequence

from sqlalchemy import select, text, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.title import Title, UploadCounts
from app.postgres_store.access import connection, transaction
from app.postgres_store.tables import titles
from app.timestamps import utc

# Sorted, so that two uploads take their row locks in the same order.
_UPSERT = text("""
WITH upserted AS (
     INSERT INTO titles AS t (id, name, is_educational, duration_seconds, updated_at)
     SELECT g.id, g.name, g.is_educational, g.duration_seconds, :at
       FROM unnest(CAST(:ids AS text[]), CAST(:names AS text[]), CAST(:educational AS boolean[]),
                   CAST(:durations AS integer[])) AS g (id, name, is_educational, duration_seconds)
      ORDER BY g.id
         ON CONFLICT (id) DO UPDATE
        SET name = excluded.name, is_educational = excluded.is_educational,
            duration_seconds = excluded.duration_seconds, updated_at = excluded.updated_at, removed_at = NULL
      WHERE (t.name, t.is_educational, t.duration_seconds, t.removed_at)
            IS DISTINCT FROM (excluded.name, excluded.is_educational, excluded.duration_seconds, NULL)
  RETURNING t.xmax = 0 AS is_new)
SELECT count(*) FILTER (WHERE is_new), count(*) FILTER (WHERE NOT is_new) FROM upserted
""")


class PostgresTitles:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def upsert(self, given: Sequence[Title], *, at_ms: int) -> UploadCounts:
        """Keep titles whose ids differ, in one statement; those that say nothing new are left alone."""
        columns = {
            "ids": [title.id for title in given],
            "names": [title.name for title in given],
            "educational": [title.is_educational for title in given],
            "durations": [title.duration_seconds for title in given],
        }
        async with transaction(self._engine) as database:
            created, updated = (await database.execute(_UPSERT, {**columns, "at": utc(at_ms)})).one()
        unchanged = len(given) - created - updated
        return UploadCounts(received=len(given), created=created, updated=updated, unchanged=unchanged)

    async def remove(self, title_id: str, *, at_ms: int) -> bool:
        """Take a title out of the catalogue; whether it ever was in it. History goes on to show its name."""
        async with transaction(self._engine) as database:
            known = select(titles.c.id).where(titles.c.id == title_id).with_for_update()
            if (await database.execute(known)).first() is None:
                return False
            removed = update(titles).where(titles.c.id == title_id, titles.c.removed_at.is_(None))
            await database.execute(removed.values(removed_at=utc(at_ms), updated_at=utc(at_ms)))
        return True

    async def page(self, *, after_id: str, limit: int) -> list[Title]:
        """Up to ``limit`` titles whose ids follow ``after_id``, ascending."""
        columns = (titles.c.id, titles.c.name, titles.c.is_educational, titles.c.duration_seconds)
        async with connection(self._engine) as database:
            found = await database.execute(
                select(*columns)
                .where(titles.c.id > after_id, titles.c.removed_at.is_(None))
                .order_by(titles.c.id)
                .limit(limit)
            )
            return [Title(**row) for row in found.mappings()]
