"""Rows that have been kept long enough: months of usage are dropped, everything else is deleted in small batches.

A month leaves in two steps. ``DETACH … CONCURRENTLY`` waits for transactions that use the table without keeping anybody
else from it; what it leaves behind is a table of its own, which nobody else touches. Either step may be interrupted,
and the next run goes on from what it finds.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.viewing_day import DAY_MS, day_number_of
from app.instants import ms_of, utc
from app.postgres_store.access import connection, transaction

_MONTHLY = {"sessions": "viewing_sessions", "balances": "viewing_time_balances"}
_MONTH = re.compile(r"_(\d{4})_(\d{2})$")


def _date(at_ms: int) -> date:
    return utc(at_ms).date()


def _ms_of_date(day: date) -> int:
    return day_number_of(day) * DAY_MS


@dataclass(frozen=True)
class _Aged:
    """Rows whose ``age`` tells how old they are, as it is stored and in ms; ``condition`` says which of them may go."""

    table: str
    age: str
    stored: Callable[[int], object] = utc
    in_ms: Callable[[Any], int] = ms_of
    condition: str = "true"


_AGED = {
    "grants": _Aged("time_grants", "granted_at"),
    "requests": _Aged("extra_time_requests", "requested_at"),
    "settings_history": _Aged(
        "viewing_time_config_history",
        "valid_from",
        # The settings that were in force then stay: days without a balance are judged by them.
        condition="EXISTS (SELECT FROM viewing_time_config_history n"
        " WHERE n.profile_id = t.profile_id AND n.version > t.version AND n.valid_from < :before)",
    ),
    "audit_log": _Aged("audit_log", "at"),
    "weekly_reports": _Aged("weekly_reports", "week_ending", _date, _ms_of_date),
    "offline_batches": _Aged("offline_batches", "synced_at"),
    "offline_intervals": _Aged("offline_intervals", "ends_ms", int, int),
    "parked_rows": _Aged("parked_rows", "parked_at"),
    "idempotency_keys": _Aged("idempotency_keys", "created_at"),
    "lockouts": _Aged("lockouts", "tried_ms[cardinality(tried_ms)]", int, int),
    "devices": _Aged("devices", "expires_at"),
    "tombstones": _Aged("erasure_tombstones", "erased_at"),
}

_PARTITIONS = text("""
SELECT c.relname, i.inhrelid IS NOT NULL AS is_attached, COALESCE(i.inhdetachpending, false) AS is_leaving
  FROM pg_class c
  LEFT JOIN pg_inherits i ON i.inhrelid = c.oid
 WHERE c.relkind = 'r' AND c.relnamespace = current_schema()::regnamespace AND c.relname LIKE :pattern
 ORDER BY c.relname
""")


class PostgresRetention:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def delete(self, kind: str, *, before_ms: int, most: int) -> int:
        """Delete at most so many rows of a kind, the oldest first; how many that were. Locked ones are left alone."""
        aged = _AGED[kind]
        statement = text(f"""
            DELETE FROM {aged.table}
             WHERE ctid = ANY(ARRAY(SELECT ctid FROM {aged.table} t
                                     WHERE {aged.age} < :before AND {aged.condition}
                                     ORDER BY {aged.age} LIMIT :most FOR UPDATE SKIP LOCKED))
        """)  # noqa: S608  names of our own
        async with transaction(self._engine) as database:
            return (await database.execute(statement, {"before": aged.stored(before_ms), "most": most})).rowcount

    async def drop_months(self, kind: str, *, before: date) -> list[str]:
        """Drop the months of usage that began before a month did; answers the names of what is gone."""
        parent = _MONTHLY[kind]
        dropped: list[str] = []
        async with connection(self._engine) as opened:
            database = await opened.execution_options(isolation_level="AUTOCOMMIT")
            for name, is_attached, is_leaving in await _partitions(database, parent):
                if _first_day(name) >= before:
                    continue
                if is_attached:
                    how = "FINALIZE" if is_leaving else "CONCURRENTLY"
                    await database.execute(text(f"ALTER TABLE {parent} DETACH PARTITION {name} {how}"))
                await database.execute(text(f"DROP TABLE IF EXISTS {name}"))
                dropped.append(name)
        return dropped

    async def oldest(self) -> Mapping[str, int | None]:
        """The instant (ms) of the oldest row of each kind; of usage, that at which its oldest month began.

        Settings that are in force may be of any age, so their history is left out.
        """
        async with connection(self._engine) as database:
            found = {kind: await _oldest_month(database, parent) for kind, parent in _MONTHLY.items()}
            for kind, aged in _AGED.items():
                if kind != "settings_history":
                    row = await database.execute(text(f"SELECT min({aged.age}) FROM {aged.table}"))  # noqa: S608
                    oldest = row.scalar_one()
                    found[kind] = None if oldest is None else aged.in_ms(oldest)
        return found


async def _partitions(database: AsyncConnection, parent: str) -> list[tuple[str, bool, bool]]:
    rows = await database.execute(_PARTITIONS, {"pattern": f"{parent}\\_%"})
    return [(row[0], row[1], row[2]) for row in rows if _MONTH.search(row[0])]


async def _oldest_month(database: AsyncConnection, parent: str) -> int | None:
    for name, is_attached, _ in await _partitions(database, parent):
        has_rows = await database.execute(text(f"SELECT EXISTS (SELECT FROM {name})"))  # noqa: S608
        if is_attached and has_rows.scalar_one():
            return _ms_of_date(_first_day(name))
    return None


def _first_day(name: str) -> date:
    found = _MONTH.search(name)
    if found is None:
        raise ValueError(f"{name} is no month of usage")
    return date(int(found[1]), int(found[2]), 1)
