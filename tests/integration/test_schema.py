"""The migrations create exactly the tables of the code."""

from concurrent.futures import ThreadPoolExecutor

import bcrypt
from alembic import command
from sqlalchemy import text

from app.domain.platform import AccountFacts
from app.postgres_store.engine import create_engine
from app.postgres_store.external_ids import ExternalTombstones, PostgresExternalIds
from app.postgres_store.migrate import alembic_config, upgrade
from tests.servers import Databases


def test_migrations_and_tables_agree(postgres: Databases) -> None:
    url = postgres.fresh()
    with ThreadPoolExecutor(1) as thread:  # alembic opens an event loop of its own
        thread.submit(command.check, alembic_config(url)).result()


def test_the_way_down_leads_back_up(postgres: Databases) -> None:
    url = postgres.fresh()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(command.downgrade, alembic_config(url), "base").result()
        thread.submit(upgrade, url).result()
        thread.submit(command.check, alembic_config(url)).result()


async def test_accounts_of_the_platform_survive_the_way_down_and_up(postgres: Databases) -> None:
    """The older code finds an address and a hash for each, which nobody can sign in with."""
    url = postgres.fresh()
    engine = create_engine(url, pool_size=1, timeout_seconds=5)
    store = PostgresExternalIds(engine, ExternalTombstones(b"x" * 32))
    facts = [AccountFacts(external_id=f"auth0|{number}", timezone="UTC") for number in range(3)]
    made = await store.provision(facts, actor="service", at_ms=0)
    await engine.dispose()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(command.downgrade, alembic_config(url), "0006").result()
    engine = create_engine(url, pool_size=1, timeout_seconds=5)
    async with engine.connect() as database:
        rows = (await database.execute(text("SELECT id::text, email, password_hash FROM accounts"))).all()
    assert {row.id for row in rows} == {one.account_id for one in made}
    assert len({row.email for row in rows}) == 3
    assert not any(bcrypt.checkpw(b"", row.password_hash.encode()) for row in rows)
    await engine.dispose()
    with ThreadPoolExecutor(1) as thread:
        thread.submit(command.upgrade, alembic_config(url), "head").result()
