"""`hourglass migrate`: upgrade the database schema to this version."""

from app.deployment.errors import translate_connection_errors
from app.deployment.target import DataDir, adopt


def command(data_dir: DataDir = None) -> None:
    """Upgrade the database schema to this version. It is safe to repeat, also while the service runs.

    Requires only the address of the database.
    """
    adopt(data_dir)
    from app.settings.settings import load_database_url  # noqa: PLC0415  keeps `--help` quick

    database_url = load_database_url()
    from app.postgres_store.migrate import head, upgrade  # noqa: PLC0415  as above

    with translate_connection_errors("PostgreSQL", "DATABASE_URL"):
        revision = upgrade(database_url)
    if revision == head():
        print(f"schema is at {revision}")
    else:
        print(f"schema is at {revision}: newer than this version ({head()}), which works with it; nothing to do")
