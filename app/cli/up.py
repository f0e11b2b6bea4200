"""`hourglass up`: the whole service on one machine."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.api import Host, Port, Workers
from app.cli.target import DEFAULT


def command(
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    data_dir: Annotated[Path, typer.Option(help="Folder for data, secrets and logs.")] = DEFAULT,
    demo: Annotated[bool, typer.Option("--demo", help="Let a demo household watch.")] = False,
) -> None:
    """Run everything on this machine: servers (unless DATABASE_URL, REDIS_URL name others), API and worker."""
    from app.cli.supervisor import run  # noqa: PLC0415  keeps `--help` quick

    options = {"host": host, "port": port, "workers": workers}
    run(data_dir.absolute(), {name: value for name, value in options.items() if value is not None}, demo=demo)
