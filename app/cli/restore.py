"""`hourglass restore`: load a backup into empty servers."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.deployment.errors import CommandError, translate_connection_errors
from app.deployment.target import DataDir, settings_of

if TYPE_CHECKING:
    from app.settings.settings import Settings


def command(
    file: Annotated[Path, typer.Argument(help="A file that `hourglass backup` wrote.", exists=True, dir_okay=False)],
    data_dir: DataDir = None,
) -> None:
    """Restore a backup into an empty PostgreSQL and an empty Redis. Start the service afterwards.

    Use the secrets of the saved deployment: PINs need its pepper, and running sessions need its session secret.
    """
    settings = settings_of(data_dir)
    with translate_connection_errors("PostgreSQL or Redis", "DATABASE_URL, REDIS_URL"):
        asyncio.run(_read(settings, file.absolute()))
    print("restored; start the service now")


async def _read(settings: "Settings", file: Path) -> None:
    from app.backup.service import BackupFailed  # noqa: PLC0415  keeps `--help` quick
    from app.errors import CountersUnavailable, DatabaseUnavailable  # noqa: PLC0415  as above
    from app.wiring.backup import open_restore  # noqa: PLC0415  as above

    try:
        async with open_restore(settings, say=print) as restore:
            await restore.read(file)
    except BackupFailed as error:
        raise CommandError(str(error)) from error
    except (CountersUnavailable, DatabaseUnavailable) as error:
        raise CommandError(f"not restored: {error}; empty the database and begin again") from error
