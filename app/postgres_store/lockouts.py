"""Tries of PINs and passwords, where they outlive Redis.

Each change locks its row first, so comparisons of one account are reserved and concluded one after the other.
"""

from collections.abc import Sequence

from sqlalchemy import BigInteger, ColumnElement, String, bindparam, delete, literal, select, update
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID, insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.auth.lockout_rules import Admission, Reservation, Rule, TryState
from app.postgres_store.access import connection, transaction
from app.postgres_store.tables import accounts, lockouts

_given = insert(lockouts).from_select(
    ["account_id", "kind", "tried_ms", "reserved_ms"],
    select(
        accounts.c.id,
        bindparam("kind", type_=String),
        literal([], ARRAY(BigInteger)),
        literal({}, JSONB),
    )
    .where(accounts.c.id == bindparam("subject_id", type_=UUID(as_uuid=False)))
    .with_for_update(read=True, key_share=True),  # an account that is being erased is none any more
)
_HOLD = _given.on_conflict_do_update(
    index_elements=["account_id", "kind"], set_={"kind": _given.excluded.kind}
).returning(lockouts.c.tried_ms, lockouts.c.reserved_ms)


class PostgresLockouts:
    """Every call may raise DatabaseUnavailable. ``subject_id`` is a UUID; nothing is stored for an unknown account."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def reserve(self, subject_id: str, rule: Rule, reservation: Reservation) -> tuple[Admission, Sequence[int]]:
        """Whether a comparison may be made, and the instants (ms) of the wrong attempts that count."""
        async with transaction(self._engine) as database:
            state = await _held(database, subject_id, rule.kind)
            if state is None:
                return Admission(), ()
            state, admission = state.reserve(reservation, rule)
            await _store(database, subject_id, rule.kind, state)
        return admission, state.tried_ms

    async def conclude(self, subject_id: str, rule: Rule, reservation: Reservation, *, is_right: bool | None) -> None:
        async with transaction(self._engine) as database:
            state = await _held(database, subject_id, rule.kind)
            if state is not None:
                after = state.conclude(reservation, rule, is_right=is_right)
                await _store(database, subject_id, rule.kind, after)

    async def read(self, subject_id: str, kind: str) -> list[int]:
        """The instants (ms) of the wrong attempts, ascending."""
        async with connection(self._engine) as database:
            found = await database.execute(select(lockouts.c.tried_ms).where(_mine(subject_id, kind)))
            return list(found.scalar_one_or_none() or ())

    async def clear(self, subject_id: str, kind: str) -> None:
        """Forget wrong attempts. Comparisons under way still end normally."""
        async with transaction(self._engine) as database:
            state = await _held(database, subject_id, kind)
            if state is not None:
                await _store(database, subject_id, kind, TryState(reserved_ms=state.reserved_ms))


def _mine(subject_id: str, kind: str) -> ColumnElement[bool]:
    return (lockouts.c.account_id == subject_id) & (lockouts.c.kind == kind)


async def _held(database: AsyncConnection, subject_id: str, kind: str) -> TryState | None:
    """The attempts of an account, locked until this transaction ends; None if there is no such account."""
    row = (await database.execute(_HOLD, {"subject_id": subject_id, "kind": kind})).one_or_none()
    return None if row is None else TryState(tried_ms=tuple(row.tried_ms), reserved_ms=row.reserved_ms)


async def _store(database: AsyncConnection, subject_id: str, kind: str, state: TryState) -> None:
    mine = _mine(subject_id, kind)
    if not state.tried_ms and not state.reserved_ms:
        await database.execute(delete(lockouts).where(mine))
        return
    values = {"tried_ms": list(state.tried_ms), "reserved_ms": dict(state.reserved_ms)}
    await database.execute(update(lockouts).where(mine).values(values))
