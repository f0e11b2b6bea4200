"""Reads the flushed usage of children, to compare it with Redis."""

from collections.abc import Collection

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.counters import Counters
from app.domain.day_usage import DayUsage
from app.postgres_store.access import connection, is_uuid

_KEPT = """
SELECT profile_id::text AS profile_id, day - DATE '1970-01-01' AS day_number,
       starts_ms, ends_ms, used_ms, educational_ms, overrun_ms
  FROM viewing_time_balances
 WHERE profile_id = ANY($1::uuid[]) AND day >= DATE '1970-01-01' + $2::int
"""

_PARKED = "SELECT profile_id::text AS profile_id, counters::text AS counters FROM parked_rows"


class PostgresUsageScanner:
    """Flushed days of all children."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def kept(self, profile_ids: Collection[str], *, since_day: int) -> list[DayUsage]:
        """The days of these profiles from a day number on. Raises DatabaseUnavailable."""
        ids = [profile_id for profile_id in profile_ids if is_uuid(profile_id)]
        async with connection(self._engine) as database:
            rows = await database.exec_driver_sql(_KEPT, (ids, since_day))
            return [DayUsage(**row) for row in rows.mappings()]

    async def parked(self) -> list[DayUsage]:
        """The usage in dead letters. Raises DatabaseUnavailable."""
        async with connection(self._engine) as database:
            rows = await database.exec_driver_sql(_PARKED)
            return [
                DayUsage.of(row["profile_id"], msgspec.json.decode(row["counters"], type=Counters))
                for row in rows.mappings()
            ]
