"""Retention: old partitions of usage are dropped, and other old rows are deleted in small batches.

A partition is removed in two steps. ``DETACH … CONCURRENTLY`` waits for transactions that use the table and blocks no
others. The detached table is then dropped. Either step may be interrupted, and the next run continues from there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.viewing_day import DAY_MS, day_number_of
from app.postgres_store.access import connection, transaction
from app.postgres_store.feed import note_removed
from app.postgres_store.partitions import BALANCES, SESSIONS, Partitioned, attached, literal_of
from app.timestamps import ms_of, utc

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

    @property
    def delete(self) -> str:
        """The statement that deletes the oldest rows and answers how many."""
        return f"""
            DELETE FROM {self.table}
             WHERE ctid = ANY(ARRAY(SELECT ctid FROM {self.table} t
                                     WHERE {self.age} < :before AND {self.condition}
                                     ORDER BY {self.age} LIMIT :most FOR UPDATE SKIP LOCKED))
        """  # noqa: S608  names of our own


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
    "feed_open_sessions": _Aged("feed_open_sessions", "started_at"),
    "feed_open_days": _Aged("feed_open_days", "ends_ms", int, int),
    "feed_events": _Aged("feed_events", "written_at"),
    "weekly_reports": _Aged("weekly_reports", "week_ending", _date, _ms_of_date),
    "tamper_hints": _Aged("tamper_hints", "noted_at"),
    "offline_batches": _Aged("offline_batches", "synced_at"),
    "offline_intervals": _Aged("offline_intervals", "ends_ms", int, int),
    "parked_rows": _Aged("parked_rows", "parked_at"),
    "idempotency_keys": _Aged("idempotency_keys", "created_at"),
    "lockouts": _Aged(
        "lockouts",
        "COALESCE(tried_ms[cardinality(tried_ms)],"
        " (SELECT max(r.at_ms::bigint) FROM jsonb_each_text(reserved_ms) AS r(id, at_ms)))",
        int,
        int,
    ),
    "devices": _Aged("devices", "expires_at"),
    "sign_ins": _Aged("sign_ins", "expires_at"),
    "removed_titles": _Aged("titles", "removed_at"),
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
        values = {"before": aged.stored(before_ms), "most": most}
        async with transaction(self._engine) as database:
            if aged.table != "feed_events":
                return (await database.execute(text(aged.delete), values)).rowcount
            removed = (await database.execute(text(f"{aged.delete} RETURNING position"), values)).scalars().all()
            await note_removed(database, max((position for position in removed if position is not None), default=0))
            return len(removed)

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
    """Partitions that are detached but not dropped, and that hold nothing of so late an instant."""
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
