"""`hourglass demo`: what `hourglass up --demo` adds, a household that watches."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.cli.parent import Parent, end_with
from app.cli.target import DEFAULT


def command(
    data_dir: Annotated[Path, typer.Option(help="Data folder of a running `hourglass up`.")] = DEFAULT,
    parent: Parent = None,
) -> None:
    """Let a demo household watch, over HTTP only, and show what comes of it."""
    end_with(parent)
    from app.cli.showcase import show  # noqa: PLC0415  keeps `--help` quick

    asyncio.run(show(data_dir))
