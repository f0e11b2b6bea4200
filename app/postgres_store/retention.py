"""Rows that have been kept long enough: partitions of usage are dropped, everything else is deleted in small batches.

A partition leaves in two steps. ``DETACH … CONCURRENTLY`` waits for transactions that use the table without keeping
anybody else from it; what it leaves behind is a table of its own, which nobody else touches. Either step may be
interrupted, and the next run goes on from what it finds.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.viewing_day import DAY_MS, day_number_of
from app.instants import ms_of, utc
from app.postgres_store.access import connection, transaction
from app.postgres_store.partitions import BALANCES, SESSIONS, Partitioned, attached, literal_of

_PARTITIONED = {"sessions": SESSIONS, "balances": BALANCES}


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

_DETACHED = text("""
SELECT relname FROM pg_class
 WHERE relkind = 'r' AND NOT relispartition AND relnamespace = current_schema()::regnamespace AND relname ~ :pattern
 ORDER BY relname
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

    async def drop_partitions(self, kind: str, *, before: date) -> list[str]:
        """Drop the partitions of usage in which all is older than a day (UTC); answers the names of what is gone."""
        usage, before_ms = _PARTITIONED[kind], _ms_of_date(before)
        dropped: list[str] = []
        async with connection(self._engine) as database:
            for name in await _left_detached(database, usage, before_ms=before_ms):
                await database.execute(text(f"DROP TABLE IF EXISTS {name}"))
                dropped.append(name)
            for partition in await attached(database, usage):
                if partition.until_ms <= before_ms:
                    name, how = partition.name, "FINALIZE" if partition.is_leaving else "CONCURRENTLY"
                    await database.execute(text(f"ALTER TABLE {usage.table} DETACH PARTITION {name} {how}"))
                    await database.execute(text(f"DROP TABLE IF EXISTS {name}"))
                    dropped.append(name)
        return dropped

    async def oldest(self) -> Mapping[str, int | None]:
        """The instant (ms) of the oldest row of each kind; of usage, that at which its oldest partition begins.

        Settings that are in force may be of any age, so their history is left out.
        """
        async with connection(self._engine) as database:
            found = {kind: await _oldest_partition(database, usage) for kind, usage in _PARTITIONED.items()}
            for kind, aged in _AGED.items():
                if kind != "settings_history":
                    row = await database.execute(text(f"SELECT min({aged.age}) FROM {aged.table}"))  # noqa: S608
                    oldest = row.scalar_one()
                    found[kind] = None if oldest is None else aged.in_ms(oldest)
        return found


async def _left_detached(database: AsyncConnection, usage: Partitioned, *, before_ms: int) -> list[str]:
    """Partitions that somebody has detached but not dropped, and that hold nothing of so late an instant."""
    found = await database.execute(_DETACHED, {"pattern": f"^{usage.table}_[0-9_]+$"})
    return [name for name in found.scalars().all() if not await _has_rows(database, usage, name, from_ms=before_ms)]


async def _oldest_partition(database: AsyncConnection, usage: Partitioned) -> int | None:
    for partition in await attached(database, usage):
        if await _has_rows(database, usage, partition.name, from_ms=partition.first_ms):
            return partition.first_ms
    return None


async def _has_rows(database: AsyncConnection, usage: Partitioned, name: str, *, from_ms: int) -> bool:
    asked = text(f"SELECT EXISTS (SELECT FROM {name} WHERE {usage.key} >= '{literal_of(from_ms)}')")  # noqa: S608
    return bool((await database.execute(asked)).scalar_one())
