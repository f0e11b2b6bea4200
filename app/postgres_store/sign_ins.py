"""Sign-ins of households, and what the owners of an account change about it."""

import msgspec
from sqlalchemy import ColumnElement, RowMapping, and_, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.auth.sign_ins import AccountSummary, Ended
from app.auth.tokens import Principal, RefreshToken
from app.domain.sign_in import Rotation, SignIn
from app.errors import EmailTaken, Unauthenticated, WrongCredentials
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.tables import accounts, devices, sign_ins
from app.timestamps import ms_of, ms_or_none, utc


class PostgresSignIns:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, sign_in: SignIn, *, ended_at_ms: int | None, max_sign_ins: int) -> Ended:
        """Keep a new sign-in; answers those that had to end for it.

        The hash of the password is no sign of its change: it is renewed while the pepper rotates.

        A change of the password waits for this or is seen by it: no sign-in with the old one outlives the change.

        Raises:
            WrongCredentials: the account is gone, or all its sign-ins have ended since ``ended_at_ms`` was read.
        """
        at_ms = sign_in.created_at_ms
        async with transaction(self._engine) as database:
            account = select(accounts.c.id).where(
                accounts.c.id == sign_in.account_id,
                accounts.c.sign_ins_ended_at.is_not_distinct_from(None if ended_at_ms is None else utc(ended_at_ms)),
            )
            if (await database.execute(account.with_for_update(read=True))).first() is None:
                raise WrongCredentials
            await database.execute(insert(sign_ins).values(_row(sign_in)))
            surplus = (
                select(sign_ins.c.id)
                .where(sign_ins.c.account_id == sign_in.account_id, _goes_on(at_ms), sign_ins.c.id != sign_in.id)
                .order_by(sign_ins.c.refreshed_at.desc(), sign_ins.c.id)
                .offset(max_sign_ins - 1)
            )
            ended = update(sign_ins).where(sign_ins.c.id.in_(surplus)).values(ended_at=utc(at_ms))
            found = await database.execute(ended.returning(sign_ins.c.id))
            return Ended(sign_in_ids=tuple(found.scalars()))

    async def use(self, token: RefreshToken, *, at_ms: int, expires_at_ms: int) -> tuple[SignIn, Rotation]:
        """Use a refresh token. Raises Unauthenticated when its sign-in or account is not there."""
        if not is_uuid(token.account_id):
            raise Unauthenticated
        mine = (sign_ins.c.id == token.sign_in_id) & (sign_ins.c.account_id == token.account_id)
        async with transaction(self._engine) as database:
            if token.is_older:
                await _adopt(database, token, at_ms=at_ms)
            row = (await database.execute(select(sign_ins).where(mine).with_for_update())).mappings().one_or_none()
            if row is None:
                raise Unauthenticated
            before = _sign_in(row)
            after, rotation = before.use(token.serial, at_ms=at_ms, expires_at_ms=expires_at_ms)
            if after is not before:
                await database.execute(update(sign_ins).where(mine).values(_row(after)))
            if rotation is Rotation.REUSED:
                await _note(
                    database,
                    token.account_id,
                    actor="hourglass",
                    action="refresh_token_reused",
                    at_ms=at_ms,
                    sign_in_id=before.id,
                )
        return after, rotation

    async def of_account(self, account_id: str, *, at_ms: int) -> list[SignIn]:
        """Those that go on, the one refreshed last first."""
        if not is_uuid(account_id):
            return []
        current = select(sign_ins).where(sign_ins.c.account_id == account_id, _goes_on(at_ms))
        async with connection(self._engine) as database:
            found = await database.execute(current.order_by(sign_ins.c.refreshed_at.desc(), sign_ins.c.id))
            return [_sign_in(row) for row in found.mappings()]

    async def end(self, account_id: str, sign_in_id: str, *, actor: str, at_ms: int) -> bool:
        """Whether the account has or had this sign-in; it has ended now."""
        if not (is_uuid(account_id) and is_uuid(sign_in_id)):
            return False
        mine = (sign_ins.c.id == sign_in_id) & (sign_ins.c.account_id == account_id)
        async with transaction(self._engine) as database:
            ended = await database.execute(
                update(sign_ins).where(mine, sign_ins.c.ended_at.is_(None)).values(ended_at=utc(at_ms))
            )
            if ended.rowcount == 0:
                return (await database.execute(select(sign_ins.c.id).where(mine))).first() is not None
            await _note(database, account_id, actor=actor, action="sign_in_ended", at_ms=at_ms, sign_in_id=sign_in_id)
        return True

    async def end_all(self, account_id: str, *, actor: str, at_ms: int) -> Ended:
        """End every sign-in and parent device of an account."""
        if not is_uuid(account_id):
            return Ended()
        async with transaction(self._engine) as database:
            held = update(accounts).where(accounts.c.id == account_id).values(sign_ins_ended_at=utc(at_ms))
            if (await database.execute(held)).rowcount == 0:
                return Ended()
            ended = await _end_others(database, account_id, at_ms=at_ms, sign_in_id=None, device_id=None)
            await _note(database, account_id, actor=actor, action="signed_out_everywhere", at_ms=at_ms)
        return ended

    async def change_password(
        self, caller: Principal, password_hash: str, *, instead_of: str, actor: str, at_ms: int
    ) -> Ended | None:
        """Keep a password and end all others' sign-ins and devices; None when another password is in force."""
        mine = (accounts.c.id == caller.account_id) & (accounts.c.password_hash == instead_of)
        changed = {"password_hash": password_hash, "sign_ins_ended_at": utc(at_ms)}
        async with transaction(self._engine) as database:
            if (await database.execute(update(accounts).where(mine).values(changed))).rowcount == 0:
                return None
            ended = await _end_others(
                database,
                caller.account_id,
                at_ms=at_ms,
                sign_in_id=caller.sign_in_id,
                device_id=caller.device_id,
            )
            await _note(database, caller.account_id, actor=actor, action="password_changed", at_ms=at_ms)
        return ended

    async def change_email(self, account_id: str, email: str, *, actor: str, at_ms: int) -> None:
        """Raises EmailTaken, Unauthenticated."""
        try:
            async with transaction(self._engine) as database:
                changed = update(accounts).where(accounts.c.id == account_id).values(email=email)
                if (await database.execute(changed)).rowcount == 0:
                    raise Unauthenticated
                await _note(database, account_id, actor=actor, action="email_changed", at_ms=at_ms)
        except IntegrityError as error:
            raise EmailTaken from error

    async def summary(self, account_id: str) -> AccountSummary:
        """Raises Unauthenticated: the account is gone."""
        if not is_uuid(account_id):
            raise Unauthenticated
        columns = (accounts.c.email, accounts.c.timezone, accounts.c.pin_hash.is_not(None), accounts.c.created_at)
        async with connection(self._engine) as database:
            row = (await database.execute(select(*columns).where(accounts.c.id == account_id))).one_or_none()
        if row is None:
            raise Unauthenticated
        email, timezone, has_pin, created_at = row
        return AccountSummary(
            account_id=account_id, email=email, timezone=timezone, has_pin=has_pin, created_at_ms=ms_of(created_at)
        )


async def _adopt(database: AsyncConnection, token: RefreshToken, *, at_ms: int) -> None:
    """Keep a sign-in for a refresh token from before there were any. Raises Unauthenticated when it may not go on."""
    ended_at = (
        await database.execute(
            select(func.coalesce(accounts.c.sign_ins_ended_at, utc(0)))
            .where(accounts.c.id == token.account_id)
            .with_for_update(read=True)
        )
    ).scalar_one_or_none()
    if ended_at is None or token.issued_at_ms <= ms_of(ended_at):
        raise Unauthenticated
    adopted = SignIn(
        id=token.sign_in_id,
        account_id=token.account_id,
        created_at_ms=token.issued_at_ms,
        refreshed_at_ms=at_ms,
        expires_at_ms=token.expires_at_ms,
        serial=token.serial,
    )
    await database.execute(upsert(sign_ins).values(_row(adopted)).on_conflict_do_nothing())


async def _end_others(
    database: AsyncConnection, account_id: str, *, at_ms: int, sign_in_id: str | None, device_id: str | None
) -> Ended:
    """End what goes on, apart from one sign-in or device."""
    others = sign_ins.c.id.is_distinct_from(sign_in_id)
    ended = update(sign_ins).where(sign_ins.c.account_id == account_id, sign_ins.c.ended_at.is_(None), others)
    ended_ids = await database.execute(ended.values(ended_at=utc(at_ms)).returning(sign_ins.c.id))
    revoked = update(devices).where(
        and_(
            devices.c.account_id == account_id,
            devices.c.revoked_at.is_(None),
            devices.c.id.is_distinct_from(device_id),
        )
    )
    revoked_ids = await database.execute(revoked.values(revoked_at=utc(at_ms)).returning(devices.c.id))
    return Ended(sign_in_ids=tuple(ended_ids.scalars()), device_ids=tuple(revoked_ids.scalars()))


async def _note(
    database: AsyncConnection, account_id: str, *, actor: str, action: str, at_ms: int, **detail: object
) -> None:
    await note(database, account_id=account_id, profile_id=None, actor=actor, action=action, at_ms=at_ms, detail=detail)


def _goes_on(at_ms: int) -> ColumnElement[bool]:
    return and_(sign_ins.c.ended_at.is_(None), sign_ins.c.expires_at > utc(at_ms))


def _row(sign_in: SignIn) -> dict[str, object]:
    return {
        "id": sign_in.id,
        "account_id": sign_in.account_id,
        "device_name": sign_in.device_name,
        "created_at": utc(sign_in.created_at_ms),
        "refreshed_at": utc(sign_in.refreshed_at_ms),
        "expires_at": utc(sign_in.expires_at_ms),
        "serial": sign_in.serial,
        "ended_at": None if sign_in.ended_at_ms is None else utc(sign_in.ended_at_ms),
    }


def _sign_in(row: RowMapping) -> SignIn:
    return msgspec.convert(
        {
            "id": row["id"],
            "account_id": row["account_id"],
            "device_name": row["device_name"],
            "created_at_ms": ms_of(row["created_at"]),
            "refreshed_at_ms": ms_of(row["refreshed_at"]),
            "expires_at_ms": ms_of(row["expires_at"]),
            "serial": row["serial"],
            "ended_at_ms": ms_or_none(row["ended_at"]),
        },
        SignIn,
    )
