"""Events of usage: sessions that ended, days that closed, limits that were reached.

The flush writes what it sees end, in its own transaction. A session that falls silent and a day that passes cause no
write, so the flush notes each running session and day once, and a job of the worker looks at what was noted.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.counters import Counters
from app.domain.feed import DayClosed, EndedSession, FeedEvent, LimitReached
from app.domain.policy import UNLIMITED
from app.domain.viewing_day import date_of, day_number_of
from app.kit.recent_keys import RecentKeys
from app.postgres_store.access import connection, transaction
from app.postgres_store.feed import FeedWriter
from app.postgres_store.lock import hold_off_erasures
from app.timestamps import ms_of, utc

_REMEMBERED_BITS = 21
_MAX_CLOSED = 500

_NOTE_DAYS = """
INSERT INTO feed_open_days (profile_id, day, ends_ms)
SELECT n.profile_id, DATE '1970-01-01' + n.day, n.ends_ms
  FROM unnest($1::uuid[], $2::int[], $3::bigint[]) AS n(profile_id, day, ends_ms)
 WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id = n.profile_id)
 ORDER BY n.profile_id, n.day
    ON CONFLICT DO NOTHING
"""
_NOTE_SESSIONS = """
INSERT INTO feed_open_sessions AS t (session_id, profile_id, day, started_at)
SELECT n.session_id, n.profile_id, DATE '1970-01-01' + n.day, n.started_at
  FROM unnest($1::uuid[], $2::uuid[], $3::int[], $4::timestamptz[]) AS n(session_id, profile_id, day, started_at)
 WHERE NOT EXISTS (SELECT FROM erasure_tombstones e WHERE e.subject_id = n.profile_id)
 ORDER BY n.session_id
    ON CONFLICT (session_id) DO UPDATE SET day = excluded.day, started_at = excluded.started_at
 WHERE excluded.day > t.day
"""
_FORGET_SESSIONS = "DELETE FROM feed_open_sessions WHERE session_id = ANY($1::uuid[])"
_FLUSHED = text("SELECT min(flushed_at) FROM flush_state")
_CLOSE_DAYS = text("""
WITH due AS (
     DELETE FROM feed_open_days
      WHERE ctid = ANY(ARRAY(SELECT ctid FROM feed_open_days WHERE ends_ms < :before
                              ORDER BY ends_ms LIMIT :most FOR UPDATE SKIP LOCKED))
  RETURNING profile_id, day, ends_ms
)
SELECT due.profile_id::text AS profile_id, due.day, due.ends_ms, b.limit_ms, b.used_ms + b.offline_used_ms AS used_ms,
       b.educational_ms + b.offline_educational_ms AS educational_ms,
       b.overrun_ms + b.offline_overrun_ms AS overrun_ms, b.borrowed_ms, b.owed_ms
  FROM due JOIN viewing_time_balances b ON b.profile_id = due.profile_id AND b.day = due.day
 ORDER BY due.ends_ms, due.profile_id
""")
_END_SILENT = text("""
WITH due AS MATERIALIZED (
     SELECT o.session_id, s.profile_id, s.day, s.title_id, s.device_type, s.is_educational, s.session_started_ms,
            s.last_beat_ms, s.used_ms + s.educational_ms + s.overrun_ms + s.earlier_ms AS total_ms
       FROM feed_open_sessions o
       JOIN viewing_sessions s ON s.id = o.session_id AND s.day = o.day AND s.started_at = o.started_at
      WHERE s.last_beat_ms < :before
      LIMIT :most
        FOR UPDATE OF o SKIP LOCKED
), gone AS (
     DELETE FROM feed_open_sessions o USING due WHERE o.session_id = due.session_id
)
SELECT session_id::text AS session_id, profile_id::text AS profile_id, day, title_id, device_type, is_educational,
       session_started_ms, last_beat_ms, total_ms
  FROM due ORDER BY last_beat_ms, session_id
""")


@dataclass
class UsageNews:
    """What a flush adds to the feed. ``keys`` are remembered once it is committed."""

    events: list[FeedEvent] = field(default_factory=list)
    days: list[tuple[str, int, int]] = field(default_factory=list)
    sessions: dict[str, tuple[str, int, int]] = field(default_factory=dict)
    ended: set[str] = field(default_factory=set)
    keys: list[tuple[object, ...]] = field(default_factory=list)


class UsageFeed:
    """Every call but ``news`` and ``remember`` may raise DatabaseUnavailable.

    Args:
        engine: of the database.
        feed: writes events.
        settling_ms: a session that was silent for so long has ended, and a day that ended so long ago is closed.
            Longer than the longest gap that counts and the longest time until a beat is flushed.
    """

    def __init__(self, engine: AsyncEngine, feed: FeedWriter, *, settling_ms: int) -> None:
        self._engine = engine
        self._feed = feed
        self._settling_ms = settling_ms
        self._noted = RecentKeys(_REMEMBERED_BITS if feed.is_on else 0)

    # --- in the transaction of a flush

    def news(self, entries: Iterable[tuple[str, Counters]]) -> UsageNews:
        """What these counters add to what was written before. Most flushed children add nothing."""
        news = UsageNews()
        if not self._feed.is_on:
            return news
        for profile_id, counters in entries:
            day = counters.day_number
            is_known = not counters.has_ended and (counters.session_id, day) in self._noted  # and so is its day
            if is_known and (counters.used_ms < counters.allowance_ms or counters.allowance_ms == UNLIMITED):
                continue
            if self._is_new(news, ("day", profile_id, day)):
                news.days.append((profile_id, day, counters.day_ends_ms))
            if UNLIMITED < counters.allowance_ms <= counters.used_ms and self._is_new(
                news, ("limit", profile_id, day, counters.allowance_ms)
            ):
                news.events.append(_limit_reached(profile_id, counters))
            if counters.has_session_part:
                self._add_session(news, profile_id, counters)
        for session_id in news.ended:
            news.sessions.pop(session_id, None)
        return news

    def _add_session(self, news: UsageNews, profile_id: str, counters: Counters) -> None:
        session_id, day = counters.session_id, counters.day_number
        if counters.has_ended:
            if self._is_new(news, ("ended", session_id, counters.last_beat_ms)):
                news.events.append(_session_ended(profile_id, counters))
                news.ended.add(session_id)
        elif self._is_new(news, (session_id, day)):
            known = news.sessions.get(session_id)
            if known is None or known[1] < day:
                started_ms = max(counters.session_started_ms, counters.day_starts_ms)
                news.sessions[session_id] = (profile_id, day, started_ms)

    def _is_new(self, news: UsageNews, key: tuple[object, ...]) -> bool:
        if key in self._noted:
            return False
        news.keys.append(key)
        return True

    async def write(self, database: AsyncConnection, news: UsageNews, *, at_ms: int) -> None:
        """Write events, and note running sessions and days, in the transaction of the flush."""
        if news.days:
            await database.exec_driver_sql(_NOTE_DAYS, tuple(map(list, zip(*news.days, strict=True))))
        if news.sessions:
            profile_ids, days, started = zip(*news.sessions.values(), strict=True)
            columns = (list(news.sessions), list(profile_ids), list(days), [utc(ms) for ms in started])
            await database.exec_driver_sql(_NOTE_SESSIONS, columns)
        if news.ended:
            await database.exec_driver_sql(_FORGET_SESSIONS, (list(news.ended),))
        await self._feed.write(database, *news.events, at_ms=at_ms)

    def remember(self, news: UsageNews) -> None:
        """Call it after the commit."""
        for key in news.keys:
            self._noted.add(key)

    # --- on the schedule of the worker that flushes

    async def close(self, *, at_ms: int) -> int:
        """Write the events of sessions that fell silent and of days that have passed; how many."""
        if not self._feed.is_on:
            return 0
        async with connection(self._engine) as database:
            flushed_at = (await database.execute(_FLUSHED)).scalar_one()
        if flushed_at is None:
            return 0
        before_ms, count = min(ms_of(flushed_at), at_ms) - self._settling_ms, 0
        while some := await self._end_silent(before_ms, at_ms=at_ms):
            count += some
        while some := await self._close_days(before_ms, at_ms=at_ms):
            count += some
        return count

    async def _end_silent(self, before_ms: int, *, at_ms: int) -> int:
        async with transaction(self._engine) as database:
            await hold_off_erasures(database)
            found = await database.execute(_END_SILENT, {"before": before_ms, "most": _MAX_CLOSED})
            rows = found.mappings().all()
            await self._feed.write(database, *map(_silent, rows), at_ms=at_ms)
        for row in rows:  # a claim may revive the session, which is then noted again
            self._noted.discard((row["session_id"], day_number_of(row["day"])))
        return len(rows)

    async def _close_days(self, before_ms: int, *, at_ms: int) -> int:
        async with transaction(self._engine) as database:
            await hold_off_erasures(database)
            found = await database.execute(_CLOSE_DAYS, {"before": before_ms, "most": _MAX_CLOSED})
            rows = found.mappings().all()
            await self._feed.write(database, *map(_closed, rows), at_ms=at_ms)
        return len(rows)


def _limit_reached(profile_id: str, counters: Counters) -> FeedEvent:
    return FeedEvent(
        facts=LimitReached(day=date_of(counters.day_number), allowance_seconds=counters.allowance_ms / 1000),
        cause=(profile_id, counters.day_number, counters.allowance_ms),
        at_ms=counters.last_beat_ms or counters.version,
        profile_id=profile_id,
    )


def _session_ended(profile_id: str, counters: Counters) -> FeedEvent:
    facts = EndedSession(
        session_id=counters.session_id,
        day=date_of(counters.day_number),
        title_id=counters.title_id,
        device_type=counters.device_type,
        is_educational=bool(counters.is_educational),
        started_at=utc(counters.session_started_ms),
        ended_at=utc(counters.last_beat_ms),
        total_seconds=counters.session_total_ms / 1000,
        fell_silent=False,
    )
    return _of_session(profile_id, facts, counters.last_beat_ms)


def _silent(row: RowMapping) -> FeedEvent:
    facts = EndedSession(
        session_id=row["session_id"],
        day=row["day"],
        title_id=row["title_id"],
        device_type=row["device_type"],
        is_educational=row["is_educational"],
        started_at=utc(row["session_started_ms"]),
        ended_at=utc(row["last_beat_ms"]),
        total_seconds=row["total_ms"] / 1000,
        fell_silent=True,
    )
    return _of_session(row["profile_id"], facts, row["last_beat_ms"])


def _of_session(profile_id: str, facts: EndedSession, ended_ms: int) -> FeedEvent:
    """A session that a claim revives ends again, later: that is another event."""
    return FeedEvent(facts=facts, cause=(facts.session_id, ended_ms), at_ms=ended_ms, profile_id=profile_id)


def _closed(row: RowMapping) -> FeedEvent:
    facts = DayClosed(
        day=row["day"],
        used_seconds=row["used_ms"] / 1000,
        educational_seconds=row["educational_ms"] / 1000,
        overrun_seconds=row["overrun_ms"] / 1000,
        limit_seconds=None if row["limit_ms"] is None else row["limit_ms"] / 1000,
        borrowed_seconds=row["borrowed_ms"] / 1000,
        owed_seconds=row["owed_ms"] / 1000,
    )
    cause = (row["profile_id"], row["day"])
    return FeedEvent(facts=facts, cause=cause, at_ms=row["ends_ms"], profile_id=row["profile_id"])
