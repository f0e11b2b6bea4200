"""Run migrations over the asyncpg driver. The address comes from app/postgres_store/migrate.py."""

import asyncio
from collections.abc import Collection
from typing import cast

from alembic import context
from alembic.runtime.migration import MigrationContext
from sqlalchemy import text
from sqlalchemy.engine import Connection
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app.postgres_store.tables import metadata

_NOTE = text("""
INSERT INTO schema_compatibility (compatible_from) VALUES (:mark)
    ON CONFLICT (only_row) DO UPDATE SET compatible_from = excluded.compatible_from
""")


def _is_ours(name: str | None, kind: str, parents: object) -> bool:  # noqa: ARG001  alembic's signature
    """Ignore partitions, which come and go by age. Only their parents belong to the schema."""
    return kind != "table" or name in metadata.tables


def _note_compatibility(
    ctx: MigrationContext,
    step: object,  # noqa: ARG001  alembic's signature
    heads: Collection[str],
    run_args: object,  # noqa: ARG001  likewise
) -> None:
    """Record the oldest revision whose code works on the schema, in the transaction of each migration."""
    connection = ctx.connection
    if connection is None or connection.scalar(text("SELECT to_regclass('schema_compatibility')")) is None:
        return
    mark, revision = None, next(iter(heads), None)
    while mark is None and revision is not None:
        script = context.script.get_revision(revision)
        mark = getattr(script.module, "compatible_from", None)
        revision = cast("str | None", script.down_revision)
    connection.execute(_NOTE, {"mark": mark})


def _run(connection: Connection) -> None:
    context.configure(
        connection=connection,
        target_metadata=metadata,
        include_name=_is_ours,
        transaction_per_migration=True,
        on_version_apply=_note_compatibility,
    )
    with context.begin_transaction():
        context.run_migrations()


async def _main() -> None:
    engine = create_async_engine(context.config.attributes["database_url"], poolclass=NullPool)
    async with engine.connect() as connection:
        await connection.run_sync(_run)
    await engine.dispose()


asyncio.run(_main())
