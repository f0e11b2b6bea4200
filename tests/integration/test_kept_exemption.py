"""The exemption of configs that were saved before it was part of their history."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from app.domain.config import ConfigChange
from app.postgres_store.configs import PostgresConfigs
from app.postgres_store.engine import create_engine
from app.postgres_store.migrate import upgrade
from tests.servers import Databases

NOON = 1_772_452_800_000
ACCOUNT, CHILD = "11111111-1111-1111-1111-111111111111", "22222222-2222-2222-2222-222222222222"
ROWS = f"""
INSERT INTO accounts (id, email, password_hash, timezone) VALUES ('{ACCOUNT}', 'a@example.org', '-', 'UTC');
INSERT INTO profiles (id, account_id, name, is_kids, timezone) VALUES ('{CHILD}', '{ACCOUNT}', 'Ada', true, 'UTC');
INSERT INTO viewing_time_configs
       (profile_id, version, reset_hour, timezone, educational_exempt, warning_minutes, calendar)
VALUES ('{CHILD}', 2, 6, 'UTC', false, '[15, 5]', '[[20514, 1772431200000, 1772517600000], [[0, "UTC", 6]]]');
INSERT INTO viewing_time_config_history (profile_id, version, valid_from)
VALUES ('{CHILD}', 1, now()), ('{CHILD}', 2, now())
"""  # noqa: S608  our own ids
HISTORY = f"""
SELECT version, educational_exempt FROM viewing_time_config_history WHERE profile_id = '{CHILD}' ORDER BY version
"""  # noqa: S608  our own id


@pytest.fixture
def before(postgres: Databases) -> str:
    """A database of the version before."""
    url = postgres.empty()
    with ThreadPoolExecutor(1) as thread:  # alembic opens an event loop of its own
        thread.submit(upgrade, url, "0002").result()
    return url


async def test_settings_in_force_keep_it_and_the_next_change_writes_down_the_rest(before: str) -> None:
    engine = create_engine(before, pool_size=1, timeout_seconds=5)
    try:
        async with engine.begin() as database:
            for statement in ROWS.split(";"):
                await database.exec_driver_sql(statement)
        with ThreadPoolExecutor(1) as thread:
            thread.submit(upgrade, before).result()
        async with engine.connect() as database:
            assert [tuple(row) for row in await database.exec_driver_sql(HISTORY)] == [(1, None), (2, False)]
        await PostgresConfigs(engine).change(
            account_id=ACCOUNT,
            profile_id=CHILD,
            actor="parent",
            at_ms=NOON,
            change=lambda config: config.changed(ConfigChange(educational_exempt=True), at_ms=NOON),
        )
        async with engine.connect() as database:
            kept = [tuple(row) for row in await database.exec_driver_sql(HISTORY)]
        assert kept == [(1, False), (2, False), (3, True)]
    finally:
        await engine.dispose()
