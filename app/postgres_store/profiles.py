"""Profiles of accounts, created with a child's settings."""

from collections.abc import Callable

import msgspec
from sqlalchemy import Select, case, delete, func, insert, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.config import Config
from app.domain.profile import Profile
from app.errors import ProfileAccessDenied, TooManyProfiles, Unauthenticated
from app.instants import utc
from app.postgres_store.access import connection, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.tables import accounts, profiles, viewing_time_config_history, viewing_time_configs

FirstConfig = Callable[[str, int], Config]


class PostgresProfiles:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def of_account(self, account_id: str) -> list[Profile]:
        """In the order of their creation."""
        if not is_uuid(account_id):
            return []
        async with connection(self._engine) as database:
            found = await database.execute(
                _profiles().where(profiles.c.account_id == account_id).order_by(profiles.c.created_at, profiles.c.id)
            )
            return [Profile(**row) for row in found.mappings()]

    async def add(
        self,
        account_id: str,
        *,
        profile_id: str,
        name: str,
        is_kids: bool,
        timezone: str | None,
        most: int,
        first_config: FirstConfig,
        actor: str,
        at_ms: int,
    ) -> Profile:
        """Keep a new profile and the settings of a child.

        Raises:
            Unauthenticated: the account is gone.
            TooManyProfiles: the account has ``most`` already.
        """
        if not is_uuid(account_id):
            raise Unauthenticated
        async with transaction(self._engine) as database:
            own_zone = await self._locked_account_zone(database, account_id)
            count = select(func.count()).where(profiles.c.account_id == account_id)
            if (await database.execute(count)).scalar_one() >= most:
                raise TooManyProfiles
            row = {
                "id": profile_id,
                "account_id": account_id,
                "name": name,
                "is_kids": is_kids,
                "timezone": timezone or own_zone,
                "policy_changed_at": utc(at_ms),
                "created_at": utc(at_ms),
            }
            await database.execute(insert(profiles).values(row))
            if is_kids:
                await self._begin_settings(database, profile_id, first_config(timezone or own_zone, 1), at_ms=at_ms)
            await note(
                database,
                account_id=account_id,
                profile_id=profile_id,
                actor=actor,
                action="profile_created",
                at_ms=at_ms,
                detail={},
            )
            return await self._one(database, profile_id)

    async def change(
        self,
        account_id: str,
        profile_id: str,
        *,
        name: str | None,
        is_kids: bool | None,
        timezone: str | None,
        first_config: FirstConfig,
        actor: str,
        at_ms: int,
    ) -> Profile:
        """Change what is not None. Raises ProfileAccessDenied."""
        async with transaction(self._engine) as database:
            before = await self._locked(database, account_id, profile_id)
            values = {"name": name, "timezone": timezone, "is_kids": is_kids}
            changes: dict[str, object] = {field: value for field, value in values.items() if value is not None}
            if is_kids is not None and is_kids != before.is_kids:
                changes |= {"policy_version": profiles.c.policy_version + 1, "policy_changed_at": utc(at_ms)}
                await self._grow(database, before, is_kids, timezone, first_config, at_ms=at_ms)
            if changes:
                await database.execute(update(profiles).where(profiles.c.id == profile_id).values(changes))
                await note(
                    database,
                    account_id=account_id,
                    profile_id=profile_id,
                    actor=actor,
                    action="profile_changed",
                    at_ms=at_ms,
                    detail={},
                )
            return await self._one(database, profile_id)

    async def _locked_account_zone(self, database: AsyncConnection, account_id: str) -> str:
        """Two requests of one account count one after the other."""
        found = await database.execute(
            select(accounts.c.timezone).where(accounts.c.id == account_id).with_for_update(key_share=True)
        )
        zone: str | None = found.scalar_one_or_none()
        if zone is None:
            raise Unauthenticated
        return zone

    async def _locked(self, database: AsyncConnection, account_id: str, profile_id: str) -> Profile:
        if not (is_uuid(account_id) and is_uuid(profile_id)):
            raise ProfileAccessDenied
        mine = (profiles.c.id == profile_id) & (profiles.c.account_id == account_id)
        found = await database.execute(select(profiles.c.id).where(mine).with_for_update())
        if found.first() is None:
            raise ProfileAccessDenied
        return await self._one(database, profile_id)

    async def _one(self, database: AsyncConnection, profile_id: str) -> Profile:
        found = await database.execute(_profiles().where(profiles.c.id == profile_id))
        return Profile(**found.mappings().one())

    async def _grow(
        self,
        database: AsyncConnection,
        before: Profile,
        is_kids: bool,
        timezone: str | None,
        first_config: FirstConfig,
        *,
        at_ms: int,
    ) -> None:
        """An adult has no settings. Who becomes a child gets fresh ones, with a version above all earlier ones."""
        if not is_kids:
            await database.execute(delete(viewing_time_configs).where(viewing_time_configs.c.profile_id == before.id))
            return
        history = viewing_time_config_history.c
        newest = await database.execute(select(func.max(history.version)).where(history.profile_id == before.id))
        version = (newest.scalar_one() or 0) + 1
        config = first_config(timezone or before.timezone, version)
        await self._begin_settings(database, before.id, config, at_ms=at_ms)

    async def _begin_settings(self, database: AsyncConnection, profile_id: str, config: Config, *, at_ms: int) -> None:
        values = msgspec.to_builtins(config)
        await database.execute(
            insert(viewing_time_configs).values(**values, profile_id=profile_id, updated_at=utc(at_ms))
        )
        await database.execute(
            insert(viewing_time_config_history).values(
                profile_id=profile_id,
                version=config.version,
                weekday_limit_minutes=config.weekday_limit_minutes,
                weekend_limit_minutes=config.weekend_limit_minutes,
                valid_from=utc(at_ms),
            )
        )


def _profiles() -> Select[tuple[str, str, bool, str, bool]]:
    reviewed = case((profiles.c.is_kids, viewing_time_configs.c.limits_reviewed), else_=true())
    return select(
        profiles.c.id,
        profiles.c.name,
        profiles.c.is_kids,
        profiles.c.timezone,
        reviewed.label("limits_reviewed"),
    ).outerjoin_from(profiles, viewing_time_configs, viewing_time_configs.c.profile_id == profiles.c.id)
