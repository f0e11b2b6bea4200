"""All tables of the schema, saved from one snapshot and loaded into an empty database, by COPY in its binary format."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import asyncpg

from app.domain.saved_table import SavedTable
from app.errors import DatabaseUnavailable
from app.postgres_store.access import translate_errors

_CONNECT_SECONDS = 10.0
_VERSIONS = "alembic_version"
_OF_MIGRATIONS = [_VERSIONS, "schema_compatibility"]
"""These tables describe the schema, and migrations fill them."""
_SEEDED = ("feed_state",)
"""A migration puts the first row into these tables. They are saved; a restore replaces that row."""
_TABLES = """
SELECT c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = current_schema() AND c.relkind IN ('r', 'p') AND NOT c.relispartition
   AND c.relname <> ALL ($1::text[])
 ORDER BY 1
"""
_REFERENCES = """
SELECT a.relname AS from_table, b.relname AS to_table FROM pg_constraint k
  JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
 WHERE k.contype = 'f' AND a.relnamespace = current_schema()::regnamespace AND a.oid <> b.oid
"""
_COLUMNS = """
SELECT attname FROM pg_attribute
 WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped AND attgenerated = '' ORDER BY attnum
"""
_PARTITIONS = """
SELECT c.relname, pg_get_expr(c.relpartbound, c.oid) AS bounds FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid
 WHERE i.inhparent = $1::regclass ORDER BY 1
"""
_SEQUENCES = """
SELECT attname, pg_get_serial_sequence(quote_ident($1), attname) AS sequence FROM pg_attribute
 WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped
   AND pg_get_serial_sequence(quote_ident($1), attname) IS NOT NULL
"""


class PostgresSnapshot:
    """One open snapshot."""

    def __init__(self, connection: "asyncpg.Connection[Any]", revision: str) -> None:
        self._connection = connection
        self.revision = revision

    async def save(self, table: str, into: Path) -> SavedTable:
        """Write the rows of a table into a file."""
        columns = [row["attname"] for row in await self._connection.fetch(_COLUMNS, table)]
        rows = await self._connection.fetch(_PARTITIONS, table)
        partitions = [(row["relname"], row["bounds"]) for row in rows]
        chosen = ", ".join(map(_quoted, columns))
        status = await self._connection.copy_from_query(
            f"SELECT {chosen} FROM {_quoted(table)}",  # noqa: S608  names from the catalogue, quoted
            output=into,
            format="binary",
        )
        return SavedTable(name=table, columns=columns, rows=int(status.rpartition(" ")[2]), partitions=partitions)


class PostgresDump:
    """One database. Statements here have no deadline: tables may be large."""

    def __init__(self, database_url: str) -> None:
        self._url = database_url.replace("postgresql+asyncpg://", "postgresql://", 1)

    @asynccontextmanager
    async def snapshot(self) -> AsyncIterator[PostgresSnapshot]:
        """Everything as it is now, however long the block takes. Raises DatabaseUnavailable."""
        async with (
            self._connected() as connection,
            connection.transaction(isolation="repeatable_read", readonly=True),
        ):
            revision = await connection.fetchval(f"SELECT version_num FROM {_VERSIONS}")  # noqa: S608  a constant
            yield PostgresSnapshot(connection, revision)

    async def tables(self) -> list[str]:
        """All tables but those of migrations, those that others refer to first. Raises DatabaseUnavailable."""
        async with self._connected() as connection:
            found = [row["relname"] for row in await connection.fetch(_TABLES, _OF_MIGRATIONS)]
            references = [(row["from_table"], row["to_table"]) for row in await connection.fetch(_REFERENCES)]
        return list(_in_order(found, references))

    async def rows(self) -> int:
        """How many rows there are, beside those of migrations. Raises DatabaseUnavailable."""
        count = 0
        tables = await self.tables()
        async with self._connected() as connection:
            for table in (name for name in tables if name not in _SEEDED):
                count += await connection.fetchval(f"SELECT count(*) FROM {_quoted(table)}")  # noqa: S608  as above
        return count

    async def load(self, tables: Sequence[tuple[SavedTable, Path]]) -> None:
        """Put saved rows into empty tables, all or nothing. Raises DatabaseUnavailable."""
        async with self._connected() as connection, connection.transaction():
            for table, file in tables:
                for name, bounds in table.partitions:
                    await connection.execute(
                        f"CREATE TABLE IF NOT EXISTS {_quoted(name)} PARTITION OF {_quoted(table.name)} {bounds}"
                    )
                if table.name in _SEEDED:
                    await connection.execute(f"DELETE FROM {_quoted(table.name)}")  # noqa: S608  as above
                await connection.copy_to_table(table.name, source=file, columns=table.columns, format="binary")
                for row in await connection.fetch(_SEQUENCES, table.name):
                    column, sequence = _quoted(row["attname"]), row["sequence"]
                    await connection.execute(
                        f"SELECT setval('{sequence}', (SELECT max({column}) FROM {_quoted(table.name)}))"  # noqa: S608  as above
                    )

    @asynccontextmanager
    async def _connected(self) -> AsyncIterator["asyncpg.Connection[Any]"]:
        with translate_errors(), _no_answer_named():
            connection = await asyncpg.connect(self._url, timeout=_CONNECT_SECONDS, statement_cache_size=0)
            try:
                yield connection
            finally:
                await connection.close(timeout=_CONNECT_SECONDS)


@contextmanager
def _no_answer_named() -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise DatabaseUnavailable from error


def _in_order(tables: Sequence[str], references: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Tables after those that they refer to; what refers in a circle comes last, as it stands."""
    waiting, done = list(tables), set[str]()
    while waiting:
        ready = [name for name in waiting if all(to in done for by, to in references if by == name and to in waiting)]
        for name in ready or waiting:
            done.add(name)
            yield name
        waiting = [name for name in waiting if name not in done]


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
