"""`hourglass simulate`: simulated players on a running service."""

import asyncio
from typing import Annotated

import typer

from app.deployment.target import DataDir

Url = Annotated[str | None, typer.Option(help="Base address of the service [default: the deployment in --data-dir].")]


def command(
    viewers: Annotated[int, typer.Option(min=1, max=100_000, help="Number of watching children.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="Duration of playback in seconds.")] = 60,
    url: Url = None,
    seed: Annotated[int | None, typer.Option(help="Repeats a run's choices [default: a new one, printed].")] = None,
    data_dir: DataDir = None,
) -> None:
    """Run simulated players, then compare their own account with the counted time.

    Creates new households over HTTP and keeps them. The exit code is 1 if answers failed or sums differ.
    """
    from app.clients.simulation import Simulation  # noqa: PLC0415  keeps `--help` quick
    from app.deployment.target import api_url  # noqa: PLC0415

    address = url or api_url(data_dir)
    if not asyncio.run(Simulation(address, data_dir, seed=seed).run(viewers=viewers, seconds=seconds)):
        raise typer.Exit(1)
