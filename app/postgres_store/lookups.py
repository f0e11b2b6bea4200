"""Small facts that processes remember: which titles are educational, which profiles a household has."""

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres_store.access import connection, is_uuid

_TITLES = "SELECT id, is_educational FROM titles WHERE id = ANY($1::text[])"
_HOUSEHOLDS = "SELECT account_id::text, array_agg(id::text) FROM profiles WHERE account_id = ANY($1::uuid[]) GROUP BY 1"


class PostgresLookups:
    """One statement for any number of keys."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def educational(self, title_ids: Sequence[str]) -> list[bool | None]:
        """Whether each title is educational, None when unknown. Raises DatabaseUnavailable."""
        async with connection(self._engine) as database:
            rows: Iterable[Any] = await database.exec_driver_sql(_TITLES, (list(title_ids),))
            found: dict[str, bool] = {row[0]: row[1] for row in rows}
        return [found.get(title_id) for title_id in title_ids]

    async def profiles(self, account_ids: Sequence[str]) -> list[tuple[str, ...]]:
        """The profiles of each account. Raises DatabaseUnavailable."""
        async with connection(self._engine) as database:
            rows: Iterable[Any] = await database.exec_driver_sql(_HOUSEHOLDS, ([i for i in account_ids if is_uuid(i)],))
            found: dict[str, tuple[str, ...]] = {row[0]: tuple(row[1]) for row in rows}
        return [found.get(account_id, ()) for account_id in account_ids]
