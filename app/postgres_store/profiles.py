"""Profiles of accounts, created with a child's settings."""

import msgspec
from sqlalchemy import Select, case, func, insert, select, true, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.config import Config, FirstConfig
from app.domain.external_ids import is_uuid
from app.domain.profile import Profile
from app.errors import ExternalIdTaken, ProfileAccessDenied, TooManyProfiles, Unauthenticated
from app.postgres_store.access import connection, transaction
from app.postgres_store.audit import note
from app.postgres_store.configs import config_changed, keep_version, kept_config, store_config, touch_policy
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.postgres_store.tables import (
    accounts,
    erasure_tombstones,
    profiles,
    viewing_time_config_history,
    viewing_time_configs,
)
from app.timestamps import utc


class PostgresProfiles:
    """Every call may raise DatabaseUnavailable."""

    def __init__(self, engine: AsyncEngine, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._feed = feed

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
        external_id: str | None = None,
    ) -> Profile:
        """Keep a new profile and the settings of a child.

        Raises:
            Unauthenticated: the account is gone.
            TooManyProfiles: the account has ``most`` already.
            ExternalIdTaken: there is a profile under this external id: of the account, or of any for a UUID.
        """
        if not is_uuid(account_id):
            raise Unauthenticated
        async with transaction(self._engine) as database:
            own_zone, market = await self._locked_account(database, account_id)
            if external_id is not None:
                profile_id = await self._id_for(database, external_id) or profile_id
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
                "external_id": external_id,
            }
            added = await database.execute(upsert(profiles).values(row).on_conflict_do_nothing())
            if added.rowcount == 0:  # the account has this profile already, or the UUID is that of somebody else's
                raise ExternalIdTaken
            if is_kids:
                config = first_config(market, timezone or own_zone, 1)
                await self._begin_settings(database, profile_id, config, at_ms=at_ms)
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
            is_moved = timezone is not None and await self._move(database, profile_id, timezone, at_ms=at_ms)
            is_other = is_kids is not None and is_kids != before.is_kids
            if is_kids and is_other:
                await self._begin_childhood(database, before, timezone, first_config, at_ms=at_ms)
            if is_moved or is_other:
                await touch_policy(database, profile_id, at_ms=at_ms)
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

    async def _id_for(self, database: AsyncConnection, external_id: str) -> str | None:
        """The UUID that the platform has given a new profile, unless a profile of it was erased; None for other ids."""
        if not is_uuid(external_id):
            return None
        grave = select(erasure_tombstones.c.kind).where(erasure_tombstones.c.subject_id == external_id)
        return None if (await database.execute(grave)).first() is not None else external_id

    async def _locked_account(self, database: AsyncConnection, account_id: str) -> tuple[str, str | None]:
        """The zone and the market of an account. Two requests of one account count one after the other."""
        wanted = select(accounts.c.timezone, accounts.c.market).where(accounts.c.id == account_id)
        row = (await database.execute(wanted.with_for_update(key_share=True))).one_or_none()
        if row is None:
            raise Unauthenticated
        return row.timezone, row.market

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

    async def _move(self, database: AsyncConnection, profile_id: str, timezone: str, *, at_ms: int) -> bool:
        """Give the settings another zone, which acts when the running day ends; whether there was one to change."""
        config = await kept_config(database, profile_id)
        if config is None or config.timezone == timezone:
            return False
        moved = config.moved(timezone, at_ms=at_ms)
        await store_config(database, profile_id, moved, at_ms=at_ms)
        await self._feed.write(database, config_changed(profile_id, config, moved, at_ms=at_ms), at_ms=at_ms)
        return True

    async def _begin_childhood(
        self,
        database: AsyncConnection,
        before: Profile,
        timezone: str | None,
        first_config: FirstConfig,
        *,
        at_ms: int,
    ) -> None:
        """Who was a child before has its settings, and with them its days; else the first ones begin now.

        Their version is above all earlier ones: older releases removed the settings of adults.
        """
        if await kept_config(database, before.id) is not None:
            return
        history = viewing_time_config_history.c
        newest = await database.execute(select(func.max(history.version)).where(history.profile_id == before.id))
        version = (newest.scalar_one() or 0) + 1
        of_account = select(accounts.c.market).join(profiles, profiles.c.account_id == accounts.c.id)
        market = (await database.execute(of_account.where(profiles.c.id == before.id))).scalar_one()
        config = first_config(market, timezone or before.timezone, version)
        await self._begin_settings(database, before.id, config, at_ms=at_ms)

    async def _begin_settings(self, database: AsyncConnection, profile_id: str, config: Config, *, at_ms: int) -> None:
        values = msgspec.to_builtins(config)
        await database.execute(
            insert(viewing_time_configs).values(**values, profile_id=profile_id, updated_at=utc(at_ms))
        )
        await keep_version(database, profile_id, config, at_ms=at_ms)


def _profiles() -> Select[tuple[str, str, bool, str, bool, str | None, str | None]]:
    reviewed = case((profiles.c.is_kids, viewing_time_configs.c.limits_reviewed), else_=true())
    return select(
        profiles.c.id,
        profiles.c.name,
        profiles.c.is_kids,
        func.coalesce(viewing_time_configs.c.timezone, profiles.c.timezone).label("timezone"),
        reviewed.label("limits_reviewed"),
        profiles.c.external_id,
        profiles.c.enforcement,
    ).outerjoin_from(profiles, viewing_time_configs, viewing_time_configs.c.profile_id == profiles.c.id)
