"""`hourglass demo`: the demo household of `hourglass up --demo`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from app.deployment.parent_process import Parent, end_with_parent
from app.deployment.target import DEFAULT


def command(
    data_dir: Annotated[Path, typer.Option(help="Data folder of a running `hourglass up`.")] = DEFAULT,
    parent: Parent = None,
) -> None:
    """Run a demo household over HTTP and show its balances."""
    end_with_parent(parent)
    from app.clients.demo import show  # noqa: PLC0415  keeps `--help` quick

    asyncio.run(show(data_dir))
