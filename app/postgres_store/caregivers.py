"""Budgets of caregivers, counted from the ledger of extra time, and what a caregiver may see."""

from datetime import timedelta
from typing import NamedTuple

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.caregivers import Budget, CaregiverView, ChildName, OpenRequest, budget_day
from app.domain.grants import RequestStatus
from app.errors import Unauthenticated
from app.postgres_store.access import connection, is_uuid
from app.postgres_store.tables import accounts, devices, extra_time_requests, profiles, time_grants
from app.timestamps import ms_of, utc

CAREGIVER = "caregiver"
_DAYS_BACK = timedelta(days=3)
"""A grant names a viewing day that began at most so long before it was made."""


class _Caregiver(NamedTuple):
    """A device of a caregiver, and the zone of its account."""

    name: str
    daily_minutes: int
    timezone: str


class PostgresCaregivers:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def view(self, account_id: str, device_id: str, *, at_ms: int) -> CaregiverView:
        """What a caregiver may see. Raises Unauthenticated: there is no such device any more."""
        async with connection(self._engine) as database:
            found = await _caregiver(database, account_id, device_id, at_ms=at_ms)
            budget = await _budget(database, account_id, device_id, found, at_ms=at_ms)
            children = await database.execute(
                select(profiles.c.id, profiles.c.name)
                .where(profiles.c.account_id == account_id, profiles.c.is_kids)
                .order_by(profiles.c.created_at, profiles.c.id)
            )
            names = tuple(ChildName(profile_id=child.id, name=child.name) for child in children)
            asked = extra_time_requests.c
            open_ones = await database.execute(
                select(asked.id, asked.profile_id, asked.minutes, asked.requested_at, asked.expires_at)
                .where(
                    asked.profile_id.in_([child.profile_id for child in names]),
                    asked.status == RequestStatus.OPEN,
                    asked.expires_at > utc(at_ms),
                )
                .order_by(asked.requested_at, asked.id)
            )
            requests = tuple(
                OpenRequest(
                    request_id=request.id,
                    profile_id=request.profile_id,
                    minutes=request.minutes,
                    requested_ms=ms_of(request.requested_at),
                    expires_ms=ms_of(request.expires_at),
                )
                for request in open_ones
            )
        return CaregiverView(device_id=device_id, name=found.name, budget=budget, children=names, requests=requests)


async def held_budget(database: AsyncConnection, account_id: str, device_id: str, *, at_ms: int) -> Budget:
    """The budget of a caregiver. Until this transaction ends, the caregiver can grant nothing else.

    Raises:
        Unauthenticated: the device has been revoked.
    """
    row = await _caregiver(database, account_id, device_id, at_ms=at_ms, lock=True)
    return await _budget(database, account_id, device_id, row, at_ms=at_ms)


async def granted_minutes(database: AsyncConnection, account_id: str, *, timezone: str, at_ms: int) -> dict[str, int]:
    """The minutes that each actor has granted on the running day of the account, by its name in the ledger."""
    since = utc(budget_day(timezone, at_ms).starts_ms)
    of_today = (
        select(time_grants.c.granted_by, func.sum(time_grants.c.minutes))
        .join(profiles, profiles.c.id == time_grants.c.profile_id)
        .where(
            profiles.c.account_id == account_id,
            time_grants.c.day >= (since - _DAYS_BACK).date(),
            time_grants.c.granted_at >= since,
        )
        .group_by(time_grants.c.granted_by)
    )
    return {actor: minutes or 0 for actor, minutes in await database.execute(of_today)}


async def _caregiver(
    database: AsyncConnection, account_id: str, device_id: str, *, at_ms: int, lock: bool = False
) -> _Caregiver:
    if not (is_uuid(account_id) and is_uuid(device_id)):
        raise Unauthenticated
    mine = (
        select(devices.c.name, devices.c.daily_grant_minutes, accounts.c.timezone)
        .join(accounts, accounts.c.id == devices.c.account_id)
        .where(
            devices.c.id == device_id,
            devices.c.account_id == account_id,
            devices.c.role == CAREGIVER,
            devices.c.revoked_at.is_(None),
            devices.c.expires_at > utc(at_ms),
        )
    )
    row = (await database.execute(mine.with_for_update(of=devices) if lock else mine)).one_or_none()
    if row is None:
        raise Unauthenticated
    return _Caregiver(row.name, row.daily_grant_minutes, row.timezone)


async def _budget(
    database: AsyncConnection, account_id: str, device_id: str, caregiver: _Caregiver, *, at_ms: int
) -> Budget:
    granted = await granted_minutes(database, account_id, timezone=caregiver.timezone, at_ms=at_ms)
    return Budget(
        daily_minutes=caregiver.daily_minutes,
        granted_minutes=granted.get(f"device:{device_id}", 0),
        renews_ms=budget_day(caregiver.timezone, at_ms).ends_ms,
    )
