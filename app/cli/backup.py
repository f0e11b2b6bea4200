"""`hourglass backup`: save all data to one file."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from app.deployment.errors import CommandError, translate_connection_errors
from app.deployment.target import DataDir, settings_of

if TYPE_CHECKING:
    from app.settings.settings import Settings


def command(
    file: Annotated[Path, typer.Argument(help="File to write. It appears when it is complete.")],
    data_dir: DataDir = None,
) -> None:
    """Save PostgreSQL and the unflushed part of Redis to one file, while the service runs."""
    settings = settings_of(data_dir)
    if file.exists():
        raise CommandError(f"{file} exists already; choose another file")
    if not file.absolute().parent.is_dir():
        raise CommandError(f"{file.absolute().parent} is not a folder")
    with translate_connection_errors("PostgreSQL or Redis", "DATABASE_URL, REDIS_URL"):
        asyncio.run(_write(settings, file.absolute()))
    print(f"written: {file} ({file.stat().st_size / 1e6:.3g} MB)")


async def _write(settings: "Settings", file: Path) -> None:
    from app.errors import CountersUnavailable, DatabaseUnavailable  # noqa: PLC0415  keeps `--help` quick
    from app.wiring.backup import open_backup  # noqa: PLC0415  as above

    try:
        async with open_backup(settings, say=print) as backup:
            await backup.write(file)
    except (CountersUnavailable, DatabaseUnavailable) as error:
        raise CommandError(f"nothing was written: {error}") from error
