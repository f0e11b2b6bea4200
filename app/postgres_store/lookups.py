"""Reads small facts that processes cache: educational titles, title names, profiles of a household."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres_store.access import connection, is_uuid

_TITLES = "SELECT id, is_educational FROM titles WHERE id = ANY($1::text[]) AND removed_at IS NULL"
_NAMES = "SELECT id, name FROM titles WHERE id = ANY($1::text[])"
_HOUSEHOLDS = (
    "SELECT account_id::text AS account_id, array_agg(id::text) AS profile_ids"
    "  FROM profiles WHERE account_id = ANY($1::uuid[]) GROUP BY 1"
)


class PostgresLookups:
    """One statement for any number of keys."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def educational(self, title_ids: Sequence[str]) -> list[bool | None]:
        """Whether each title is educational, None when unknown. Raises DatabaseUnavailable."""
        async with connection(self._engine) as database:
            rows = await database.exec_driver_sql(_TITLES, (list(title_ids),))
            found: dict[str, bool] = {row["id"]: row["is_educational"] for row in rows.mappings()}
        return [found.get(title_id) for title_id in title_ids]

    async def title_names(self, title_ids: Sequence[str]) -> list[str | None]:
        """The name of each title, None when unknown. Raises DatabaseUnavailable."""
        async with connection(self._engine) as database:
            rows = await database.exec_driver_sql(_NAMES, (list(title_ids),))
            found: dict[str, str] = {row["id"]: row["name"] for row in rows.mappings()}
        return [found.get(title_id) for title_id in title_ids]

    async def profiles(self, account_ids: Sequence[str]) -> list[tuple[str, ...]]:
        """The profiles of each account. Raises DatabaseUnavailable."""
        ids = [account_id for account_id in account_ids if is_uuid(account_id)]
        async with connection(self._engine) as database:
            rows = await database.exec_driver_sql(_HOUSEHOLDS, (ids,))
            found = {row["account_id"]: tuple(row["profile_ids"]) for row in rows.mappings()}
        return [found.get(account_id, ()) for account_id in account_ids]
