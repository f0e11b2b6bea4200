"""`hourglass up`: the whole service on one machine."""

from pathlib import Path
from typing import Annotated

import typer

from app.cli.api import Host, Port, Workers
from app.deployment.errors import configure_output
from app.deployment.target import DEFAULT


def command(
    host: Host = None,
    port: Port = None,
    workers: Workers = None,
    data_dir: Annotated[Path, typer.Option(help="Folder for data, secrets and logs.")] = DEFAULT,
    demo: Annotated[bool, typer.Option("--demo", help="Run a demo household.")] = False,
) -> None:
    """Run everything on this machine: API, worker, and servers unless DATABASE_URL and REDIS_URL name existing ones."""
    from app.settings.settings import environment  # noqa: PLC0415  keeps `--help` quick

    configure_output(service=environment().get("HOURGLASS_LOG_FORMAT") == "json")
    from app.deployment.supervisor import run  # noqa: PLC0415  as above

    options = {"host": host, "port": port, "workers": workers}
    run(data_dir.absolute(), {name: value for name, value in options.items() if value is not None}, demo=demo)
