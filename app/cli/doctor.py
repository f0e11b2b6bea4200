"""`hourglass doctor`: check the servers and settings of a deployment."""

import asyncio

import typer

from app.deployment.target import DataDir, settings_of


def command(data_dir: DataDir = None) -> None:
    """Check servers, schema, clocks and pools of a deployment. The exit code is 1 if something must be corrected."""
    settings = settings_of(data_dir)
    from app.deployment.checkup import checkup, show  # noqa: PLC0415  keeps `--help` quick

    findings = asyncio.run(checkup(settings))
    if not show(findings):
        raise typer.Exit(1)
