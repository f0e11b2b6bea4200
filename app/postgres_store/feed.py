"""The event feed: events are written in the transaction that causes them, numbered later, and read in order.

A position is given after the commit. Transactions commit in another order than they write, so a number taken while
writing would let a reader pass an event that is committed late. ``number`` gives positions to committed events only,
one transaction at a time: it holds the single row of ``feed_state``. An event with a lower position is therefore
always visible before one with a higher position. Writers wait for nobody, and the flush neither.
"""

from asyncpg import Record
from sqlalchemy import RowMapping, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.feed import FeedEvent, FeedPage, KeptEvent
from app.postgres_store.access import Query, transaction
from app.timestamps import utc

_MAX_NUMBERED = 5000

# The account of a profile is read here, since the flush does not know it. An erased profile has none.
_WRITE = """
INSERT INTO feed_events
       (id, kind, account_id, profile_id, account_external_id, profile_external_id, occurred_at, written_at, facts)
SELECT n.id, n.kind, a.id, n.profile_id, a.external_id, p.external_id, n.occurred_at, $7, n.facts::json
  FROM unnest($1::uuid[], $2::text[], $3::uuid[], $4::uuid[], $5::timestamptz[], $6::text[]) WITH ORDINALITY
       AS n(id, kind, profile_id, account_id, occurred_at, facts, place)
  LEFT JOIN profiles p ON p.id = n.profile_id
  JOIN accounts a ON a.id = COALESCE(p.account_id, n.account_id)
 WHERE n.profile_id IS NULL OR p.id IS NOT NULL
 ORDER BY n.place
    ON CONFLICT (id) DO NOTHING
"""
EVENT_COLUMNS = """
       e.position, e.id::text AS event_id, e.kind,
       to_char(e.occurred_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24\\:MI\\:SS.MS"Z"') AS at,
       e.account_id::text AS account_id, e.profile_id::text AS profile_id, e.account_external_id,
       e.profile_external_id, e.facts::text AS facts,
       (extract(epoch FROM e.written_at) * 1000)::bigint AS written_ms"""
"""What ``kept_event`` reads of a row ``e``."""
_HOLD_STATE = text("SELECT 1 FROM feed_state FOR UPDATE SKIP LOCKED")
_NUMBER = text("""
WITH waiting AS MATERIALIZED (
     SELECT id, written FROM feed_events WHERE position IS NULL ORDER BY written LIMIT :most FOR UPDATE SKIP LOCKED
), fresh AS MATERIALIZED (
     SELECT id, row_number() OVER (ORDER BY written) AS place FROM waiting
), state AS (
     UPDATE feed_state SET last_position = last_position + (SELECT count(*) FROM fresh)
     RETURNING last_position - (SELECT count(*) FROM fresh) AS base
)
UPDATE feed_events e SET position = state.base + fresh.place FROM fresh, state WHERE e.id = fresh.id
""")
_NOTE_REMOVED = text("UPDATE feed_state SET removed_until = :position WHERE removed_until < :position")
_AFTER = Query(f"""
SELECT s.last_position, s.removed_until, EXISTS (SELECT FROM feed_events WHERE position IS NULL) AS has_unnumbered,
       {EVENT_COLUMNS}
  FROM feed_state s
  LEFT JOIN LATERAL (SELECT * FROM feed_events WHERE position > COALESCE(CAST(:after AS bigint), s.removed_until)
                      ORDER BY position LIMIT CAST(:most AS int)) e ON true
 ORDER BY e.position
""")  # noqa: S608  columns of our own


class FeedWriter:
    """Writes events in the transaction that causes them; nothing while the feed is off."""

    def __init__(self, *, is_on: bool) -> None:
        self.is_on = is_on

    async def write(self, database: AsyncConnection, *events: FeedEvent, at_ms: int) -> None:
        """Write events in order. One that was written before, and one of an erased profile, is left out."""
        if not self.is_on or not events:
            return
        columns = (
            [event.event_id for event in events],
            [event.facts.kind for event in events],
            [event.profile_id for event in events],
            [event.account_id for event in events],
            [utc(event.at_ms) for event in events],
            [event.facts_json for event in events],
            utc(at_ms),
        )
        await database.exec_driver_sql(_WRITE, columns)


def kept_event(row: Record | RowMapping) -> KeptEvent:
    """The event in a row with ``EVENT_COLUMNS``."""
    return KeptEvent(**{name: row[name] for name in KeptEvent.__struct_fields__})


NO_FEED = FeedWriter(is_on=False)


async def note_removed(database: AsyncConnection, position: int) -> None:
    """Note in a transaction that it removes events up to a position because of their age."""
    await database.execute(_NOTE_REMOVED, {"position": position})


class PostgresFeed:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def number(self) -> int:
        """Give positions to committed events, some at once; how many. None while another process does so."""
        async with transaction(self._engine) as database:
            if (await database.execute(_HOLD_STATE)).first() is None:
                return 0
            return (await database.execute(_NUMBER, {"most": _MAX_NUMBERED})).rowcount

    async def after(self, position: int | None, *, most: int) -> FeedPage:
        """The events that follow a position, in order; by default those that follow the removed ones."""
        rows = await _AFTER.rows(self._engine, after=position, most=most)
        events = tuple(kept_event(row) for row in rows if row["position"] is not None)
        return FeedPage(
            events=events,
            last_position=rows[0]["last_position"],
            removed_until=rows[0]["removed_until"],
            has_unnumbered=rows[0]["has_unnumbered"],
        )
