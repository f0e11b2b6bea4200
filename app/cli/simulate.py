"""`hourglass simulate`: players against a running service."""

import asyncio
from typing import Annotated

import typer

from app.cli.target import DataDir

Url = Annotated[
    str | None, typer.Option(help="Base address of the service [default: that of the deployment in --data-dir].")
]


def command(
    viewers: Annotated[int, typer.Option(min=1, max=100_000, help="Children who watch.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="How long they watch.")] = 60,
    url: Url = None,
    seed: Annotated[int | None, typer.Option(help="Repeats a run's choices [default: a new one, printed].")] = None,
    data_dir: DataDir = None,
) -> None:
    """Let simulated players watch, then compare what they know they watched with what the service counted.

    Makes new households over HTTP for it and leaves them there. Ends with 1 when answers failed or sums differ.
    """
    from app.cli.simulation import Simulation  # noqa: PLC0415  keeps `--help` quick
    from app.cli.target import api_url  # noqa: PLC0415

    address = url or api_url(data_dir)
    if not asyncio.run(Simulation(address, data_dir, seed=seed).run(viewers=viewers, seconds=seconds)):
        raise typer.Exit(1)
