"""Partitions of usage, made ahead of time: sessions by the week, balances by the month.

Weeks begin on Mondays and months on their first, at 00:00 UTC. What a table has is read from the catalogue and only
gaps are filled: where partitions had another length before, the new ones begin where the last of those ends.

Nobody who reads or writes usage waits. A partition is made as a table of its own and attached then, under a lock that
only those exclude each other by who make or drop partitions.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.viewing_day import DAY_MS, day_number_of
from app.instants import utc
from app.postgres_store.access import transaction

_DAYS_BACK = 60
_DAYS_AHEAD = 28
_BOUNDS = r"FROM \('(.+)'\) TO \('(.+)'\)"

Range = tuple[int, int]
"""From an instant, inclusive, to another, exclusive, in ms."""
PeriodOf = Callable[[date], tuple[date, date]]
"""The first day of the period that a day lies in, and of the next one."""


def week_of(day: date) -> tuple[date, date]:
    """The Monday on or before a day, and the next one."""
    first = day - timedelta(days=day.weekday())
    return first, first + timedelta(days=7)


def month_of(day: date) -> tuple[date, date]:
    """The first of a day's month, and of the next one."""
    first = day.replace(day=1)
    return first, (first + timedelta(days=31)).replace(day=1)


@dataclass(frozen=True, kw_only=True)
class Partitioned:
    """A table of usage.

    Attributes:
        key: the column that the table is partitioned by, and ``key_type`` its type.
        period_of: how long a partition is.
        fillfactor: rows are updated about once a minute while a child watches; room on each page keeps those updates
            off the index.
    """

    table: str
    key: str
    key_type: str
    period_of: PeriodOf
    fillfactor: int


SESSIONS = Partitioned(
    table="viewing_sessions", key="started_at", key_type="timestamptz", period_of=week_of, fillfactor=80
)
BALANCES = Partitioned(table="viewing_time_balances", key="day", key_type="date", period_of=month_of, fillfactor=70)


@dataclass(frozen=True, kw_only=True)
class Partition:
    """An attached partition; ``is_leaving`` when somebody has begun to detach it."""

    name: str
    first_ms: int
    until_ms: int
    is_leaving: bool


async def make_partitions(
    engine: AsyncEngine, *, at_ms: int, days_back: int = _DAYS_BACK, days_ahead: int = _DAYS_AHEAD
) -> list[str]:
    """Make the missing partitions around an instant; answers their names. Raises DatabaseUnavailable."""
    first, last = utc(at_ms - days_back * DAY_MS).date(), utc(at_ms + days_ahead * DAY_MS).date()
    made: list[str] = []
    async with transaction(engine) as database:
        for usage in (SESSIONS, BALANCES):
            await database.execute(text(f"LOCK TABLE ONLY {usage.table} IN SHARE UPDATE EXCLUSIVE MODE"))
            taken = [(known.first_ms, known.until_ms) for known in await attached(database, usage)]
            free = gaps(periods(usage.period_of, first, last), taken)
            made += [await _make(database, usage, *bounds_ms) for bounds_ms in free]
    return made


async def attached(database: AsyncConnection, usage: Partitioned) -> list[Partition]:
    """The partitions of a table, the oldest first."""
    rows = await database.execute(
        text(f"""
            SELECT name, is_leaving,
                   (extract(epoch FROM CAST(bounds[1] AS {usage.key_type})) * 1000)::bigint AS first_ms,
                   (extract(epoch FROM CAST(bounds[2] AS {usage.key_type})) * 1000)::bigint AS until_ms
              FROM (SELECT c.relname AS name, i.inhdetachpending AS is_leaving,
                           regexp_match(pg_get_expr(c.relpartbound, c.oid), :bounds) AS bounds
                      FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
                     WHERE i.inhparent = to_regclass(:parent)) p
             WHERE bounds IS NOT NULL
             ORDER BY first_ms
        """),  # noqa: S608  names of our own
        {"parent": usage.table, "bounds": _BOUNDS},
    )
    return [Partition(**row) for row in rows.mappings()]


def periods(period_of: PeriodOf, first: date, last: date) -> Iterator[Range]:
    """The ranges of all periods from that of one day to that of another, in order."""
    while first <= last:
        begins, first = period_of(first)
        yield day_number_of(begins) * DAY_MS, day_number_of(first) * DAY_MS


def gaps(wanted: Iterable[Range], taken: Iterable[Range]) -> list[Range]:
    """The parts of these ranges that no other has taken, in order. Neither may overlap among themselves."""
    ordered: Sequence[Range] = sorted(taken)
    free: list[Range] = []
    for first_ms, until_ms in wanted:
        begins_ms = first_ms
        for taken_from_ms, taken_until_ms in ordered:
            if taken_until_ms <= begins_ms or taken_from_ms >= until_ms:
                continue
            if taken_from_ms > begins_ms:
                free.append((begins_ms, taken_from_ms))
            begins_ms = taken_until_ms
        if begins_ms < until_ms:
            free.append((begins_ms, until_ms))
    return free


def literal_of(at_ms: int) -> str:
    """An instant as PostgreSQL reads it for either type of key."""
    return f"{utc(at_ms):%Y-%m-%d %H:%M:%S+00}"


async def _make(database: AsyncConnection, usage: Partitioned, first_ms: int, until_ms: int) -> str:
    """A partition for a range in which there is none; answers its name, which tells its first day."""
    name = f"{usage.table}_{utc(first_ms):%Y_%m_%d}"
    await database.execute(
        text(f"CREATE TABLE {name} (LIKE {usage.table} INCLUDING ALL) WITH (fillfactor = {usage.fillfactor})")
    )
    await database.execute(
        text(
            f"ALTER TABLE {usage.table} ATTACH PARTITION {name} "
            f"FOR VALUES FROM ('{literal_of(first_ms)}') TO ('{literal_of(until_ms)}')"
        )
    )
    return name
