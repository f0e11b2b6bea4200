"""Tries of PINs and passwords, where they outlive Redis."""

from collections.abc import Sequence

from sqlalchemy import BigInteger, String, bindparam, delete, select
from sqlalchemy.dialects.postgresql import ARRAY, UUID, insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres_store.access import connection, transaction
from app.postgres_store.tables import accounts, lockouts

_given = insert(lockouts).from_select(
    ["account_id", "kind", "tried_ms"],
    select(accounts.c.id, bindparam("kind", type_=String), bindparam("tried_ms", type_=ARRAY(BigInteger)))
    .where(accounts.c.id == bindparam("subject_id", type_=UUID(as_uuid=False)))
    .with_for_update(read=True, key_share=True),  # an account that is being erased is none any more
)
_KEEP = _given.on_conflict_do_update(
    index_elements=["account_id", "kind"],
    set_={"tried_ms": _given.excluded.tried_ms},
    where=_given.excluded.tried_ms > lockouts.c.tried_ms,
)


class PostgresLockouts:
    """Every call may raise DatabaseUnavailable. ``subject_id`` is a UUID."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def keep(self, subject_id: str, kind: str, tried_ms: Sequence[int]) -> None:
        """Keep the instants of tries unless later ones are there; nothing for who is no account."""
        async with transaction(self._engine) as database:
            await database.execute(_KEEP, {"subject_id": subject_id, "kind": kind, "tried_ms": list(tried_ms)})

    async def read(self, subject_id: str, kind: str) -> list[int]:
        mine = (lockouts.c.account_id == subject_id) & (lockouts.c.kind == kind)
        async with connection(self._engine) as database:
            found = await database.execute(select(lockouts.c.tried_ms).where(mine))
            return list(found.scalar_one_or_none() or ())

    async def clear(self, subject_id: str, kind: str) -> None:
        mine = (lockouts.c.account_id == subject_id) & (lockouts.c.kind == kind)
        async with transaction(self._engine) as database:
            await database.execute(delete(lockouts).where(mine))
