"""`hourglass doctor`: is everything this service relies on as it must be?"""

import asyncio

import typer

from app.cli.target import DataDir, settings_of


def command(data_dir: DataDir = None) -> None:
    """Check servers, schema, clocks and pools of a deployment. Ends with 1 when something must be mended."""
    settings = settings_of(data_dir)
    from app.cli.checkup import checkup, show  # noqa: PLC0415  keeps `--help` quick

    findings = asyncio.run(checkup(settings))
    if not show(findings):
        raise typer.Exit(1)
