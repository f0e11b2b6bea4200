"""Configs in PostgreSQL: concurrent changes, and all their effects."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import msgspec
import pytest
from sqlalchemy import select

from app.domain.config import Config, ConfigChange
from app.errors import InvalidInput, NoConfig, PreconditionFailed, ProfileAccessDenied
from app.postgres_store import tables
from app.postgres_store.configs import PostgresConfigs
from app.postgres_store.engine import create_engine
from app.postgres_store.policies import PostgresPolicies
from app.timestamps import utc
from tests.rows import Rows

NOW = 1_772_452_800_000  # 2026-03-02 12:00 UTC
LATER = NOW + 60_000


@pytest.fixture(scope="module")
async def rows(database_url: str) -> AsyncIterator[Rows]:
    engine = create_engine(database_url, pool_size=4, timeout_seconds=5)
    yield Rows(engine)
    await engine.dispose()


@pytest.fixture
def configs(rows: Rows) -> PostgresConfigs:
    return PostgresConfigs(rows.engine)


def _shorter(config: Config) -> Config:
    return config.changed(ConfigChange(weekday_limit_minutes=60), at_ms=LATER)


async def test_a_change_leaves_config_history_policy_and_audit_in_step(rows: Rows, configs: PostgresConfigs) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOW)
    changed = await configs.change(
        account_id=account, profile_id=child, actor="device:tablet", at_ms=LATER, change=_shorter
    )
    assert await configs.read(account_id=account, profile_id=child) == (changed, None)
    (policy,) = await PostgresPolicies(rows.engine, lambda: LATER).load([child])
    assert policy is not None
    assert (policy.version, policy.config_version, policy.weekday_limit_minutes) == (2, 2, 60)
    history, audit, profile = tables.viewing_time_config_history, tables.audit_log, tables.profiles
    async with rows.engine.connect() as database:
        past = await database.execute(
            select(history.c.version, history.c.weekday_limit_minutes, history.c.valid_from)
            .where(history.c.profile_id == child)
            .order_by(history.c.version)
        )
        assert list(past) == [(1, 120, utc(NOW)), (2, 60, utc(LATER))]
        trail = await database.execute(
            select(audit.c.actor, audit.c.action, audit.c.at).where(audit.c.profile_id == child)
        )
        assert list(trail) == [("device:tablet", "settings_saved", utc(LATER))]
        touched = await database.execute(select(profile.c.policy_changed_at).where(profile.c.id == child))
        assert touched.scalar_one() == utc(LATER)


async def test_a_refused_change_leaves_nothing(rows: Rows, configs: PostgresConfigs) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOW)
    before = await configs.read(account_id=account, profile_id=child)

    def half(config: Config) -> Config:
        return config.changed(ConfigChange(weekend_limit_minutes=None), at_ms=LATER)

    with pytest.raises(InvalidInput):
        await configs.change(account_id=account, profile_id=child, actor="parent", at_ms=LATER, change=half)
    assert await configs.read(account_id=account, profile_id=child) == before


async def test_changes_at_the_same_time_come_one_after_the_other(rows: Rows, configs: PostgresConfigs) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOW)
    writes = [
        configs.change(account_id=account, profile_id=child, actor="parent", at_ms=LATER, change=_shorter)
        for _ in range(8)
    ]
    assert sorted([config.version for config in await asyncio.gather(*writes)]) == list(range(2, 10))


async def test_of_two_who_saw_the_same_version_one_wins(rows: Rows, configs: PostgresConfigs) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOW)

    def if_first(config: Config) -> Config:
        if config.version != 1:
            raise PreconditionFailed
        return _shorter(config)

    writes = [
        configs.change(account_id=account, profile_id=child, actor="parent", at_ms=LATER, change=if_first)
        for _ in range(4)
    ]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert sum(isinstance(result, Config) for result in results) == 1
    assert sum(isinstance(result, PreconditionFailed) for result in results) == 3


async def test_a_new_zone_is_kept_with_its_calendar(rows: Rows, configs: PostgresConfigs) -> None:
    account = await rows.account()
    child = await rows.child(account, at_ms=NOW)

    def moved(config: Config) -> Config:
        return config.changed(ConfigChange(timezone="Pacific/Apia", reset_hour=3), at_ms=LATER)

    changed = await configs.change(account_id=account, profile_id=child, actor="parent", at_ms=LATER, change=moved)
    (policy,) = await PostgresPolicies(rows.engine, lambda: LATER).load([child])
    assert policy is not None
    assert policy.calendar == changed.calendar
    assert len(msgspec.to_builtins(changed.calendar)[1]) == 2


async def test_others_and_adults_have_no_settings(rows: Rows, configs: PostgresConfigs) -> None:
    account, stranger = await rows.account(), await rows.account()
    child, adult = await rows.child(account, at_ms=NOW), await rows.adult(account)
    for account_id, profile_id in [(stranger, child), (account, str(uuid4())), (account, "x"), (account, "\0")]:
        with pytest.raises(ProfileAccessDenied):
            await configs.read(account_id=account_id, profile_id=profile_id)
        with pytest.raises(ProfileAccessDenied):
            await configs.change(
                account_id=account_id, profile_id=profile_id, actor="parent", at_ms=NOW, change=_shorter
            )
    with pytest.raises(NoConfig):
        await configs.read(account_id=account, profile_id=adult)
