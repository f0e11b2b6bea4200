"""What PostgreSQL keeps of anybody's usage, for whoever compares it. Reads only."""

from collections.abc import Collection, Iterable
from typing import Any

import msgspec
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.accounting import Live
from app.domain.tally import Tally
from app.postgres_store.access import connection, is_uuid

_KEPT = """
SELECT profile_id::text, day - DATE '1970-01-01', starts_ms, ends_ms, used_ms, educational_ms, overrun_ms
  FROM viewing_time_balances
 WHERE profile_id = ANY($1::uuid[]) AND day >= DATE '1970-01-01' + $2::int
"""

_PARKED = "SELECT profile_id::text, counters::text FROM parked_rows"


class PostgresCensus:
    """Flushed days of all children."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def kept(self, profile_ids: Collection[str], *, since_day: int) -> list[Tally]:
        """The days of these profiles from a day number on. Raises DatabaseUnavailable."""
        ids = [profile_id for profile_id in profile_ids if is_uuid(profile_id)]
        async with connection(self._engine) as database:
            rows: Iterable[Any] = await database.exec_driver_sql(_KEPT, (ids, since_day))
            return [Tally(*row) for row in rows]

    async def parked(self) -> list[Tally]:
        """Rows set aside. Raises DatabaseUnavailable."""
        async with connection(self._engine) as database:
            rows: Iterable[Any] = await database.exec_driver_sql(_PARKED)
            return [Tally.of(row[0], msgspec.json.decode(row[1], type=Live)) for row in rows]
