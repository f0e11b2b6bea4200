"""Accounts: households with their sign-in data."""

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.auth.ports import Account, Secrets
from app.errors import EmailTaken
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.tables import accounts
from app.timestamps import ms_or_none, utc


class PostgresAccounts:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, account: Account, *, at_ms: int) -> None:
        """Keep a new account. Raises EmailTaken."""
        row = {
            "id": account.id,
            "email": account.email,
            "password_hash": account.password_hash,
            "timezone": account.timezone,
            "created_at": utc(at_ms),
        }
        statement = insert(accounts).values(row).on_conflict_do_nothing(index_elements=["email"])
        async with transaction(self._engine) as database:
            added = await database.execute(statement.returning(accounts.c.id))
            if added.first() is None:
                raise EmailTaken

    async def by_email(self, email: str) -> Account | None:
        columns = (
            accounts.c.id,
            accounts.c.email,
            accounts.c.password_hash,
            accounts.c.timezone,
            accounts.c.sign_ins_ended_at,
        )
        async with connection(self._engine) as database:
            row = (await database.execute(select(*columns).where(accounts.c.email == email))).mappings().first()
        if row is None:
            return None
        return Account(
            id=row["id"],
            email=row["email"],
            password_hash=row["password_hash"],
            timezone=row["timezone"],
            sign_ins_ended_at_ms=ms_or_none(row["sign_ins_ended_at"]),
        )

    async def exists(self, account_id: str) -> bool:
        if not is_uuid(account_id):
            return False
        async with connection(self._engine) as database:
            found = await database.execute(select(accounts.c.id).where(accounts.c.id == account_id))
            return found.first() is not None

    async def secrets(self, account_id: str) -> Secrets | None:
        if not is_uuid(account_id):
            return None
        hashes = select(accounts.c.password_hash, accounts.c.pin_hash).where(accounts.c.id == account_id)
        async with connection(self._engine) as database:
            row = (await database.execute(hashes)).mappings().first()
        return None if row is None else Secrets(**row)

    async def renew_hash(self, account_id: str, kind: str, *, old: str, new: str) -> None:
        """Keep another hash of the same secret (kind pin or password), if the old one is still there."""
        column = accounts.c.pin_hash if kind == "pin" else accounts.c.password_hash
        async with transaction(self._engine) as database:
            await database.execute(
                update(accounts).where(accounts.c.id == account_id, column == old).values({column: new})
            )

    async def set_pin(
        self, account_id: str, pin_hash: str, *, instead_of: str | None, actor: str, action: str, at_ms: int
    ) -> bool:
        """Keep a PIN unless another has taken the place of ``instead_of`` meanwhile."""
        statement = (
            update(accounts)
            .where(accounts.c.id == account_id, accounts.c.pin_hash.is_not_distinct_from(instead_of))
            .values(pin_hash=pin_hash, pin_changed_at=utc(at_ms))
        )
        async with transaction(self._engine) as database:
            if (await database.execute(statement)).rowcount == 0:
                return False
            await note(
                database, account_id=account_id, profile_id=None, actor=actor, action=action, at_ms=at_ms, detail={}
            )
        return True
