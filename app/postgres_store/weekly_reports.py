"""Weekly reports as they were prepared. They outlive the sessions that they were made from."""

from collections.abc import Mapping
from datetime import date
from uuid import UUID

import msgspec
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.report import WeeklyReport
from app.instants import utc
from app.postgres_store.access import connection, is_uuid, transaction

_NIL = str(UUID(int=0))

_MISSING = text("""
SELECT a.id::text
  FROM accounts a
 WHERE a.id > CAST(:after AS uuid)
   AND EXISTS (SELECT FROM profiles p WHERE p.account_id = a.id AND p.is_kids)
   AND NOT EXISTS (SELECT FROM weekly_reports w WHERE w.account_id = a.id AND w.week_ending = :week_end)
 ORDER BY a.id
 LIMIT :most
""")
_STILL_THERE = text("SELECT id::text FROM profiles WHERE id = ANY(CAST(:ids AS uuid[])) ORDER BY id FOR KEY SHARE")
_KEEP = text("""
INSERT INTO weekly_reports (account_id, week_ending, report, as_of)
SELECT n.account_id, n.week_ending, n.report::jsonb, n.as_of
  FROM unnest(CAST(:account_ids AS uuid[]), CAST(:weeks AS date[]), CAST(:reports AS text[]),
              CAST(:as_of AS timestamptz[])) AS n(account_id, week_ending, report, as_of)
    ON CONFLICT (account_id, week_ending) DO NOTHING
""")
_FIND = text("SELECT report::text FROM weekly_reports WHERE account_id = :account_id AND week_ending = :week_end")


class PostgresWeeklyReports:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def missing(self, week_end: date, *, after: str, most: int) -> list[str]:
        """Accounts with children that have no report for a week yet, in the order of their ids from ``after`` on."""
        async with connection(self._engine) as database:
            values = {"week_end": week_end, "after": after or _NIL, "most": most}
            return list((await database.execute(_MISSING, values)).scalars())

    async def keep(self, reports: Mapping[str, WeeklyReport]) -> None:
        """Keep the reports of accounts; those that are kept already stay.

        A child that was erased meanwhile must not come back in a report: the children are held until the reports are
        there for their erasure to find, and a report of one that is gone is left out.
        """
        children = sorted(week.profile_id for report in reports.values() for week in report.children)
        async with transaction(self._engine) as database:
            there = set((await database.execute(_STILL_THERE, {"ids": children})).scalars())
            whole = {
                account_id: report
                for account_id, report in reports.items()
                if all(week.profile_id in there for week in report.children)
            }
            values = {
                "account_ids": list(whole),
                "weeks": [report.week_end for report in whole.values()],
                "reports": [msgspec.json.encode(report).decode() for report in whole.values()],
                "as_of": [utc(report.as_of_ms) for report in whole.values()],
            }
            await database.execute(_KEEP, values)

    async def find(self, account_id: str, week_end: date) -> WeeklyReport | None:
        """The report of a week, if it was prepared."""
        if not is_uuid(account_id):
            return None
        async with connection(self._engine) as database:
            found = await database.execute(_FIND, {"account_id": account_id, "week_end": week_end})
            report = found.scalar_one_or_none()
        return None if report is None else msgspec.json.decode(report, type=WeeklyReport)
