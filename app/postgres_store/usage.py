"""Flushed usage: only the flush writes it, and it is read back if Redis lost its counters.

A row holds absolute values with a version, and only a newer version is written. Counters of a day only grow, so the
larger value wins. Writing a row again, late or out of order does no harm.

Rows are locked in the order of their keys, so that two writers cannot deadlock. The statements sort the rows: sorting
the array does not help, since the planner may hash it for the anti-join.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias

import msgspec
from asyncpg import Record
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.clock import Clock
from app.domain.checkpoint import NO_CHECKPOINTS, Checkpoint
from app.domain.counters import Counters, Share
from app.domain.policy import UNLIMITED
from app.domain.retention import RetentionPolicy
from app.domain.unflushed import RowRefused, Unflushed
from app.domain.viewing_day import DAY_MS, date_of, day_number_of
from app.errors import DatabaseUnavailable
from app.observability import metrics
from app.postgres_store.access import Query, connection, is_passing, is_uuid, transaction
from app.postgres_store.checkpoints import note
from app.postgres_store.feed import NO_FEED
from app.postgres_store.feed_usage import UsageFeed, UsageNews
from app.postgres_store.lock import hold_off_erasures
from app.postgres_store.partitions import (
    BALANCES,
    SESSIONS,
    PartitionMissing,
    is_partition_missing,
    make_partitions_for,
)
from app.postgres_store.weekly_reports import note_changes
from app.timestamps import utc

_RECOVERED_MS = 3 * 86_400_000
"""How far back counters are read: longer than the longest viewing day and the longest session taken up again."""

_AHEAD_MS = 3 * 86_400_000
"""A running day is named at most a date ahead of UTC's; the rest is for clocks that disagree."""

_FURTHEST_MS = 366 * 86_400_000

_LATE_MS = 5 * 60_000
"""After the end of a day. Reports are prepared later than that, so they know what was written sooner."""

_SESSION_KEPT_MS = 100 * 86_400_000
_KEEPING = RetentionPolicy()

_BALANCES = """
INSERT INTO viewing_time_balances AS t
       (profile_id, day, starts_ms, ends_ms, limit_ms, allowance_ms, used_ms, educational_ms, overrun_ms,
        abandoned_sessions, unbroken_ms, played_until_ms, borrowed_ms, owed_ms, finish_until_ms, version)
SELECT n.profile_id, DATE '1970-01-01' + n.day, n.starts_ms, n.ends_ms, NULLIF(n.limit_ms, -1),
       NULLIF(n.allowance_ms, -1), n.used_ms, n.educational_ms, n.overrun_ms, n.abandoned_sessions, n.unbroken_ms,
       n.played_until_ms, n.borrowed_ms, n.owed_ms, n.finish_until_ms, n.version
  FROM unnest($1::flushed_balance_v3[]) AS n
 WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id = n.profile_id)
 ORDER BY n.profile_id, n.day
    ON CONFLICT (profile_id, day) DO UPDATE
   SET limit_ms = excluded.limit_ms, allowance_ms = excluded.allowance_ms,
       used_ms = GREATEST(t.used_ms, excluded.used_ms),
       educational_ms = GREATEST(t.educational_ms, excluded.educational_ms),
       overrun_ms = GREATEST(t.overrun_ms, excluded.overrun_ms),
       abandoned_sessions = GREATEST(t.abandoned_sessions, excluded.abandoned_sessions),
       unbroken_ms = excluded.unbroken_ms, played_until_ms = excluded.played_until_ms,
       borrowed_ms = GREATEST(t.borrowed_ms, excluded.borrowed_ms), owed_ms = GREATEST(t.owed_ms, excluded.owed_ms),
       finish_until_ms = excluded.finish_until_ms, version = excluded.version
 WHERE excluded.version > t.version
"""

_SESSIONS = """
INSERT INTO viewing_sessions AS t
       (id, day, started_at, profile_id, title_id, is_educational, device_id, device_type, session_started_ms,
        last_beat_ms, has_ended, paused_since_ms, watched_ms, used_ms, educational_ms, overrun_ms, earlier_ms, lease_ms,
        uncounted_ms, version)
SELECT n.id, DATE '1970-01-01' + n.day, TIMESTAMPTZ 'epoch' + n.started_ms * INTERVAL '1 millisecond', n.profile_id,
       n.title_id, n.is_educational, n.device_id, n.device_type, n.session_started_ms, n.last_beat_ms, n.has_ended,
       n.paused_since_ms, n.watched_ms, n.used_ms, n.educational_ms, n.overrun_ms, n.earlier_ms, n.lease_ms,
       COALESCE(n.uncounted_ms, '{}'), n.version
  FROM unnest($1::flushed_session_v2[]) AS n
 WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id = n.profile_id)
 ORDER BY n.id, n.day
    ON CONFLICT (id, day, started_at) DO UPDATE
   SET is_educational = excluded.is_educational, last_beat_ms = GREATEST(t.last_beat_ms, excluded.last_beat_ms),
       has_ended = excluded.has_ended, paused_since_ms = excluded.paused_since_ms,
       watched_ms = GREATEST(t.watched_ms, excluded.watched_ms), used_ms = GREATEST(t.used_ms, excluded.used_ms),
       educational_ms = GREATEST(t.educational_ms, excluded.educational_ms),
       overrun_ms = GREATEST(t.overrun_ms, excluded.overrun_ms),
       earlier_ms = GREATEST(t.earlier_ms, excluded.earlier_ms), lease_ms = excluded.lease_ms,
       uncounted_ms = excluded.uncounted_ms, version = excluded.version
 WHERE excluded.version > t.version
"""

LATEST_COLUMNS = """
GREATEST(b.version, COALESCE(s.version, 0)) AS counters_version,
       b.day - DATE '1970-01-01' AS day_number, b.starts_ms AS day_starts_ms, b.ends_ms AS day_ends_ms,
       b.limit_ms, b.allowance_ms, b.used_ms, b.educational_ms, b.overrun_ms, b.abandoned_sessions,
       b.unbroken_ms, b.played_until_ms, b.borrowed_ms, b.owed_ms, b.finish_until_ms,
       s.id::text AS session_id, s.day = b.day AS is_of_this_day, s.title_id, s.is_educational, s.device_id,
       s.device_type, s.session_started_ms, s.last_beat_ms, s.paused_since_ms, s.watched_ms,
       s.used_ms AS session_used_ms, s.educational_ms AS session_educational_ms, s.overrun_ms AS session_overrun_ms,
       s.earlier_ms AS session_earlier_ms, s.has_ended, s.lease_ms, s.uncounted_ms"""
LATEST = """
  LEFT JOIN LATERAL (SELECT * FROM viewing_time_balances t
                      WHERE t.profile_id = p.id AND t.day >= DATE '1970-01-01' + CAST(:since_day AS int)
                        AND t.day <= DATE '1970-01-01' + CAST(:until_day AS int)
                      ORDER BY t.day DESC LIMIT 1) b ON true
  LEFT JOIN LATERAL (SELECT * FROM viewing_sessions t
                      WHERE t.profile_id = p.id
                        AND t.started_at >= TIMESTAMPTZ 'epoch' + CAST(:since_ms AS bigint) * INTERVAL '1 millisecond'
                        AND t.started_at < TIMESTAMPTZ 'epoch' + CAST(:until_ms AS bigint) * INTERVAL '1 millisecond'
                      ORDER BY t.started_at DESC LIMIT 1) s ON true
"""
"""The newest counters of profiles ``p``, of days and sessions that can be running: no other partitions are read."""

_RECOVER = Query(
    f"SELECT p.id::text AS profile_id, {LATEST_COLUMNS} FROM unnest(CAST(:ids AS uuid[])) AS p(id) {LATEST}"  # noqa: S608  ours
)

_ADD_DEAD_LETTER = text("""
INSERT INTO parked_rows (profile_id, source, counters, error, parked_at)
SELECT CAST(:profile_id AS uuid), :source, CAST(:counters AS jsonb), :error, :parked_at
 WHERE NOT EXISTS (SELECT FROM erasure_tombstones WHERE subject_id = CAST(:profile_id AS uuid))
    ON CONFLICT (source) DO UPDATE
   SET counters = excluded.counters, error = excluded.error, parked_at = excluded.parked_at
""")

_NOTE_FLUSH = """
INSERT INTO flush_state AS t (bucket, flushed_at) SELECT unnest($1::int[]), $2
    ON CONFLICT (bucket) DO UPDATE SET flushed_at = GREATEST(t.flushed_at, excluded.flushed_at)
"""

_PAUSES_SECONDS = (0.02, 0.1)
"""Pauses before the next attempt of a transaction that met a conflict or lost its connection."""

_DATA_ERRORS = ("22", "23")
"""SQLSTATE classes: data exception, integrity constraint violation."""

_SESSION = """
SELECT day - DATE '1970-01-01' AS day_number, used_ms + educational_ms + overrun_ms AS credited_ms, last_beat_ms
  FROM viewing_sessions
 WHERE profile_id = $1::uuid AND id = $2::uuid
   AND started_at >= TIMESTAMPTZ 'epoch' + $3::bigint * INTERVAL '1 millisecond'
"""


_Row: TypeAlias = tuple[Any, ...]
"""The columns of one SQL type, in order."""

_DAY_NUMBER, _STARTED_MS = 1, 2
"""Positions in rows: the day in both kinds, the begin of the part in sessions."""


class PostgresUsage:
    """Balances and sessions of children."""

    def __init__(
        self,
        engine: AsyncEngine,
        clock: Clock,
        retention_policy: RetentionPolicy = _KEEPING,
        *,
        feed: UsageFeed | None = None,
    ) -> None:
        self._engine = engine
        self._feed = feed or UsageFeed(engine, NO_FEED, settling_ms=0)
        self._clock = clock
        self._keeping = retention_policy

    async def upsert(
        self, entries: Sequence[tuple[str, Counters]], marks: Mapping[int, Checkpoint] = NO_CHECKPOINTS
    ) -> None:
        """Write counters by profile id, and the checkpoints of their buckets, in one transaction.

        Rows of days past retention and rows of erased profiles are dropped. The former are counted in a metric.

        Raises:
            DatabaseUnavailable: nothing was written; try again later.
            RowsLocked: likewise, because another transaction holds a row. Other entries can be written.
            RowRefused: a row can never be written as it is; nothing was written.
        """
        balances, sessions = self._kept_balances(_balance_rows(entries)), self._kept_sessions(_session_rows(entries))
        late, news = _late_days(entries, at_ms=self._clock()), self._feed.news(entries)
        for pause_seconds in _PAUSES_SECONDS:
            try:
                return await self._upsert(balances, sessions, late, marks, news)
            except PartitionMissing:
                await self._make_partitions(balances, sessions)
            except DatabaseUnavailable as error:
                if not is_passing(error):
                    raise
                await asyncio.sleep(pause_seconds)
        try:
            return await self._upsert(balances, sessions, late, marks, news)
        except PartitionMissing as error:
            raise RowRefused(type(error).__name__) from error

    async def _make_partitions(self, balances: list[_Row], sessions: list[_Row]) -> None:
        """Create the partitions of these rows. Rows dated a year or more ahead get none: no clock is that wrong."""
        latest_ms = self._clock() + _FURTHEST_MS
        days = {date_of(row[_DAY_NUMBER]) for row in balances if row[_DAY_NUMBER] * DAY_MS < latest_ms}
        await make_partitions_for(self._engine, BALANCES, days)
        started = {utc(row[_STARTED_MS]).date() for row in sessions if row[_STARTED_MS] < latest_ms}
        await make_partitions_for(self._engine, SESSIONS, started)

    async def _upsert(
        self,
        balances: list[_Row],
        sessions: list[_Row],
        late: Sequence[tuple[str, int]],
        marks: Mapping[int, Checkpoint],
        news: UsageNews,
    ) -> None:
        async with transaction(self._engine) as database:
            await hold_off_erasures(database)
            with _refusals_named():
                await _insert(database, _BALANCES, balances)
                await _insert(database, _SESSIONS, sessions)
            await self._feed.write(database, news, at_ms=self._clock())
            await note_changes(database, late)
            await note(database, marks)
        self._feed.remember(news)

    def _kept_balances(self, rows: list[_Row]) -> list[_Row]:
        oldest = day_number_of(self._keeping.balances_from(self._clock()))
        return _counted("balances", rows, [row for row in rows if row[_DAY_NUMBER] >= oldest])

    def _kept_sessions(self, rows: list[_Row]) -> list[_Row]:
        oldest_ms = day_number_of(self._keeping.sessions_from(self._clock())) * DAY_MS
        return _counted("sessions", rows, [row for row in rows if row[_STARTED_MS] >= oldest_ms])

    async def dead_letter(self, entry: Unflushed, error: str, *, at_ms: int) -> None:
        """Write an entry that can never be flushed to ``parked_rows``. Raises DatabaseUnavailable."""
        row = {
            "profile_id": entry.profile_id,
            "source": entry.source or f"{entry.profile_id}|{entry.counters.session_id}|{entry.counters.day_number}",
            "counters": msgspec.json.encode(entry.counters).decode(),
            "error": error,
            "parked_at": utc(at_ms),
        }
        async with transaction(self._engine) as database:
            await hold_off_erasures(database)
            await database.execute(_ADD_DEAD_LETTER, row)

    async def note_flush(self, buckets: Sequence[int], *, at_ms: int) -> None:
        """Store the instant up to which everything due was written. Raises DatabaseUnavailable."""
        async with transaction(self._engine) as database:
            await database.exec_driver_sql(_NOTE_FLUSH, (list(buckets), utc(at_ms)))

    async def recover(self, profile_ids: Sequence[str]) -> list[Counters | None]:
        """The newest counters of each child, in the order asked; None where there are none.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        ids = [profile_id for profile_id in profile_ids if is_uuid(profile_id)]
        rows = await _RECOVER.rows(self._engine, ids=ids, **latest_at(self._clock()))
        found = {row["profile_id"]: recovered(row) for row in rows}
        return [found.get(profile_id) for profile_id in profile_ids]

    async def shares(self, profile_id: str, session_id: str) -> list[Share]:
        """A session's shares of the days it touched, as far as they are flushed. Raises DatabaseUnavailable."""
        oldest_ms = self._clock() - _SESSION_KEPT_MS
        async with connection(self._engine) as database:
            rows = await database.exec_driver_sql(_SESSION, (profile_id, session_id, oldest_ms))
            return [Share(**row) for row in rows.mappings()]


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Turn data errors into RowRefused. Only the statements of the rows run inside."""
    try:
        yield
    except DBAPIError as error:
        if is_partition_missing(error):
            raise PartitionMissing from error
        state = getattr(error.orig, "sqlstate", None)
        is_refusal = state is None or str(state).startswith(_DATA_ERRORS)
        if is_refusal and not error.connection_invalidated:
            raise RowRefused(type(error.orig).__name__) from error
        raise


async def _insert(database: AsyncConnection, statement: str, rows: list[_Row]) -> None:
    if rows:
        await database.exec_driver_sql(statement, (rows,))


def _counted(kind: str, rows: list[_Row], kept: list[_Row]) -> list[_Row]:
    """The kept rows. The others are counted in a metric."""
    if len(kept) < len(rows):
        metrics.LATE_ROWS.labels(kind).inc(len(rows) - len(kept))
    return kept


def _balance_rows(entries: Sequence[tuple[str, Counters]]) -> list[_Row]:
    """One row per child and day, the newest: the columns of ``flushed_balance_v3``, in order."""
    newest: dict[tuple[str, int], Counters] = {}
    for profile_id, counters in entries:
        known = newest.get((profile_id, counters.day_number))
        if known is None or counters.version > known.version:
            newest[profile_id, counters.day_number] = counters
    # A plain tuple costs half as much as a named one, and the garbage collector soon leaves it alone.
    return [
        (
            profile_id,
            day_number,
            day.day_starts_ms,
            day.day_ends_ms,
            day.limit_ms,
            day.allowance_ms,
            day.used_ms,
            day.educational_ms,
            day.overrun_ms,
            day.abandoned_sessions,
            day.unbroken_ms,
            day.played_until_ms,
            day.borrowed_ms,
            day.owed_ms,
            day.finish_until_ms,
            day.version,
        )
        for (profile_id, day_number), day in newest.items()
    ]


def _late_days(entries: Sequence[tuple[str, Counters]], *, at_ms: int) -> list[tuple[str, int]]:
    """Days, by profile and number, that may be in a report made before these entries."""
    return sorted(
        {
            (profile_id, counters.day_number)
            for profile_id, counters in entries
            if at_ms - counters.day_ends_ms > _LATE_MS
        }
    )


def _session_rows(entries: Sequence[tuple[str, Counters]]) -> list[_Row]:
    """One row per session and day, the newest: the columns of ``flushed_session_v2``, in order."""
    newest: dict[tuple[str, int], tuple[str, Counters]] = {}
    for profile_id, counters in entries:
        if not counters.has_session_part:
            continue
        known = newest.get((counters.session_id, counters.day_number))
        if known is None or counters.version > known[1].version:
            newest[counters.session_id, counters.day_number] = (profile_id, counters)
    return [
        (
            session_id,
            day_number,
            max(part.session_started_ms, part.day_starts_ms),
            profile_id,
            part.title_id,
            part.is_educational == 1,
            part.device_id,
            part.device_type,
            part.session_started_ms,
            part.last_beat_ms,
            part.has_ended == 1,
            part.paused_since_ms,
            part.watched_ms,
            part.session_used_ms,
            part.session_educational_ms,
            part.session_overrun_ms,
            part.session_earlier_ms,
            part.lease_ms,
            part.uncounted or None,  # the driver encodes an empty array as slowly as half of the row
            part.version,
        )
        for (session_id, day_number), (profile_id, part) in newest.items()
    ]


def latest_at(at_ms: int) -> dict[str, int]:
    """The values in ``LATEST`` for an instant."""
    since_ms, until_ms = at_ms - _RECOVERED_MS, at_ms + _AHEAD_MS
    return {
        "since_ms": since_ms,
        "since_day": since_ms // DAY_MS,
        "until_ms": until_ms,
        "until_day": until_ms // DAY_MS,
    }


def recovered(row: Record) -> Counters | None:
    """The counters in a row with ``LATEST_COLUMNS``; None if nothing was flushed."""
    if row["day_number"] is None:
        return None
    counters = Counters(
        version=row["counters_version"],
        generation=0,
        policy_version=0,
        dirty_since_ms=0,
        day_number=row["day_number"],
        day_starts_ms=row["day_starts_ms"],
        day_ends_ms=row["day_ends_ms"],
        limit_ms=UNLIMITED if row["limit_ms"] is None else row["limit_ms"],
        allowance_ms=UNLIMITED if row["allowance_ms"] is None else row["allowance_ms"],
        used_ms=row["used_ms"],
        educational_ms=row["educational_ms"],
        overrun_ms=row["overrun_ms"],
        abandoned_sessions=row["abandoned_sessions"],
        unbroken_ms=row["unbroken_ms"],
        played_until_ms=row["played_until_ms"],
        borrowed_ms=row["borrowed_ms"],
        owed_ms=row["owed_ms"],
        finish_until_ms=row["finish_until_ms"],
    )
    if row["session_id"] is not None:
        _recover_session(counters, row)
    return counters


def _recover_session(counters: Counters, row: Record) -> None:
    counters.session_id = row["session_id"]
    counters.title_id = row["title_id"]
    counters.is_educational = int(row["is_educational"])
    counters.device_id = row["device_id"]
    counters.device_type = row["device_type"]
    counters.session_started_ms = row["session_started_ms"]
    counters.last_beat_ms = row["last_beat_ms"]
    counters.paused_since_ms = row["paused_since_ms"]
    counters.watched_ms = row["watched_ms"]
    counters.has_ended = int(row["has_ended"])
    counters.session_earlier_ms = row["session_earlier_ms"]
    if row["is_of_this_day"]:
        counters.session_used_ms = row["session_used_ms"]
        counters.session_educational_ms = row["session_educational_ms"]
        counters.session_overrun_ms = row["session_overrun_ms"]
        counters.lease_ms = row["lease_ms"]
        counters.uncounted = tuple(row["uncounted_ms"])
    else:  # the newest balance is of a later day, so the session counted in earlier days only
        counters.session_earlier_ms += (
            row["session_used_ms"] + row["session_educational_ms"] + row["session_overrun_ms"]
        )
