"""Recorded SQL statements of an engine."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

from asyncpg import Record
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncEngine

from app.postgres_store.access import Query


@contextmanager
def statements_of(engine: AsyncEngine) -> Iterator[list[str]]:
    """The statements that are sent while the block runs, past SQLAlchemy's cursor too.

    What only tries a connection does not count.
    """
    sent: list[str] = []

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement != "SELECT 1":
            sent.append(statement)

    ask = Query.rows

    async def noted(query: Query, asked: AsyncEngine, **values: object) -> list[Record]:
        if asked is engine:
            sent.append(query.statement)
        return await ask(query, asked, **values)

    event.listen(engine.sync_engine, "before_cursor_execute", note)
    try:
        with patch.object(Query, "rows", noted):
            yield sent
    finally:
        event.remove(engine.sync_engine, "before_cursor_execute", note)
