"""Flushed usage: written by the flush alone, read back when Redis has forgotten.

A row arrives whole, as absolute values with a version, and only newer ones are taken; counters of a day only grow, so
the larger value wins whatever arrives. Writing a row again, late or out of order does no harm.

Rows are locked in the order of their keys, so that two writers cannot deadlock. The statements say so themselves: a
sorted array does not help, since the planner may hash it for the anti-join.
"""

import asyncio
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app import metrics
from app.clock import Clock
from app.domain.accounting import Live, Share
from app.domain.keeping import Keeping
from app.domain.policy import UNLIMITED
from app.domain.unflushed import RowRefused, Unflushed
from app.domain.viewing_day import DAY_MS, day_number_of
from app.domain.watermark import NO_MARKS, Mark
from app.errors import DatabaseUnavailable
from app.instants import utc
from app.postgres_store.access import Query, connection, is_passing, is_uuid, transaction
from app.postgres_store.lock import hold_off_erasures
from app.postgres_store.marks import note
from app.postgres_store.weekly_reports import note_changes

_RECOVERED_MS = 3 * 86_400_000
"""How far back counters are read: longer than the longest viewing day and the longest session taken up again."""

_AHEAD_MS = 3 * 86_400_000
"""A running day is named at most a date ahead of UTC's; the rest is for clocks that disagree."""

_LATE_MS = 5 * 60_000
"""After the end of a day. Reports are prepared later than that, so they know what was written sooner."""

_SESSION_KEPT_MS = 100 * 86_400_000
_KEEPING = Keeping()

_BALANCES = """
INSERT INTO viewing_time_balances AS t
       (profile_id, day, starts_ms, ends_ms, limit_ms, allowance_ms, used_ms, educational_ms, overrun_ms, version)
SELECT n.profile_id, DATE '1970-01-01' + n.day, n.starts_ms, n.ends_ms, NULLIF(n.limit_ms, -1),
       NULLIF(n.allowance_ms, -1), n.used_ms, n.educational_ms, n.overrun_ms, n.version
  FROM unnest($1::flushed_balance[]) AS n
 WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id = n.profile_id)
 ORDER BY n.profile_id, n.day
    ON CONFLICT (profile_id, day) DO UPDATE
   SET limit_ms = excluded.limit_ms, allowance_ms = excluded.allowance_ms,
       used_ms = GREATEST(t.used_ms, excluded.used_ms),
       educational_ms = GREATEST(t.educational_ms, excluded.educational_ms),
       overrun_ms = GREATEST(t.overrun_ms, excluded.overrun_ms), version = excluded.version
 WHERE excluded.version > t.version
"""

_SESSIONS = """
INSERT INTO viewing_sessions AS t
       (id, day, started_at, profile_id, title_id, is_educational, device_id, device_type, session_started_ms,
        last_beat_ms, has_ended, paused_since_ms, watched_ms, used_ms, educational_ms, overrun_ms, earlier_ms, version)
SELECT n.id, DATE '1970-01-01' + n.day, TIMESTAMPTZ 'epoch' + n.started_ms * INTERVAL '1 millisecond', n.profile_id,
       n.title_id, n.is_educational, n.device_id, n.device_type, n.session_started_ms, n.last_beat_ms, n.has_ended,
       n.paused_since_ms, n.watched_ms, n.used_ms, n.educational_ms, n.overrun_ms, n.earlier_ms, n.version
  FROM unnest($1::flushed_session[]) AS n
 WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id = n.profile_id)
 ORDER BY n.id, n.day
    ON CONFLICT (id, day, started_at) DO UPDATE
   SET is_educational = excluded.is_educational, last_beat_ms = GREATEST(t.last_beat_ms, excluded.last_beat_ms),
       has_ended = excluded.has_ended, paused_since_ms = excluded.paused_since_ms,
       watched_ms = GREATEST(t.watched_ms, excluded.watched_ms), used_ms = GREATEST(t.used_ms, excluded.used_ms),
       educational_ms = GREATEST(t.educational_ms, excluded.educational_ms),
       overrun_ms = GREATEST(t.overrun_ms, excluded.overrun_ms),
       earlier_ms = GREATEST(t.earlier_ms, excluded.earlier_ms), version = excluded.version
 WHERE excluded.version > t.version
"""

LATEST_COLUMNS = """
GREATEST(b.version, COALESCE(s.version, 0)), b.day - DATE '1970-01-01', b.starts_ms, b.ends_ms,
       b.limit_ms, b.allowance_ms, b.used_ms, b.educational_ms, b.overrun_ms, s.id::text, s.day = b.day, s.title_id,
       s.is_educational, s.device_id, s.device_type, s.session_started_ms, s.last_beat_ms, s.paused_since_ms,
       s.watched_ms, s.used_ms, s.educational_ms, s.overrun_ms, s.earlier_ms, s.has_ended"""
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
    f"SELECT p.id::text, {LATEST_COLUMNS} FROM unnest(CAST(:ids AS uuid[])) AS p(id) {LATEST}"  # noqa: S608  ours
)

_PARK = text("""
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
"""Before a transaction that met another, or lost its connection, is tried again."""

_DATA_ERRORS = ("22", "23")
"""SQLSTATE classes: data exception, integrity constraint violation (a missing partition is one too)."""

_SESSION = """
SELECT day - DATE '1970-01-01', used_ms + educational_ms + overrun_ms, last_beat_ms
  FROM viewing_sessions
 WHERE profile_id = $1::uuid AND id = $2::uuid
   AND started_at >= TIMESTAMPTZ 'epoch' + $3::bigint * INTERVAL '1 millisecond'
"""


_Rows = Sequence[tuple[Any, ...]]


class PostgresUsage:
    """Balances and sessions of children."""

    def __init__(self, engine: AsyncEngine, clock: Clock, keeping: Keeping = _KEEPING) -> None:
        self._engine = engine
        self._clock = clock
        self._keeping = keeping

    async def upsert(self, entries: Sequence[tuple[str, Live]], marks: Mapping[int, Mark] = NO_MARKS) -> None:
        """Write counters, given with their profile ids, and note the marks of their buckets, in one transaction.

        What belongs to a day that is no longer kept is refused for good, and counted; so is what was erased.

        Raises:
            DatabaseUnavailable: nothing was written; try again later.
            RowsLocked: likewise, because somebody else holds a row; other entries can be written.
            RowRefused: a row can never be written as it is; nothing was written.
        """
        balances, sessions = self._kept_balances(_balance_rows(entries)), self._kept_sessions(_session_rows(entries))
        late = _late_days(entries, at_ms=self._clock())
        for pause_seconds in _PAUSES_SECONDS:
            try:
                return await self._upsert(balances, sessions, late, marks)
            except DatabaseUnavailable as error:
                if not is_passing(error):
                    raise
            await asyncio.sleep(pause_seconds)
        return await self._upsert(balances, sessions, late, marks)

    async def _upsert(
        self, balances: _Rows, sessions: _Rows, late: Sequence[tuple[str, int]], marks: Mapping[int, Mark]
    ) -> None:
        async with transaction(self._engine) as database:
            await hold_off_erasures(database)
            with _refusals_named():
                await _insert(database, _BALANCES, balances)
                await _insert(database, _SESSIONS, sessions)
            await note_changes(database, late)
            await note(database, marks)

    def _kept_balances(self, rows: _Rows) -> _Rows:
        oldest = day_number_of(self._keeping.balances_from(self._clock()))
        return _counted("balances", rows, [row for row in rows if row[1] >= oldest])

    def _kept_sessions(self, rows: _Rows) -> _Rows:
        oldest_ms = day_number_of(self._keeping.sessions_from(self._clock())) * DAY_MS
        return _counted("sessions", rows, [row for row in rows if row[2] >= oldest_ms])

    async def park(self, entry: Unflushed, error: str, *, at_ms: int) -> None:
        """Set an unacceptable entry aside in ``parked_rows``. Raises DatabaseUnavailable."""
        row = {
            "profile_id": entry.profile_id,
            "source": entry.source or f"{entry.profile_id}|{entry.live.session_id}|{entry.live.day_number}",
            "counters": msgspec.json.encode(entry.live).decode(),
            "error": error,
            "parked_at": utc(at_ms),
        }
        async with transaction(self._engine) as database:
            await hold_off_erasures(database)
            await database.execute(_PARK, row)

    async def note_flush(self, buckets: Sequence[int], *, at_ms: int) -> None:
        """Note that what was due at an instant is written. Raises DatabaseUnavailable."""
        async with transaction(self._engine) as database:
            await database.exec_driver_sql(_NOTE_FLUSH, (list(buckets), utc(at_ms)))

    async def recover(self, profile_ids: Sequence[str]) -> list[Live | None]:
        """The newest counters of each child, in the order asked; None where there are none.

        Raises:
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        ids = [profile_id for profile_id in profile_ids if is_uuid(profile_id)]
        rows = await _RECOVER.rows(self._engine, ids=ids, **latest_at(self._clock()))
        found = {row[0]: recovered(row[1:]) for row in rows}
        return [found.get(profile_id) for profile_id in profile_ids]

    async def shares(self, profile_id: str, session_id: str) -> list[Share]:
        """A session's shares of the days it touched, as far as they are flushed. Raises DatabaseUnavailable."""
        oldest_ms = self._clock() - _SESSION_KEPT_MS
        async with connection(self._engine) as database:
            rows: Iterable[Any] = await database.exec_driver_sql(_SESSION, (profile_id, session_id, oldest_ms))
            return [Share(*row) for row in rows]


@contextmanager
def _refusals_named() -> Iterator[None]:
    """Around the statements of the rows alone: what another table refuses is no fault of theirs."""
    try:
        yield
    except DBAPIError as error:
        state = getattr(error.orig, "sqlstate", None)
        is_refusal = state is None or str(state).startswith(_DATA_ERRORS)
        if is_refusal and not error.connection_invalidated:
            raise RowRefused(type(error.orig).__name__) from error
        raise


async def _insert(database: AsyncConnection, statement: str, rows: _Rows) -> None:
    if rows:
        await database.exec_driver_sql(statement, (list(rows),))


def _counted(kind: str, rows: _Rows, kept: _Rows) -> _Rows:
    """Those that are kept, once the others are counted."""
    if len(kept) < len(rows):
        metrics.LATE_ROWS.labels(kind).inc(len(rows) - len(kept))
    return kept


def _balance_rows(entries: Sequence[tuple[str, Live]]) -> list[tuple[Any, ...]]:
    """One row per child and day, the newest."""
    newest: dict[tuple[str, int], Live] = {}
    for profile_id, live in entries:
        known = newest.get((profile_id, live.day_number))
        if known is None or live.version > known.version:
            newest[profile_id, live.day_number] = live
    return [
        (
            profile_id,
            day,
            live.day_starts_ms,
            live.day_ends_ms,
            live.limit_ms,
            live.allowance_ms,
            live.used_ms,
            live.educational_ms,
            live.overrun_ms,
            live.version,
        )
        for (profile_id, day), live in newest.items()
    ]


def _late_days(entries: Sequence[tuple[str, Live]], *, at_ms: int) -> list[tuple[str, int]]:
    """Days, by profile and number, that a report may have told of before these entries came."""
    return sorted(
        {(profile_id, live.day_number) for profile_id, live in entries if at_ms - live.day_ends_ms > _LATE_MS}
    )


def _session_rows(entries: Sequence[tuple[str, Live]]) -> list[tuple[Any, ...]]:
    newest: dict[tuple[str, int], tuple[str, Live]] = {}
    for profile_id, live in entries:
        if not live.session_id:
            continue
        known = newest.get((live.session_id, live.day_number))
        if known is None or live.version > known[1].version:
            newest[live.session_id, live.day_number] = (profile_id, live)
    return [
        (
            session_id,
            day,
            max(live.session_started_ms, live.day_starts_ms),
            profile_id,
            live.title_id,
            bool(live.is_educational),
            live.device_id,
            live.device_type,
            live.session_started_ms,
            live.last_beat_ms,
            bool(live.has_ended),
            live.paused_since_ms,
            live.watched_ms,
            live.session_used_ms,
            live.session_educational_ms,
            live.session_overrun_ms,
            live.session_earlier_ms,
            live.version,
        )
        for (session_id, day), (profile_id, live) in newest.items()
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


def recovered(row: Sequence[Any]) -> Live | None:
    """The counters from ``LATEST_COLUMNS``; None where there are none."""
    if row[1] is None:
        return None
    live = Live(
        version=row[0],
        generation=0,
        policy_version=0,
        dirty_since_ms=0,
        day_number=row[1],
        day_starts_ms=row[2],
        day_ends_ms=row[3],
        limit_ms=UNLIMITED if row[4] is None else row[4],
        allowance_ms=UNLIMITED if row[5] is None else row[5],
        used_ms=row[6],
        educational_ms=row[7],
        overrun_ms=row[8],
    )
    if row[9] is None:
        return live
    is_of_this_day = row[10]
    used_ms, educational_ms, overrun_ms, earlier_ms = row[19:23]
    shares = (used_ms, educational_ms, overrun_ms) if is_of_this_day else (0, 0, 0)
    return msgspec.structs.replace(
        live,
        session_id=row[9],
        title_id=row[11],
        is_educational=int(row[12]),
        device_id=row[13],
        device_type=row[14],
        session_started_ms=row[15],
        last_beat_ms=row[16],
        paused_since_ms=row[17],
        watched_ms=row[18],
        session_used_ms=shares[0],
        session_educational_ms=shares[1],
        session_overrun_ms=shares[2],
        session_earlier_ms=earlier_ms if is_of_this_day else earlier_ms + used_ms + educational_ms + overrun_ms,
        has_ended=int(row[23]),
    )
