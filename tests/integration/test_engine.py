"""Connections from the pool."""

from sqlalchemy import text

from app.postgres_store.access import connection, transaction
from app.postgres_store.engine import create_engine, warm
from tests.servers import Databases

_CUT_OURS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE application_name = 'hourglass' AND datname = current_database()"
)


async def test_a_connection_that_was_cut_is_replaced(postgres: Databases) -> None:
    engine = create_engine(postgres.fresh(), pool_size=3, timeout_seconds=5)
    await warm(engine, 3)
    # Other tests share the server: one may have left a connection to a database of its own.
    assert engine.url.database
    assert postgres.execute(_CUT_OURS, database=engine.url.database) == "3"
    for opened in (connection, transaction):
        async with opened(engine) as database:
            assert (await database.execute(text("SELECT 1"))).scalar_one() == 1
    await engine.dispose()


async def test_reading_begins_no_transaction(postgres: Databases) -> None:
    """It would cost two more round trips."""
    engine = create_engine(postgres.fresh(), pool_size=1, timeout_seconds=5)
    for opened, transactions in ((connection, 2), (transaction, 1)):
        async with opened(engine) as database:
            ids = {(await database.execute(text("SELECT pg_current_xact_id()::text"))).scalar_one() for _ in range(2)}
        assert len(ids) == transactions
    await engine.dispose()
