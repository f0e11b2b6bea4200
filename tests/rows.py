"""Rows put straight into PostgreSQL: the state of the world before a test begins."""

from datetime import date
from uuid import uuid4

import msgspec
from sqlalchemy import Table, insert
from sqlalchemy.dialects.postgresql import insert as pg_insert
from sqlalchemy.ext.asyncio import AsyncEngine

from app.domain.viewing_day import Calendar
from app.postgres_store import tables
from app.timestamps import utc

DAY_MS = 86_400_000


def start_of(day: date, hour_utc: int) -> int:
    return (day - date(1970, 1, 1)).days * DAY_MS + hour_utc * 3_600_000


class Rows:
    """Adds rows with sensible values for whatever a test does not care about."""

    def __init__(self, engine: AsyncEngine) -> None:
        self.engine = engine

    async def add(self, table: Table, *rows: dict[str, object]) -> None:
        async with self.engine.begin() as database:
            await database.execute(insert(table), list(rows))

    async def account(self, *, timezone: str = "Europe/Oslo") -> str:
        account_id = str(uuid4())
        email = f"{account_id}@example.org"
        await self.add(tables.accounts, {"id": account_id, "email": email, "password_hash": "-", "timezone": timezone})
        return account_id

    async def adult(self, account_id: str, *, name: str = "Grown-up") -> str:
        return await self._profile(account_id, name=name, is_kids=False, timezone="UTC", at_ms=0)

    async def child(
        self,
        account_id: str,
        *,
        at_ms: int,
        name: str = "Child",
        timezone: str = "Europe/Oslo",
        reset_hour: int = 6,
        weekday: int | None = 120,
        weekend: int | None = 180,
    ) -> str:
        profile_id = await self._profile(account_id, name=name, is_kids=True, timezone=timezone, at_ms=at_ms)
        calendar = Calendar.opened(at_ms, timezone=timezone, reset_hour=reset_hour)
        limits = {"weekday_limit_minutes": weekday, "weekend_limit_minutes": weekend}
        config = {
            "profile_id": profile_id,
            "version": 1,
            **limits,
            "reset_hour": reset_hour,
            "timezone": timezone,
            "educational_exempt": True,
            "warning_minutes": [15, 5],
            "calendar": msgspec.to_builtins(calendar),
        }
        await self.add(tables.viewing_time_configs, config)
        await self.add(
            tables.viewing_time_config_history,
            {
                "profile_id": profile_id,
                "version": 1,
                **limits,
                "educational_exempt": True,
                "valid_from": utc(at_ms),
            },
        )
        return profile_id

    async def grant(
        self, profile_id: str, day: date, minutes: int | None, *, at_ms: int, revoked_ms: int | None = None
    ) -> str:
        grant_id = str(uuid4())
        row = {
            "id": grant_id,
            "profile_id": profile_id,
            "day": day,
            "minutes": minutes,
            "granted_by": "parent",
            "is_remote": True,
            "granted_at": utc(at_ms),
            "revoked_at": None if revoked_ms is None else utc(revoked_ms),
        }
        await self.add(tables.time_grants, row)
        return grant_id

    async def title(self, title_id: str, name: str) -> str:
        await self.add(tables.titles, {"id": title_id, "name": name, "is_educational": False})
        return title_id

    async def title_once(self, title_id: str, *, is_educational: bool = False) -> None:
        """A title named as its id, unless it is there."""
        row = {"id": title_id, "name": title_id, "is_educational": is_educational}
        async with self.engine.begin() as database:
            await database.execute(pg_insert(tables.titles).values(row).on_conflict_do_nothing())

    async def balance(
        self,
        profile_id: str,
        day: date,
        *,
        used_ms: int = 0,
        educational_ms: int = 0,
        overrun_ms: int = 0,
        offline_used_ms: int = 0,
        limit_minutes: int | None = 120,
        reset_utc: int = 5,
        last_beat_ms: int | None = None,
        borrowed_ms: int = 0,
        owed_ms: int = 0,
    ) -> None:
        """A viewing day of 24 hours from ``reset_utc`` o'clock on, watched to its end unless said otherwise."""
        starts_ms = start_of(day, reset_utc)
        limit_ms = None if limit_minutes is None else limit_minutes * 60_000
        await self.add(
            tables.viewing_time_balances,
            {
                "profile_id": profile_id,
                "day": day,
                "starts_ms": starts_ms,
                "ends_ms": starts_ms + DAY_MS,
                "limit_ms": limit_ms,
                "allowance_ms": limit_ms,
                "used_ms": used_ms,
                "educational_ms": educational_ms,
                "overrun_ms": overrun_ms,
                "offline_used_ms": offline_used_ms,
                "borrowed_ms": borrowed_ms,
                "owed_ms": owed_ms,
                "version": starts_ms + DAY_MS if last_beat_ms is None else last_beat_ms,
            },
        )

    async def session(
        self,
        profile_id: str,
        day: date,
        *,
        started_ms: int,
        title_id: str = "film",
        used_ms: int = 0,
        educational_ms: int = 0,
        overrun_ms: int = 0,
        lasted_ms: int | None = None,
        has_ended: bool = True,
        session_id: str | None = None,
        is_educational: bool | None = None,
    ) -> str:
        """A session that lasted as long as it was credited, unless said otherwise."""
        session_id = session_id or str(uuid4())
        lasted_ms = used_ms + educational_ms + overrun_ms if lasted_ms is None else lasted_ms
        await self.add(
            tables.viewing_sessions,
            {
                "id": session_id,
                "day": day,
                "started_at": utc(started_ms),
                "profile_id": profile_id,
                "title_id": title_id,
                "is_educational": educational_ms > 0 if is_educational is None else is_educational,
                "device_id": "tv-1",
                "device_type": "tv",
                "session_started_ms": started_ms,
                "last_beat_ms": started_ms + lasted_ms,
                "has_ended": has_ended,
                "paused_since_ms": 0,
                "watched_ms": -1,
                "used_ms": used_ms,
                "educational_ms": educational_ms,
                "overrun_ms": overrun_ms,
                "earlier_ms": 0,
                "version": 1,
            },
        )
        return session_id

    async def flushed(self, at_ms: int, *, bucket: int = 0) -> None:
        await self.add(tables.flush_state, {"bucket": bucket, "flushed_at": utc(at_ms)})

    async def _profile(self, account_id: str, *, name: str, is_kids: bool, timezone: str, at_ms: int) -> str:
        profile_id = str(uuid4())
        row = {"id": profile_id, "account_id": account_id, "name": name, "is_kids": is_kids, "timezone": timezone}
        await self.add(tables.profiles, row | {"policy_changed_at": utc(at_ms), "created_at": utc(at_ms)})
        return profile_id
