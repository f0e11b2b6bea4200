"""Whom shadow mode would have blocked: what children in it watched beyond their allowance."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from datetime import date

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.platform import ShadowDay
from app.postgres_store.access import Query, transaction
from app.timestamps import utc

# Without a mode of their own, profiles have that of their market; a market that is not in the file has the default.
_SHADOW_DAYS = Query("""
SELECT p.account_id::text AS account_id, a.external_id AS external_account_id, p.id::text AS profile_id,
       p.external_id AS external_profile_id, a.market, b.day, b.overrun_ms
  FROM viewing_time_balances b
  JOIN profiles p ON p.id = b.profile_id
  JOIN accounts a ON a.id = p.account_id
 WHERE b.day BETWEEN :first AND :last AND b.overrun_ms > 0 AND p.is_kids
   AND COALESCE(p.enforcement = 'shadow', CASE WHEN a.market = ANY(CAST(:known AS text[]))
                                               THEN a.market = ANY(CAST(:shadow AS text[]))
                                               ELSE CAST(:default_is_shadow AS boolean) END)
   AND (CAST(:market AS text) IS NULL OR a.market = CAST(:market AS text))
   AND (b.day, b.profile_id) > (CAST(:after_day AS date), CAST(:after_id AS uuid))
 ORDER BY b.day, b.profile_id
 LIMIT :most
""")
# An erasure goes first, and no entry comes back after it, or it waits.
_NOTE_READING = text("""
INSERT INTO audit_log (account_id, profile_id, actor, action, at, detail)
SELECT account_id, id, :actor, 'shadow_report_read', :at, CAST(:detail AS jsonb)
  FROM (SELECT id, account_id FROM profiles WHERE id = ANY(CAST(:profile_ids AS uuid[]))
         ORDER BY id FOR KEY SHARE) read
""")
_FIRST_ID = "00000000-0000-0000-0000-000000000000"


class PostgresShadowReport:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def days(
        self,
        *,
        first: date,
        last: date,
        known: Collection[str],
        shadow: Collection[str],
        default_is_shadow: bool,
        market: str | None,
        after: tuple[date, str] | None,
        most: int,
    ) -> list[ShadowDay]:
        """Days in order, and the children of a day by id.

        Args:
            first: the first viewing day.
            last: the last viewing day.
            known: the markets of the markets file.
            shadow: those of them in shadow mode.
            default_is_shadow: whether accounts without a known market are in shadow mode.
            market: only of accounts of this market.
            after: day and profile of the last row of the page before.
            most: the most rows.
        """
        after_day, after_id = after or (first, _FIRST_ID)
        rows = await _SHADOW_DAYS.rows(
            self._engine,
            first=first,
            last=last,
            known=list(known),
            shadow=list(shadow),
            default_is_shadow=default_is_shadow,
            market=market,
            after_day=after_day,
            after_id=after_id,
            most=most,
        )
        return [ShadowDay(**dict(row)) for row in rows]

    async def note_reading(self, days: Sequence[ShadowDay], *, actor: str, at_ms: int) -> None:
        """Enter into the audit log of each child's account that its days were read, and how many."""
        read = Counter(day.profile_id for day in days)
        counts: dict[int, list[str]] = defaultdict(list)
        for profile_id, count in read.items():
            counts[count].append(profile_id)
        async with transaction(self._engine) as database:
            for count, profile_ids in sorted(counts.items()):
                values = {
                    "actor": actor,
                    "at": utc(at_ms),
                    "profile_ids": profile_ids,
                    "detail": f'{{"days": {count}}}',
                }
                await database.execute(_NOTE_READING, values)
