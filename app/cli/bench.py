"""`hourglass bench`: what this machine carries, on servers of its own."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.cli.errors import CommandError

Only = Annotated[list[str] | None, typer.Option(help="A part to measure, e.g. heartbeat; may be repeated.")]


def command(  # noqa: PLR0917  typer passes these by name
    quick: Annotated[bool, typer.Option("--quick", help="Fewer viewers and short loads: less than a minute.")] = False,
    only: Only = None,
    viewers: Annotated[
        int | None, typer.Option(min=100, max=5_000_000, help="Children, each with a token (500,000).")
    ] = None,
    children: Annotated[
        int | None, typer.Option(min=10, max=1_000_000, help="Children with a year of the past, for reports (100,000).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=2, help="Length of the sustained run (300).")] = None,
    json: Annotated[Path | None, typer.Option(help="Write the figures into this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw a chart into this file.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Keep the data here for the next run.")] = None,
) -> None:
    """Measure the service beside what it is judged by: ceiling, a script call for each beat, PostgreSQL in the path.

    Starts servers of its own, in a temporary folder, and ends them. Needs wrk (Debian: apt-get install wrk).
    """
    from app.bench.failures import BenchFailed  # noqa: PLC0415  keeps `--help` quick
    from app.bench.parts import PARTS  # noqa: PLC0415
    from app.bench.plan import Plan  # noqa: PLC0415
    from app.bench.run import run  # noqa: PLC0415

    names = [part.name for part in PARTS]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(names)}", param_hint="--only")
    for file in (json, svg):
        if file is not None and not file.absolute().parent.is_dir():
            raise CommandError(f"cannot write {file}: there is no such folder")
    plan = Plan.of(quick=quick, viewers=viewers, seconds=seconds, children=children)
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # ending the servers on the way
    try:
        run(plan, only=only or (), data_dir=data_dir, json_file=json, svg_file=svg)
    except BenchFailed as error:
        raise CommandError(str(error)) from error
