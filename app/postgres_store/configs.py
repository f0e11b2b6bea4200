"""Settings of children: read, and changed in one transaction."""

from collections.abc import Callable

import msgspec
from sqlalchemy import insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from app.domain.config import Config
from app.domain.feed import ConfigChanged, FeedEvent, changed_settings
from app.errors import NoConfig, ProfileAccessDenied
from app.postgres_store.access import Query, is_uuid, transaction
from app.postgres_store.audit import note
from app.postgres_store.feed import NO_FEED, FeedWriter
from app.postgres_store.tables import profiles, viewing_time_config_history, viewing_time_configs
from app.timestamps import utc

_READ = Query("""
SELECT p.is_kids, row_to_json(c)::text AS config, a.market
  FROM profiles p
  JOIN accounts a ON a.id = p.account_id
  LEFT JOIN viewing_time_configs c ON c.profile_id = p.id
 WHERE p.id = :profile_id AND p.account_id = :account_id
""")
_MARKET = Query("SELECT market FROM accounts WHERE id = :account_id")
_CONFIG = text("SELECT row_to_json(c)::text FROM viewing_time_configs c WHERE profile_id = :profile_id")
# Rows of a version of this service that did not keep it; from now on only they could tell.
_KEEP_EXEMPTION = text("""
UPDATE viewing_time_config_history h SET educational_exempt = c.educational_exempt
  FROM viewing_time_configs c
 WHERE c.profile_id = h.profile_id AND h.profile_id = :profile_id AND h.educational_exempt IS NULL
""")
_decode = msgspec.json.Decoder(Config).decode


class PostgresConfigs:
    def __init__(self, engine: AsyncEngine, feed: FeedWriter = NO_FEED) -> None:
        self._engine = engine
        self._feed = feed

    async def read(self, *, account_id: str, profile_id: str) -> tuple[Config, str | None]:
        """The settings of a child of this account, and the name of the account's market.

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
        return _decode(rows[0]["config"]), rows[0]["market"]

    async def market_of(self, account_id: str) -> str | None:
        """The name of an account's market. Raises DatabaseUnavailable."""
        if not is_uuid(account_id):
            return None
        rows = await _MARKET.rows(self._engine, account_id=account_id)
        return rows[0]["market"] if rows else None

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
            before = await config_of(database, profile_id)
            config = change(before)
            await store_config(database, profile_id, config, at_ms=at_ms)
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
            await self._feed.write(database, config_changed(profile_id, before, config, at_ms=at_ms), at_ms=at_ms)
        return config


def config_changed(profile_id: str, before: Config, after: Config, *, at_ms: int) -> FeedEvent:
    facts = ConfigChanged(version=after.version, changed=changed_settings(before, after))
    return FeedEvent(facts=facts, cause=(profile_id, after.version), at_ms=at_ms, profile_id=profile_id)


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
    config = await kept_config(database, profile_id)
    if config is None:
        raise NoConfig
    return config


async def kept_config(database: AsyncConnection, profile_id: str) -> Config | None:
    """The settings of a profile, also of an adult who was a child before; None for one that never was."""
    found = (await database.execute(_CONFIG, {"profile_id": profile_id})).scalar_one_or_none()
    return None if found is None else _decode(found)


async def keep_version(database: AsyncConnection, profile_id: str, config: Config, *, at_ms: int) -> None:
    """Add settings to the history, as in force from an instant on."""
    await database.execute(
        insert(viewing_time_config_history).values(
            profile_id=profile_id,
            version=config.version,
            weekday_limit_minutes=config.weekday_limit_minutes,
            weekend_limit_minutes=config.weekend_limit_minutes,
            educational_exempt=config.educational_exempt,
            rules=msgspec.to_builtins(config.rules),
            valid_from=utc(at_ms),
        )
    )


async def store_config(database: AsyncConnection, profile_id: str, config: Config, *, at_ms: int) -> None:
    """Replace the settings of a profile. Their zone is the profile's as well."""
    values = msgspec.to_builtins(config)
    await database.execute(_KEEP_EXEMPTION, {"profile_id": profile_id})
    await database.execute(
        update(viewing_time_configs)
        .where(viewing_time_configs.c.profile_id == profile_id)
        .values(**values, updated_at=utc(at_ms))
    )
    await keep_version(database, profile_id, config, at_ms=at_ms)
    await database.execute(update(profiles).where(profiles.c.id == profile_id).values(timezone=config.timezone))


async def touch_policy(database: AsyncConnection, profile_id: str, *, at_ms: int) -> None:
    """Make every copy of the profile's policy old."""
    await database.execute(
        update(profiles)
        .where(profiles.c.id == profile_id)
        .values(policy_version=profiles.c.policy_version + 1, policy_changed_at=utc(at_ms))
    )
