"""What admins read, and the note of it."""

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.support import BucketState, DeadLetter, ProfileKind
from app.errors import NotFound, ProfileAccessDenied
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.tables import accounts, flush_state, parked_rows, profiles
from app.timestamps import ms_of, ms_or_none


class PostgresAdminRecords:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def note_reading(
        self, *, admin: str, what: str, account_id: str | None, profile_id: str | None = None, at_ms: int
    ) -> None:
        """Enter a reading into the audit log of the account.

        An erasure waits for it or is seen by it, so no entry comes back after one.

        Raises:
            NotFound: there is no such account.
            ProfileAccessDenied: the account has no such profile.
        """
        async with transaction(self._engine) as database:
            if account_id is not None:
                if not is_uuid(account_id):
                    raise NotFound
                held = select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True)
                if (await database.execute(held)).first() is None:
                    raise NotFound
            if profile_id is not None:
                mine = select(profiles.c.id).where(profiles.c.id == profile_id, profiles.c.account_id == account_id)
                if not is_uuid(profile_id) or (await database.execute(mine)).first() is None:
                    raise ProfileAccessDenied
            await note(
                database,
                account_id=account_id,
                profile_id=profile_id,
                actor=f"admin:{admin}",
                action="admin_read",
                at_ms=at_ms,
                detail={"what": what},
            )

    async def profiles(self, account_id: str) -> list[ProfileKind]:
        """The profiles of an account, oldest first."""
        mine = select(profiles.c.id, profiles.c.is_kids).where(profiles.c.account_id == account_id)
        async with connection(self._engine) as database:
            found = await database.execute(mine.order_by(profiles.c.created_at, profiles.c.id))
            return [ProfileKind(profile_id, is_kids) for profile_id, is_kids in found]

    async def dead_letters(self, account_id: str, *, before: int | None, limit: int) -> list[DeadLetter]:
        """The newest of an account, those before one if it is named."""
        mine = parked_rows.c.profile_id.in_(select(profiles.c.id).where(profiles.c.account_id == account_id))
        wanted = select(parked_rows).where(mine).order_by(parked_rows.c.id.desc()).limit(limit)
        if before is not None:
            wanted = wanted.where(parked_rows.c.id < before)
        async with connection(self._engine) as database:
            return [
                DeadLetter(
                    id=row["id"],
                    profile_id=row["profile_id"],
                    source=row["source"],
                    counters=row["counters"],
                    error=row["error"],
                    parked_at_ms=ms_of(row["parked_at"]),
                )
                for row in (await database.execute(wanted)).mappings()
            ]

    async def count_dead_letters(self) -> int:
        async with connection(self._engine) as database:
            return (await database.execute(select(func.count()).select_from(parked_rows))).scalar_one()

    async def bucket_states(self) -> list[BucketState]:
        """Buckets that were ever flushed, the one flushed longest ago first."""
        oldest_first = select(flush_state).order_by(flush_state.c.flushed_at.asc().nulls_first(), flush_state.c.bucket)
        async with connection(self._engine) as database:
            return [
                BucketState(
                    bucket=row["bucket"],
                    watermark=row["watermark"],
                    generation=row["generation"],
                    flushed_at_ms=ms_or_none(row["flushed_at"]),
                )
                for row in (await database.execute(oldest_first)).mappings()
            ]
