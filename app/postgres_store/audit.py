"""Who did what, kept for a year. Entries hold ids and numbers, never names or notes."""

from collections.abc import Mapping

from sqlalchemy import insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.audit import AuditEntry
from app.postgres_store.access import connection, is_uuid
from app.postgres_store.tables import audit_log
from app.timestamps import ms_of, utc


async def note(
    database: AsyncConnection,
    *,
    account_id: str | None,
    profile_id: str | None,
    actor: str,
    action: str,
    at_ms: int,
    detail: Mapping[str, object],
) -> None:
    """Write an action into the audit log, in the transaction of the action."""
    row = {"account_id": account_id, "profile_id": profile_id, "actor": actor, "action": action, "at": utc(at_ms)}
    await database.execute(insert(audit_log).values(**row, detail=dict(detail)))


class PostgresAudit:
    """The audit log, read."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def entries(self, account_id: str, *, before: int | None, limit: int) -> list[AuditEntry]:
        """The newest entries of an account, those before an entry if one is named. Raises DatabaseUnavailable."""
        if not is_uuid(account_id):
            return []
        place = (audit_log.c.at, audit_log.c.id)
        wanted = select(audit_log).where(audit_log.c.account_id == account_id)
        if before is not None:  # one that has left by its age has left with all before it
            known = select(*place).where(audit_log.c.id == before, audit_log.c.account_id == account_id)
            wanted = wanted.where(tuple_(*place) < known.scalar_subquery())
        newest_first = wanted.order_by(audit_log.c.at.desc(), audit_log.c.id.desc()).limit(limit)
        async with connection(self._engine) as database:
            return [
                AuditEntry(
                    entry_id=row["id"],
                    at_ms=ms_of(row["at"]),
                    actor=row["actor"],
                    action=row["action"],
                    profile_id=row["profile_id"],
                    detail=row["detail"] or {},
                )
                for row in (await database.execute(newest_first)).mappings()
            ]
