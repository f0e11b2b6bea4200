"""Runs migrations over the asyncpg driver; the address comes from app/postgres_store/migrate.py."""

import asyncio

from alembic import context
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.postgres_store.tables import metadata


def _is_ours(name: str | None, kind: str, parents: object) -> bool:  # noqa: ARG001  alembic's signature
    """Partitions come and go by age; only their parents belong to the schema."""
    return kind != "table" or name in metadata.tables


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection, target_metadata=metadata, include_name=_is_ours, transaction_per_migration=True
    )
    with context.begin_transaction():
        context.run_migrations()


async def _main() -> None:
    engine = create_async_engine(context.config.attributes["database_url"], poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_main())
