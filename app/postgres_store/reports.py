"""Past viewing as PostgreSQL has it. Each method is one statement.

Sessions lie in weekly partitions by ``started_at``, balances in monthly ones by ``day``: every query bounds these, so
that only the partitions in question are touched.
"""

from collections import defaultdict
from collections.abc import Sequence
from datetime import date, datetime
from typing import TypedDict

import msgspec
from asyncpg import Record
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.co_viewing import CoViewed, Overlap, PartKey
from app.domain.limits import DailyLimits
from app.domain.markets import Markets
from app.domain.offline import TimeRange, uncovered
from app.domain.policy import MINUTE_MS
from app.domain.report import (
    TOP_TITLES,
    DayAsked,
    DayTotals,
    Granted,
    ReportedDay,
    SessionPart,
    Source,
    TitleTime,
    Viewer,
    Watched,
)
from app.domain.tampering import TamperHint
from app.domain.viewing_day import DAY_MS, Calendar, day_number_of
from app.errors import ProfileAccessDenied
from app.postgres_store.access import Query, is_uuid
from app.postgres_store.limit_rules import rules_of
from app.timestamps import utc

# Instants come and go as milliseconds: the driver takes three times as long for a timestamp.
_AS_OF = "(SELECT (EXTRACT(EPOCH FROM MIN(flushed_at)) * 1000)::bigint FROM flush_state) AS as_of_ms"

_TOTALS = """b.profile_id IS NOT NULL AS is_kept, b.day AS kept_day, b.starts_ms, b.ends_ms, b.limit_ms,
       b.used_ms + b.offline_used_ms AS used_ms, b.educational_ms + b.offline_educational_ms AS educational_ms,
       b.overrun_ms + b.offline_overrun_ms AS overrun_ms, b.penalty_ms, b.borrowed_ms, b.owed_ms"""

_MARKET = """(SELECT m.market FROM profiles p JOIN accounts m ON m.id = p.account_id
                               WHERE p.id = {day}.profile_id) AS market"""

# A balance has the limit of its last beat; what was saved later, before the day ended, is the limit of that day.
_SAVED_LATER = (
    """h.version IS NOT NULL AS is_saved_later, h.weekday_limit_minutes, h.weekend_limit_minutes, h.rules, h.market"""
)
_LATER = f"""
  LEFT JOIN LATERAL (SELECT version, weekday_limit_minutes, weekend_limit_minutes, rules::text AS rules,
                            {_MARKET.format(day="b")}
                       FROM viewing_time_config_history
                      WHERE profile_id = b.profile_id
                        AND valid_from > TIMESTAMPTZ 'epoch' + b.version * INTERVAL '1 millisecond'
                        AND valid_from < TIMESTAMPTZ 'epoch' + b.ends_ms * INTERVAL '1 millisecond'
                      ORDER BY version DESC LIMIT 1) h ON true"""  # noqa: S608  fixed text

_HINTS = """(SELECT json_agg(json_build_array(t.kind, t.session_id, t.day - DATE '1970-01-01', t.device_id,
                                (EXTRACT(EPOCH FROM t.noted_at) * 1000)::bigint) ORDER BY t.noted_at, t.kind)
          FROM tamper_hints t WHERE t.profile_id = b.profile_id AND t.day = b.day)::text AS hints"""

_VIEWED = Query(f"""
SELECT {_AS_OF}, p.account_id::text AS account_id, p.id::text AS profile_id, p.name, p.timezone, p.is_kids,
       c.calendar::text AS calendar, {_TOTALS}, {_SAVED_LATER}, {_HINTS}
  FROM profiles p
  LEFT JOIN viewing_time_configs c ON c.profile_id = p.id
  LEFT JOIN viewing_time_balances b ON b.profile_id = p.id AND b.day BETWEEN :first AND :last{_LATER}
 WHERE p.id = :profile_id AND p.account_id = :account_id
 ORDER BY b.day DESC
""")  # noqa: S608  fixed text

_CHILDREN = Query(f"""
SELECT {_AS_OF}, p.account_id::text AS account_id, p.id::text AS profile_id, p.name, p.timezone, p.is_kids,
       c.calendar::text AS calendar
  FROM profiles p
  JOIN viewing_time_configs c ON c.profile_id = p.id
 WHERE p.account_id = ANY(CAST(:account_ids AS uuid[])) AND p.is_kids
 ORDER BY p.created_at, p.id
""")  # noqa: S608  fixed text

# Grants as they stood when the day ended.
_GRANTED = """
  LEFT JOIN LATERAL (SELECT COUNT(*) AS count, COALESCE(SUM(minutes), 0) AS minutes,
                            COUNT(*) - COUNT(minutes) AS unlimited
                       FROM time_grants
                      WHERE profile_id = {day}.profile_id AND day = {day}.day
                        AND (revoked_at IS NULL
                             OR revoked_at >= TIMESTAMPTZ 'epoch' + {day}.ends_ms * INTERVAL '1 millisecond')) g
         ON true"""

_DAYS = Query(f"""
SELECT {_TOTALS}, {_SAVED_LATER}, g.count, g.minutes, g.unlimited
  FROM viewing_time_balances b{_LATER}{_GRANTED.format(day="b")}
 WHERE b.profile_id = :profile_id AND b.day BETWEEN :first AND :last
 ORDER BY b.day DESC
""")  # noqa: S608  fixed text

# Offline playback is a session as well. Names are joined to the rows of the page only.
_SESSIONS = Query("""
SELECT s.session_id::text AS session_id, s.day, s.title_id, t.name AS title_name, s.device_id, s.device_type,
       s.is_educational, s.started_ms, s.last_beat_ms, s.has_ended, s.used_ms, s.educational_ms, s.overrun_ms,
       s.uncounted_ms, s.source
  FROM ((SELECT 'heartbeat' AS source, id AS session_id, day, title_id, device_id, device_type, is_educational,
                (EXTRACT(EPOCH FROM started_at) * 1000)::bigint AS started_ms, last_beat_ms, has_ended, used_ms,
                educational_ms, overrun_ms, uncounted_ms
           FROM viewing_sessions
          WHERE profile_id = :profile_id AND started_at >= :from_at AND started_at < :until_at
            AND day BETWEEN :first AND :last AND (started_at, id) < (:before_at, CAST(:before_id AS uuid))
          ORDER BY started_at DESC, id DESC
          LIMIT :most)
         UNION ALL
        (SELECT 'offline', session_id, day, title_id, device_id, NULL, is_educational, starts_ms, ends_ms, true,
                credited_ms - educational_ms - overrun_ms, educational_ms, overrun_ms, '{}'
           FROM offline_intervals
          WHERE profile_id = :profile_id AND starts_ms >= :from_ms AND starts_ms < :until_ms
            AND day BETWEEN :first AND :last AND (starts_ms, session_id) < (:before_ms, CAST(:before_id AS uuid))
            AND session_id IS NOT NULL -- nothing of the others was credited: they are no sessions
          ORDER BY starts_ms DESC, session_id DESC
          LIMIT :most)
         ORDER BY started_ms DESC, session_id DESC
         LIMIT :most) s
  LEFT JOIN titles t ON t.id = s.title_id
 ORDER BY s.started_ms DESC, s.session_id DESC
""")
_LAST_ID = "ffffffff-ffff-ffff-ffff-ffffffffffff"

# A day without a balance had the limit that was in force when it ended, and owes what the day before borrowed.
_REPORTED_DAYS = Query(f"""
SELECT a.profile_id::text AS profile_id, a.day, {_TOTALS},
       b.profile_id IS NULL OR h.valid_from > TIMESTAMPTZ 'epoch' + b.version * INTERVAL '1 millisecond'
       AS is_saved_later, h.weekday_limit_minutes, h.weekend_limit_minutes, h.rules, h.market,
       y.borrowed_ms AS borrowed_before_ms, g.count, g.minutes, g.unlimited
  FROM unnest(CAST(:profile_ids AS uuid[]), CAST(:days AS date[]), CAST(:ends AS bigint[]))
       AS a(profile_id, day, ends_ms)
  LEFT JOIN viewing_time_balances b
         ON b.profile_id = a.profile_id AND b.day = a.day AND b.day BETWEEN :first AND :last
  LEFT JOIN viewing_time_balances y
         ON b.profile_id IS NULL AND y.profile_id = a.profile_id AND y.day = a.day - 1
        AND y.day BETWEEN CAST(:first AS date) - 1 AND :last
  LEFT JOIN LATERAL (SELECT valid_from, weekday_limit_minutes, weekend_limit_minutes, rules::text AS rules,
                            {_MARKET.format(day="a")}
                       FROM viewing_time_config_history
                      WHERE profile_id = a.profile_id
                        AND valid_from < TIMESTAMPTZ 'epoch' + a.ends_ms * INTERVAL '1 millisecond'
                      ORDER BY version DESC LIMIT 1) h ON true{_GRANTED.format(day="a")}
""")  # noqa: S608  fixed text

# Sessions of two children on one device with one title at one time. A part of a session is shorter than two days.
# Those of a family are read once and then compared: an index scan for each pair of session and sibling takes fifteen
# times as long.
_FAMILY = """
family AS MATERIALIZED (
    SELECT p.account_id, p.name, s.profile_id, s.id, s.day, s.device_id, s.title_id, s.started_at,
           (EXTRACT(EPOCH FROM s.started_at) * 1000)::bigint AS started_ms, s.last_beat_ms, s.uncounted_ms,
           s.used_ms + s.educational_ms + s.overrun_ms AS watched_ms
      FROM profiles p
      JOIN viewing_sessions s ON s.profile_id = p.id AND s.started_at >= :near_at AND s.started_at < :far_at
     WHERE p.account_id IN ({accounts})
)"""
_ASKED = """m.profile_id = ANY(CAST(:profile_ids AS uuid[])) AND m.day BETWEEN :first AND :last
   AND m.started_at >= :from_at AND m.started_at < :until_at"""
_OVERLAPS = f"""
SELECT m.profile_id::text AS profile_id, m.id::text AS session_id, m.day, m.started_ms, m.last_beat_ms, m.uncounted_ms,
       o.profile_id::text AS other_id, o.name AS other_name,
       o.started_ms AS other_started_ms, o.last_beat_ms AS other_last_beat_ms, o.uncounted_ms AS other_uncounted_ms
  FROM family m
  JOIN family o
    ON o.account_id = m.account_id AND o.device_id = m.device_id AND o.title_id = m.title_id
   AND o.profile_id <> m.profile_id
   AND o.started_at > m.started_at - INTERVAL '2 days'
   AND o.started_ms < m.last_beat_ms AND o.last_beat_ms > m.started_ms
 WHERE {_ASKED}
"""  # noqa: S608  fixed text
_WITH_SIBLINGS = """SELECT one.account_id FROM profiles one JOIN profiles other USING (account_id)
                            WHERE one.id = ANY(CAST(:profile_ids AS uuid[])) AND other.id <> one.id"""
_CO_VIEWED = Query(f"WITH {_FAMILY.format(accounts=_WITH_SIBLINGS)} {_OVERLAPS}")

# Offline playback is known by its intervals, which lie in no viewing day of their own: each child's days bound them.
_WATCHED = Query(f"""
WITH {_FAMILY.format(accounts="SELECT account_id FROM profiles WHERE id = ANY(CAST(:profile_ids AS uuid[]))")},
longest AS (
    SELECT r.profile_id::text AS profile_id, r.title_id, t.name, r.total_ms, r.place
      FROM (SELECT profile_id, title_id, SUM(watched_ms)::bigint AS total_ms,
                   ROW_NUMBER() OVER (PARTITION BY profile_id ORDER BY SUM(watched_ms) DESC, title_id) AS place
              FROM (SELECT m.profile_id, m.title_id, m.watched_ms
                      FROM family m
                     WHERE {_ASKED}
                     UNION ALL
                    SELECT o.profile_id, o.title_id, o.credited_ms
                      FROM (SELECT profile_id, MIN(starts_ms) AS from_ms, MAX(ends_ms) AS until_ms
                              FROM viewing_time_balances
                             WHERE profile_id = ANY(CAST(:profile_ids AS uuid[])) AND day BETWEEN :first AND :last
                             GROUP BY profile_id) w
                      JOIN offline_intervals o
                        ON o.profile_id = w.profile_id AND o.ends_ms > w.from_ms AND o.ends_ms <= w.until_ms) watched
             GROUP BY profile_id, title_id) r
      LEFT JOIN titles t ON t.id = r.title_id
     WHERE r.place <= :most AND r.total_ms > 0
), shared AS ({_OVERLAPS})
SELECT (SELECT json_agg(found ORDER BY found.place) FROM longest found)::text AS titles,
       (SELECT json_agg(found) FROM shared found)::text AS overlaps
""")  # noqa: S608  fixed text
_PART_MS = 2 * DAY_MS


class PostgresReports:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, *, markets: Markets) -> None:
        self._engine = engine
        self._markets = markets

    async def viewed(
        self, *, account_id: str, profile_id: str, first: date, last: date
    ) -> tuple[int | None, Viewer, list[DayTotals]]:
        """Up to when everything is flushed (ms), a profile of the account and its days, newest first.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
        """
        if not (is_uuid(account_id) and is_uuid(profile_id)):
            raise ProfileAccessDenied
        rows = await _VIEWED.rows(self._engine, account_id=account_id, profile_id=profile_id, first=first, last=last)
        if not rows:
            raise ProfileAccessDenied
        days = [_with_hints(self._totals(row), row["hints"]) for row in rows if row["is_kept"]]
        return _as_of(rows), _viewer(rows[0]), days

    async def children(self, account_ids: Sequence[str]) -> tuple[int | None, list[Viewer]]:
        """Up to when everything is flushed (ms), and the children of the accounts, the eldest profile first."""
        rows = await _CHILDREN.rows(self._engine, account_ids=[known for known in account_ids if is_uuid(known)])
        return _as_of(rows), [_viewer(row) for row in rows]

    async def days(self, profile_id: str, *, first: date, last: date) -> list[ReportedDay]:
        """The days on which something was counted, newest first."""
        rows = await _DAYS.rows(self._engine, profile_id=profile_id, first=first, last=last)
        return [ReportedDay(self._totals(row), _granted(row)) for row in rows]

    async def sessions(
        self,
        profile_id: str,
        *,
        first: date,
        last: date,
        from_ms: int,
        until_ms: int,
        before: tuple[int, str] | None,
        most: int,
    ) -> list[SessionPart]:
        """Sessions of viewing days that began in ``from_ms`` ≤ instant < ``until_ms``, newest first."""
        if not is_uuid(profile_id):
            return []
        before_ms, before_id = before or (until_ms, _LAST_ID)
        rows = await _SESSIONS.rows(
            self._engine,
            profile_id=profile_id,
            first=first,
            last=last,
            from_at=utc(from_ms),
            from_ms=from_ms,
            until_at=utc(until_ms),
            until_ms=until_ms,
            before_at=utc(before_ms),
            before_ms=before_ms,
            before_id=before_id,
            most=most,
        )
        return [_part(row) for row in rows]

    async def reported_days(self, asked: Sequence[DayAsked]) -> list[list[ReportedDay]]:
        """The days asked for, grouped by profile in the order in which the profiles were first named."""
        if not asked:
            return []
        grouped: dict[str, list[ReportedDay]] = {one.profile_id: [] for one in asked}
        rows = await _REPORTED_DAYS.rows(
            self._engine,
            profile_ids=[one.profile_id for one in asked],
            days=[one.day for one in asked],
            ends=[one.ends_ms for one in asked],
            first=min(one.day for one in asked),
            last=max(one.day for one in asked),
        )
        for row in rows:
            day, granted = row["day"], _granted(row)
            totals = self._totals(row) if row["is_kept"] else self._empty(row, day)
            lifted = msgspec.structs.replace(totals, is_lifted=granted.unlimited > 0)
            grouped[row["profile_id"]].append(ReportedDay(lifted, granted))
        return list(grouped.values())

    async def watched(
        self, profile_ids: Sequence[str], *, first: date, last: date, from_ms: int, until_ms: int
    ) -> Watched:
        """What the profiles watched on these days, which began and ended in ``from_ms`` to ``until_ms``."""
        if not profile_ids:
            return Watched({}, [])
        [row] = await _WATCHED.rows(
            self._engine,
            profile_ids=profile_ids,
            first=first,
            last=last,
            most=TOP_TITLES,
            **_near(from_ms, until_ms),
        )
        titles: dict[str, list[TitleTime]] = defaultdict(list)
        for found in _decode_titles(row["titles"] or "[]"):
            titles[found["profile_id"]].append(TitleTime(found["title_id"], found["name"], found["total_ms"]))
        return Watched(dict(titles), [_overlap(found) for found in _decode_overlaps(row["overlaps"] or "[]")])

    async def overlaps(self, profile_id: str, *, first: date, last: date, from_ms: int, until_ms: int) -> list[Overlap]:
        """Sessions that began in ``from_ms`` to ``until_ms``, each with one of another child that overlaps it."""
        if not is_uuid(profile_id):
            return []
        rows = await _CO_VIEWED.rows(
            self._engine, profile_ids=[profile_id], first=first, last=last, **_near(from_ms, until_ms)
        )
        return [_overlap(row) for row in rows]

    def _totals(self, row: Record) -> DayTotals:
        kept_minutes = None if row["limit_ms"] is None else row["limit_ms"] // MINUTE_MS
        return DayTotals(
            day=row["kept_day"],
            counted_ms=row["used_ms"],
            educational_ms=row["educational_ms"],
            overrun_ms=row["overrun_ms"],
            penalty_ms=row["penalty_ms"],
            limit_minutes=self._saved(row, row["kept_day"]) if row["is_saved_later"] else kept_minutes,
            starts_ms=row["starts_ms"],
            ends_ms=row["ends_ms"],
            borrowed_ms=row["borrowed_ms"],
            owed_ms=row["owed_ms"],
        )

    def _empty(self, row: Record, day: date) -> DayTotals:
        owed_ms = row["borrowed_before_ms"] or 0
        return DayTotals(day=day, limit_minutes=self._saved(row, day), owed_ms=owed_ms)

    def _saved(self, row: Record, day: date) -> int | None:
        limits = DailyLimits(row["weekday_limit_minutes"], row["weekend_limit_minutes"], rules_of(row["rules"]))
        return limits.minutes_on(day_number_of(day), weekend_days=self._markets.weekend_days(row["market"]))


class _TitleRow(TypedDict):
    profile_id: str
    title_id: str
    name: str | None
    total_ms: int


class _OverlapRow(TypedDict):
    profile_id: str
    session_id: str
    day: date
    started_ms: int
    last_beat_ms: int
    uncounted_ms: list[int]
    other_id: str
    other_name: str
    other_started_ms: int
    other_last_beat_ms: int
    other_uncounted_ms: list[int]


_decode_titles = msgspec.json.Decoder(list[_TitleRow]).decode
_decode_overlaps = msgspec.json.Decoder(list[_OverlapRow]).decode


def _near(from_ms: int, until_ms: int) -> dict[str, datetime]:
    """A time range, and one in which every session's part lies that may overlap one of it."""
    return {
        "from_at": utc(from_ms),
        "until_at": utc(until_ms),
        "near_at": utc(from_ms - _PART_MS),
        "far_at": utc(until_ms + _PART_MS),
    }


def _overlap(row: _OverlapRow | Record) -> Overlap:
    return Overlap(
        profile_id=row["profile_id"],
        part=PartKey(row["session_id"], row["day"]),
        counted=_counted(row["started_ms"], row["last_beat_ms"], row["uncounted_ms"]),
        other=CoViewed(row["other_id"], row["other_name"]),
        others_counted=_counted(row["other_started_ms"], row["other_last_beat_ms"], row["other_uncounted_ms"]),
    )


def _as_of(rows: Sequence[Record]) -> int | None:
    return rows[0]["as_of_ms"] if rows else None


def _viewer(row: Record) -> Viewer:
    calendar = msgspec.json.decode(row["calendar"], type=Calendar) if row["is_kids"] else None
    return Viewer(
        account_id=row["account_id"],
        profile_id=row["profile_id"],
        name=row["name"],
        timezone=row["timezone"],
        calendar=calendar,
    )


def _with_hints(day: DayTotals, hints: str | None) -> DayTotals:
    if hints is None:
        return day
    return msgspec.structs.replace(day, hints=msgspec.json.decode(hints, type=tuple[TamperHint, ...]))


def _granted(row: Record) -> Granted:
    return Granted(row["count"], row["minutes"], row["unlimited"])


def _counted(started_ms: int, last_beat_ms: int, uncounted_ms: Sequence[int]) -> tuple[TimeRange, ...]:
    """The time ranges in which a session's part was counted."""
    return tuple(uncovered((started_ms, last_beat_ms), _pairs(uncounted_ms)))


def _pairs(bounds_ms: Sequence[int]) -> tuple[TimeRange, ...]:
    return tuple(zip(bounds_ms[::2], bounds_ms[1::2], strict=True))


def _part(row: Record) -> SessionPart:
    """A row of ``_SESSIONS``; bounds of what was not counted come in pairs."""
    return SessionPart(
        session_id=row["session_id"],
        day=row["day"],
        title_id=row["title_id"],
        title_name=row["title_name"],
        device_id=row["device_id"],
        device_type=row["device_type"],
        is_educational=row["is_educational"],
        started_ms=row["started_ms"],
        last_beat_ms=row["last_beat_ms"],
        has_ended=row["has_ended"],
        counted_ms=row["used_ms"],
        educational_ms=row["educational_ms"],
        overrun_ms=row["overrun_ms"],
        source=Source(row["source"]),
        uncounted=_pairs(row["uncounted_ms"]),
    )
