"""Devices of parents."""

from sqlalchemy import func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.auth.devices import Device
from app.errors import TooManyDevices, Unauthenticated
from app.instants import ms_of, utc
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.tables import accounts, devices, erasure_tombstones


class PostgresDevices:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def add(self, account_id: str, device: Device, *, most: int, actor: str) -> None:
        """Keep a new device. Raises TooManyDevices, and Unauthenticated when the account is gone."""
        at_ms = device.created_at_ms
        async with transaction(self._engine) as database:
            account = select(accounts.c.id).where(accounts.c.id == account_id).with_for_update(key_share=True)
            if (await database.execute(account)).first() is None:
                raise Unauthenticated
            count = select(func.count()).where(
                devices.c.account_id == account_id, devices.c.revoked_at.is_(None), devices.c.expires_at > utc(at_ms)
            )
            if (await database.execute(count)).scalar_one() >= most:
                raise TooManyDevices
            row = {
                "id": device.id,
                "account_id": account_id,
                "name": device.name,
                "created_at": utc(at_ms),
                "expires_at": utc(device.expires_at_ms),
            }
            await database.execute(insert(devices).values(row))
            await note(
                database,
                account_id=account_id,
                profile_id=None,
                actor=actor,
                action="device_added",
                at_ms=at_ms,
                detail={"device_id": device.id},
            )

    async def of_account(self, account_id: str, *, at_ms: int) -> list[Device]:
        """Those that are neither revoked nor expired, oldest first."""
        if not is_uuid(account_id):
            return []
        usable = select(devices.c.id, devices.c.name, devices.c.created_at, devices.c.expires_at).where(
            devices.c.account_id == account_id, devices.c.revoked_at.is_(None), devices.c.expires_at > utc(at_ms)
        )
        async with connection(self._engine) as database:
            found = await database.execute(usable.order_by(devices.c.created_at, devices.c.id))
            return [
                Device(
                    id=row.id, name=row.name, created_at_ms=ms_of(row.created_at), expires_at_ms=ms_of(row.expires_at)
                )
                for row in found
            ]

    async def revoke(self, account_id: str, device_id: str, *, actor: str, at_ms: int) -> bool:
        """Whether the account has or had this device; it is revoked now."""
        if not (is_uuid(account_id) and is_uuid(device_id)):
            return False
        mine = (devices.c.id == device_id) & (devices.c.account_id == account_id)
        async with transaction(self._engine) as database:
            revoked = await database.execute(
                update(devices).where(mine, devices.c.revoked_at.is_(None)).values(revoked_at=utc(at_ms))
            )
            if revoked.rowcount == 0:
                return (await database.execute(select(devices.c.id).where(mine))).first() is not None
            await note(
                database,
                account_id=account_id,
                profile_id=None,
                actor=actor,
                action="device_revoked",
                at_ms=at_ms,
                detail={"device_id": device_id},
            )
        return True

    async def revoked(self, *, at_ms: int) -> list[str]:
        """Every device whose token would be valid had it not been revoked, and every account that was erased."""
        revoked = select(devices.c.id).where(devices.c.revoked_at.is_not(None), devices.c.expires_at > utc(at_ms))
        erased = select(erasure_tombstones.c.subject_id).where(erasure_tombstones.c.kind == "account")
        async with connection(self._engine) as database:
            return list((await database.execute(revoked.union_all(erased))).scalars())
