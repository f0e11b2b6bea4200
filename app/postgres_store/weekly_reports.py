"""Prepared weekly reports. They are kept longer than the sessions that they were made from.

A row counts the changes that its report does not contain yet. It is inserted with one change, and every late write to a
day of the report adds one. A report is stored only if no change was added since its preparation began. So no change is
missed by concurrent or interrupted runs.
"""

from collections.abc import Mapping, Sequence
from datetime import date
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.feed import FeedEvent, ReportReady
from app.domain.report import WeeklyReport
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.timestamps import utc

_NIL = str(UUID(int=0))

# Where to begin is said of each table: the planner infers it of none, and would read each from its start.
_MISSING = text("""
SELECT a.id::text
  FROM accounts a
 WHERE a.id > CAST(:after AS uuid)
   AND EXISTS (SELECT FROM profiles p
                WHERE p.account_id = a.id AND p.account_id > CAST(:after AS uuid) AND p.is_kids)
   AND NOT EXISTS (SELECT FROM weekly_reports w
                    WHERE w.account_id = a.id AND w.account_id > CAST(:after AS uuid) AND w.week_ending = :week_end)
 ORDER BY a.id
 LIMIT :most
""")
_ENTER = text("""
INSERT INTO weekly_reports (account_id, week_ending, changes)
SELECT a.id, :week_end, 1 FROM accounts a WHERE a.id = ANY(CAST(:account_ids AS uuid[]))
    ON CONFLICT (account_id, week_ending) DO NOTHING
""")
_CHANGED = text("""
SELECT week_ending, account_id::text AS account_id, changes
  FROM weekly_reports
 WHERE changes > 0 AND week_ending >= :since AND (week_ending, account_id) > (:week_end, CAST(:after AS uuid))
 ORDER BY week_ending, weekly_reports.account_id
 LIMIT :most
""")
# A report contains its week and the total of the week before.
_NOTE_CHANGES = """
UPDATE weekly_reports w
   SET changes = w.changes + 1
  FROM (SELECT w.account_id, w.week_ending
          FROM unnest($1::uuid[], $2::int[]) AS n(profile_id, day)
          JOIN profiles p ON p.id = n.profile_id
          JOIN weekly_reports w ON w.account_id = p.account_id
           AND w.week_ending BETWEEN DATE '1970-01-01' + n.day AND DATE '1970-01-01' + n.day + 13
         ORDER BY w.account_id, w.week_ending
           FOR UPDATE OF w) n
 WHERE w.account_id = n.account_id AND w.week_ending = n.week_ending
"""
_STILL_THERE = text("SELECT id::text FROM profiles WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR KEY SHARE")
_KEEP = text("""
UPDATE weekly_reports w
   SET report = n.report::jsonb, as_of = n.as_of, changes = 0
  FROM unnest(CAST(:account_ids AS uuid[]), CAST(:changes AS int[]), CAST(:reports AS text[]),
              CAST(:as_of AS timestamptz[])) AS n(account_id, changes, report, as_of)
  JOIN weekly_reports before ON before.account_id = n.account_id AND before.week_ending = :week_end
 WHERE w.account_id = n.account_id AND w.week_ending = :week_end AND w.changes = n.changes
RETURNING w.account_id::text AS account_id, before.report IS NULL AS is_first
""")
_FIND = text("""
SELECT report::text FROM weekly_reports
 WHERE account_id = :account_id AND week_ending = :week_end AND report IS NOT NULL
""")


async def note_changes(database: AsyncConnection, days: Sequence[tuple[str, int]]) -> None:
    """Note in a transaction that it changes past days, given by profile and day number.

    Rows are locked in one order, so that writers wait for each other instead of deadlocking.
    """
    if days:
        columns = ([profile_id for profile_id, _ in days], [day_number for _, day_number in days])
        await database.exec_driver_sql(_NOTE_CHANGES, columns)


class PostgresWeeklyReports:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._feed = feed

    async def missing(self, week_end: date, *, after: str, most: int) -> list[str]:
        """Accounts with children whose report of a week is not entered yet, by their ids from ``after`` on."""
        async with connection(self._engine) as database:
            values = {"week_end": week_end, "after": after or _NIL, "most": most}
            return list((await database.execute(_MISSING, values)).scalars())

    async def enter(self, account_ids: Sequence[str], week_end: date) -> None:
        """Enter the reports of a week that are to be made; those that are there already stay."""
        async with transaction(self._engine) as database:
            await database.execute(_ENTER, {"account_ids": account_ids, "week_end": week_end})

    async def changed(self, *, since: date, after: tuple[date, str], most: int) -> list[tuple[date, str, int]]:
        """Reports of weeks from ``since`` on that do not know everything: week, account, and how much they do not.

        In the order of weeks and accounts, from ``after`` on.
        """
        async with connection(self._engine) as database:
            values = {"since": since, "week_end": after[0], "after": after[1] or _NIL, "most": most}
            rows = (await database.execute(_CHANGED, values)).mappings()
            return [(row["week_ending"], row["account_id"], row["changes"]) for row in rows]

    async def keep(self, week_end: date, reports: Mapping[str, tuple[int, WeeklyReport]]) -> int:
        """Put reports into their rows, by account, each with the number of changes it was made to know.

        A report is left out where changes were noted meanwhile. So is one of a child that was erased meanwhile, which
        must not come back: children are held until the reports are there for their erasure to find.

        Returns:
            How many are kept.
        """
        children = sorted(week.profile_id for _, report in reports.values() for week in report.children)
        async with transaction(self._engine) as database:
            there = set((await database.execute(_STILL_THERE, {"ids": children})).scalars())
            whole = {
                account_id: (changes, report)
                for account_id, (changes, report) in sorted(reports.items())
                if all(week.profile_id in there for week in report.children)
            }
            values = {
                "week_end": week_end,
                "account_ids": list(whole),
                "changes": [changes for changes, _ in whole.values()],
                "reports": [msgspec.json.encode(report).decode() for _, report in whole.values()],
                "as_of": [utc(report.as_of_ms) for _, report in whole.values()],
            }
            kept = (await database.execute(_KEEP, values)).all()
            for account_id in sorted(row.account_id for row in kept if row.is_first):
                at_ms = whole[account_id][1].as_of_ms
                ready = FeedEvent(
                    facts=ReportReady(week_ending=week_end),
                    cause=(account_id, week_end),
                    at_ms=at_ms,
                    account_id=account_id,
                )
                await self._feed.write(database, ready, at_ms=at_ms)
        return len(kept)

    async def find(self, account_id: str, week_end: date) -> WeeklyReport | None:
        """The report of a week, if it was prepared."""
        if not is_uuid(account_id):
            return None
        async with connection(self._engine) as database:
            found = await database.execute(_FIND, {"account_id": account_id, "week_end": week_end})
            report = found.scalar_one_or_none()
        return None if report is None else msgspec.json.decode(report, type=WeeklyReport)
