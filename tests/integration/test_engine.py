"""Connections of the database pool."""

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from app.errors import DatabaseUnavailable
from app.postgres_store.access import Query, connection, transaction
from app.postgres_store.engine import create_engine, warm
from tests.servers import Databases

_CUT_OURS = (
    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
    "WHERE application_name = 'hourglass' AND datname = current_database()"
)
_ONE = Query("SELECT CAST(:number AS int) AS one")
_SLOW = Query("SELECT pg_sleep(:seconds)")


def _cut(postgres: Databases, engine: AsyncEngine) -> None:
    # Other tests share the server: one may have left a connection to a database of its own.
    assert engine.url.database
    assert postgres.execute(_CUT_OURS, database=engine.url.database) == "3"


async def test_a_connection_that_was_cut_is_replaced(postgres: Databases) -> None:
    for opened in (connection, transaction):
        engine = create_engine(postgres.fresh(), pool_size=3, timeout_seconds=5)
        await warm(engine, 3)
        _cut(postgres, engine)
        await asyncio.sleep(0.1)  # the event loop hears of it
        async with opened(engine) as database:
            assert (await database.execute(text("SELECT 1"))).scalar_one() == 1
        await engine.dispose()


async def test_a_question_that_finds_its_connection_cut_is_asked_again(postgres: Databases) -> None:
    engine = create_engine(postgres.fresh(), pool_size=3, timeout_seconds=5)
    await warm(engine, 3)
    _cut(postgres, engine)  # the event loop has stood still since
    assert [row["one"] for row in await _ONE.rows(engine, number=1)] == [1]
    await engine.dispose()


@pytest.mark.parametrize("opened", [connection, transaction])
@pytest.mark.parametrize("statement", ["ALTER DATABASE {} ALLOW_CONNECTIONS false", "DROP DATABASE {}"])
async def test_a_server_that_takes_no_connection_is_away(
    postgres: Databases, opened: Callable[[AsyncEngine], AbstractAsyncContextManager[object]], statement: str
) -> None:
    engine = create_engine(postgres.fresh(), pool_size=1, timeout_seconds=5)
    assert engine.url.database
    postgres.execute(statement.format(engine.url.database))
    with pytest.raises(DatabaseUnavailable):
        async with opened(engine):
            pass
    with pytest.raises(DatabaseUnavailable):
        await _ONE.rows(engine, number=1)
    await engine.dispose()


async def test_only_a_connection_that_lay_idle_is_asked_whether_it_lives(
    postgres: Databases, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = create_engine(postgres.fresh(), pool_size=1, timeout_seconds=5)
    sent: list[str] = []

    @event.listens_for(engine.sync_engine, "connect")
    def note(connection: Any, _record: object) -> None:
        connection.driver_connection.add_query_logger(lambda told: sent.append(told.query))

    async def asked() -> list[str]:
        await asyncio.sleep(0)  # the driver tells in the next round of the loop
        sent.clear()
        await _ONE.rows(engine, number=1)
        await asyncio.sleep(0)
        return [statement.partition(" ")[0] for statement in sent]

    await warm(engine, 1)
    assert await asked() == ["SELECT"]
    monkeypatch.setattr("app.postgres_store.engine._TRUSTED_SECONDS", 0.0)
    assert await asked() == [";", "SELECT"]
    await engine.dispose()


async def test_a_question_that_nobody_waits_for_any_more_leaves_its_connection_sound(postgres: Databases) -> None:
    engine = create_engine(postgres.fresh(), pool_size=1, timeout_seconds=5)
    asking = asyncio.create_task(_SLOW.rows(engine, seconds=60))
    await asyncio.sleep(0.1)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
    assert [row["one"] for row in await _ONE.rows(engine, number=1)] == [1]
    await engine.dispose()


async def test_a_database_that_is_away_has_one_name(postgres: Databases) -> None:
    engine = create_engine(postgres.fresh(), pool_size=1, timeout_seconds=0.2)
    with pytest.raises(DatabaseUnavailable):
        await _SLOW.rows(engine, seconds=5)
    assert [row["one"] for row in await _ONE.rows(engine, number=1)] == [1]
    async with engine.connect():
        with pytest.raises(DatabaseUnavailable):
            await _ONE.rows(engine, number=1)
    await engine.dispose()
    nowhere = create_engine("postgresql:///x?host=/nowhere", pool_size=1, timeout_seconds=1)
    with pytest.raises(DatabaseUnavailable):
        await _ONE.rows(nowhere, number=1)


async def test_reading_begins_no_transaction(postgres: Databases) -> None:
    """It would cost two more round trips."""
    engine = create_engine(postgres.fresh(), pool_size=1, timeout_seconds=5)
    for opened, transactions in ((connection, 2), (transaction, 1)):
        async with opened(engine) as database:
            ids = {(await database.execute(text("SELECT pg_current_xact_id()::text"))).scalar_one() for _ in range(2)}
        assert len(ids) == transactions
    await engine.dispose()
