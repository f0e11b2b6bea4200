"""Partitions of usage, made ahead of time: sessions by the week, balances by the month.

Weeks begin on Mondays and months on their first, at 00:00 UTC. What a table has is read from the catalogue and only
gaps are filled: where partitions had another length before, the new ones begin where the last of those ends.

Nobody who reads or writes usage waits. A partition is made as a table of its own and attached then, under a lock that
only those exclude each other by who make or drop partitions.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

import structlog
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.offline import uncovered
from app.domain.viewing_day import DAY_MS, day_number_of
from app.errors import DatabaseUnavailable
from app.postgres_store.access import transaction
from app.timestamps import utc

log = structlog.get_logger(__name__)
_CHECK_VIOLATION, _NO_PRIVILEGE = "23514", "42501"
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
    """An attached partition. ``is_leaving`` is whether its detaching has begun."""

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
    for usage in (SESSIONS, BALANCES):
        made += await _make_periods(engine, usage, periods(usage.period_of, first, last))
    return made


class PartitionMissing(Exception):
    """A row lies in a period for which there is no partition; nothing was written."""


def is_partition_missing(error: DBAPIError) -> bool:
    """Whether PostgreSQL refused a row for want of a partition. A check that fails has a name, this has none."""
    refusal = getattr(error.orig, "__cause__", None) or error.orig
    is_check = getattr(refusal, "sqlstate", None) == _CHECK_VIOLATION
    return is_check and getattr(refusal, "constraint_name", None) is None


async def make_partitions_for(engine: AsyncEngine, usage: Partitioned, days: Collection[date]) -> list[str]:
    """Make the missing partitions that some days lie in, and no others; answers their names.

    For unexpected rows: a clock leapt, or the worker was away for weeks.

    Raises:
        DatabaseUnavailable: none was made.
    """
    wanted = sorted({period for day in days for period in periods(usage.period_of, day, day)})
    try:
        made = await _make_periods(engine, usage, wanted)
    except DBAPIError as error:
        if getattr(error.orig, "sqlstate", None) != _NO_PRIVILEGE:
            raise
        log.error("partition_missing", table=usage.table, reason="this user may not make one; the worker must")  # noqa: TRY400
        raise DatabaseUnavailable from error
    if made:
        log.warning("partitions_made_on_the_spot", names=made)
    return made


async def _make_periods(engine: AsyncEngine, usage: Partitioned, wanted: Iterable[Range]) -> list[str]:
    """Make what no partition covers of some ranges, in one transaction; answers the names."""
    async with transaction(engine) as database:
        await database.execute(text(f"LOCK TABLE ONLY {usage.table} IN SHARE UPDATE EXCLUSIVE MODE"))
        taken = [(known.first_ms, known.until_ms) for known in await attached(database, usage)]
        return [await _make(database, usage, *bounds_ms) for bounds_ms in gaps(wanted, taken)]


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
    ordered = sorted(taken)
    return [free for each in wanted for free in uncovered(each, ordered)]


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
