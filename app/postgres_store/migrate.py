"""Schema migrations, run by ``hourglass migrate`` and ``hourglass up``."""

import asyncio

import asyncpg
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.postgres_store.compatibility import MIGRATIONS, SchemaMisfit, known_revisions, read_marks, validation_problem
from app.postgres_store.engine import async_url

_CONNECT_SECONDS = 10.0


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["database_url"] = async_url(database_url)
    return config


def upgrade(database_url: str, revision: str = "head") -> str:
    """Bring the schema to a revision. Blocking; opens an event loop of its own.

    A newer schema on which this code may run is left as it is.

    Returns:
        the revision that the schema has now.

    Raises:
        SchemaMisfit: the schema is too new for this code.
    """
    at, compatible_from = asyncio.run(_marks(database_url))
    if at is not None and at not in known_revisions():
        problem = validation_problem(at, compatible_from)
        if problem is not None:
            raise SchemaMisfit(problem)
        return at
    command.upgrade(alembic_config(database_url), revision)
    return head() if revision == "head" else revision


async def _marks(database_url: str) -> tuple[str | None, str | None]:
    plain = database_url.replace("postgresql+asyncpg://", "postgresql://", 1)
    connection = await asyncpg.connect(plain, timeout=_CONNECT_SECONDS, statement_cache_size=0)
    try:
        return await read_marks(connection)
    finally:
        await connection.close(timeout=_CONNECT_SECONDS)


def head() -> str:
    """The newest revision this code knows."""
    revision = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    if revision is None:
        raise RuntimeError("there are no migrations")
    return revision
