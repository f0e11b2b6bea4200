"""Who did what, kept for a year. Entries hold ids and numbers, never names or notes."""

from collections.abc import Mapping

from sqlalchemy import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from app.instants import utc
from app.postgres_store.tables import audit_log


async def note(
    database: AsyncConnection,
    *,
    account_id: str,
    profile_id: str | None,
    actor: str,
    action: str,
    at_ms: int,
    detail: Mapping[str, object],
) -> None:
    """Enter an action into the audit log, in the transaction that it stands for."""
    row = {"account_id": account_id, "profile_id": profile_id, "actor": actor, "action": action, "at": utc(at_ms)}
    await database.execute(insert(audit_log).values(**row, detail=dict(detail)))
