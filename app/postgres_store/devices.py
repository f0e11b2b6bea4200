"""Devices of parents and caregivers."""

import asyncio

from sqlalchemy import func, insert, select, union_all, update
from sqlalchemy.ext.asyncio import AsyncEngine

from app.auth.ports import Device
from app.errors import TooManyDevices, Unauthenticated
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.caregivers import CAREGIVER, granted_minutes
from app.postgres_store.tables import accounts, devices, erasure_tombstones, sign_ins
from app.timestamps import ms_of, utc

_CLOCK_STEP_MS = 3 * 86_400_000
"""Longer than an access token lives, and than a clock steps."""
_PIECE = 1000


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
                "role": CAREGIVER if device.is_caregiver else "parent",
                "daily_grant_minutes": device.daily_grant_minutes,
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
        usable = (
            select(devices, accounts.c.timezone)
            .join(accounts, accounts.c.id == devices.c.account_id)
            .where(
                devices.c.account_id == account_id, devices.c.revoked_at.is_(None), devices.c.expires_at > utc(at_ms)
            )
        )
        async with connection(self._engine) as database:
            found = (await database.execute(usable.order_by(devices.c.created_at, devices.c.id))).all()
            granted: dict[str, int] = {}
            if any(row.role == CAREGIVER for row in found):
                granted = await granted_minutes(database, account_id, timezone=found[0].timezone, at_ms=at_ms)
        return [
            Device(
                id=row.id,
                name=row.name,
                created_at_ms=ms_of(row.created_at),
                expires_at_ms=ms_of(row.expires_at),
                daily_grant_minutes=row.daily_grant_minutes,
                granted_minutes=granted.get(f"device:{row.id}", 0),
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
        """Every device and sign-in whose tokens would be valid had it not ended, and every account that was erased.

        Also those whose tokens have expired lately: a clock that steps back makes them valid again.
        """
        margin = utc(at_ms - _CLOCK_STEP_MS)
        revoked = select(devices.c.id).where(devices.c.revoked_at.is_not(None), devices.c.expires_at > margin)
        ended = select(sign_ins.c.id).where(sign_ins.c.ended_at > margin)
        erased = select(erasure_tombstones.c.subject_id).where(erasure_tombstones.c.kind == "account")
        found: list[str] = []
        async with transaction(self._engine) as database:  # a cursor needs one
            # There may be many: other requests go on between two pieces.
            async for piece in (await database.stream_scalars(union_all(revoked, ended, erased))).partitions(_PIECE):
                found += piece
                await asyncio.sleep(0)
        return found
