"""`hourglass migrate`: the database schema, brought to this version."""

from app.cli.errors import reaching
from app.cli.target import DataDir, settings_of


def command(data_dir: DataDir = None) -> None:
    """Bring the database schema to this version (safe to repeat, and while the service runs)."""
    settings = settings_of(data_dir)
    from app.postgres_store.migrate import head, upgrade  # noqa: PLC0415  keeps `--help` quick

    with reaching("PostgreSQL", "DATABASE_URL"):
        upgrade(settings.database_url.get_secret_value())
    print(f"schema is at {head()}")
