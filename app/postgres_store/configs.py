"""Settings of children: read, and changed in one transaction."""

from collections.abc import Callable

import msgspec
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.config import Config
from app.errors import NoConfig, ProfileAccessDenied
from app.instants import utc
from app.postgres_store.access import Query, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.tables import profiles, viewing_time_config_history, viewing_time_configs

_READ = Query("""
SELECT p.is_kids, row_to_json(c)::text AS config
  FROM profiles p
  LEFT JOIN viewing_time_configs c ON c.profile_id = p.id
 WHERE p.id = :profile_id AND p.account_id = :account_id
""")
_CONFIG = text("SELECT row_to_json(c)::text FROM viewing_time_configs c WHERE profile_id = :profile_id")
_decode = msgspec.json.Decoder(Config).decode


class PostgresConfigs:
    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def read(self, *, account_id: str, profile_id: str) -> Config:
        """The settings of a child of this account.

        Raises:
            ProfileAccessDenied: there is no such profile on the account.
            NoConfig: it is an adult's.
            DatabaseUnavailable: PostgreSQL cannot be reached in time.
        """
        if not (is_uuid(account_id) and is_uuid(profile_id)):
            raise ProfileAccessDenied
        rows = await _READ.rows(self._engine, profile_id=profile_id, account_id=account_id)
        if not rows:
            raise ProfileAccessDenied
        if not rows[0]["is_kids"]:
            raise NoConfig
        return _decode(rows[0]["config"])

    async def change(
        self, *, account_id: str, profile_id: str, actor: str, at_ms: int, change: Callable[[Config], Config]
    ) -> Config:
        """Replace the settings of a child by what ``change`` makes of them; nobody else changes them meanwhile.

        Whatever ``change`` raises undoes everything.

        Raises:
            ProfileAccessDenied, NoConfig, DatabaseUnavailable: as for ``read``.
        """
        async with transaction(self._engine) as database:
            await require_child(database, account_id=account_id, profile_id=profile_id, lock=True)
            config = change(await config_of(database, profile_id))
            await self._store(database, profile_id, config, at_ms=at_ms)
            await touch_policy(database, profile_id, at_ms=at_ms)
            await note(
                database,
                account_id=account_id,
                profile_id=profile_id,
                actor=actor,
                action="settings_saved",
                at_ms=at_ms,
                detail={"version": config.version},
            )
        return config

    async def _store(self, database: AsyncConnection, profile_id: str, config: Config, *, at_ms: int) -> None:
        values = msgspec.to_builtins(config)
        await database.execute(
            update(viewing_time_configs)
            .where(viewing_time_configs.c.profile_id == profile_id)
            .values(**values, updated_at=utc(at_ms))
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


async def require_child(database: AsyncConnection, *, account_id: str, profile_id: str, lock: bool = False) -> None:
    """See that the profile is a child of the account; with ``lock``, nobody else changes its policy meanwhile.

    The lock is a statement of its own: what is read after it is what the last holder left behind.

    Raises:
        ProfileAccessDenied, NoConfig
    """
    if not (is_uuid(account_id) and is_uuid(profile_id)):
        raise ProfileAccessDenied
    mine = select(profiles.c.is_kids).where(profiles.c.id == profile_id, profiles.c.account_id == account_id)
    if lock:
        mine = mine.with_for_update(key_share=True)
    is_kids = (await database.execute(mine)).scalar_one_or_none()
    if is_kids is None:
        raise ProfileAccessDenied
    if not is_kids:
        raise NoConfig


async def config_of(database: AsyncConnection, profile_id: str) -> Config:
    """The settings of a child."""
    found = await database.execute(_CONFIG, {"profile_id": profile_id})
    return _decode(found.scalar_one())


async def touch_policy(database: AsyncConnection, profile_id: str, *, at_ms: int) -> None:
    """Make every copy of the profile's policy old."""
    await database.execute(
        update(profiles)
        .where(profiles.c.id == profile_id)
        .values(policy_version=profiles.c.policy_version + 1, policy_changed_at=utc(at_ms))
    )
