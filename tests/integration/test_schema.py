"""The migrations make exactly the tables that the code knows."""

from concurrent.futures import ThreadPoolExecutor

from alembic import command

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
