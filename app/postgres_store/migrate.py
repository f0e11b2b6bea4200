"""Schema migrations, run by ``hourglass migrate`` and ``hourglass up``."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory

from app.postgres_store.engine import async_url

_SCRIPTS = Path(__file__).parents[2] / "alembic"


def alembic_config(database_url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.attributes["database_url"] = async_url(database_url)
    return config


def upgrade(database_url: str, revision: str = "head") -> None:
    """Bring the schema to a revision. Blocking; opens an event loop of its own."""
    command.upgrade(alembic_config(database_url), revision)


def head() -> str:
    """The newest revision this code knows."""
    revision = ScriptDirectory(str(_SCRIPTS)).get_current_head()
    if revision is None:
        raise RuntimeError("there are no migrations")
    return revision
