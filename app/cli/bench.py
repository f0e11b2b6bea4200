"""`hourglass bench`: measure the service on this machine."""

import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from app.deployment.errors import CommandError, using_lab

Only = Annotated[list[str] | None, typer.Option(help="Part to measure, e.g. heartbeat. May be repeated.")]


def command(  # noqa: PLR0917  typer passes these by name
    quick: Annotated[bool, typer.Option("--quick", help="Fewer viewers and short loads: less than a minute.")] = False,
    only: Only = None,
    viewers: Annotated[
        int | None, typer.Option(min=100, max=5_000_000, help="Children, each with a token (500,000).")
    ] = None,
    children: Annotated[
        int | None, typer.Option(min=10, max=1_000_000, help="Children with a year of usage, for reports (100,000).")
    ] = None,
    seconds: Annotated[float | None, typer.Option(min=2, help="Length of the sustained run (300).")] = None,
    repeat: Annotated[
        int | None,
        typer.Option(
            min=1, max=1_000, help="Rounds in which the heartbeat and its baselines take turns; gives ratios."
        ),
    ] = None,
    all_rules: Annotated[
        bool, typer.Option("--all-rules", help="Windows, weekly limit, breaks and every other rule for each child.")
    ] = False,
    json: Annotated[Path | None, typer.Option(help="Write the figures into this file.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Draw a chart into this file.")] = None,
    data_dir: Annotated[Path | None, typer.Option(help="Folder that keeps the data for the next run.")] = None,
) -> None:
    """Measure the service and its baselines: bare echo, plain ASGI, a Go service, PostgreSQL in the path.

    Starts its own servers in a temporary folder and ends them. Requires wrk (Debian: apt-get install wrk).
    """
    with using_lab():
        from app.lab.bench.failures import BenchFailed  # noqa: PLC0415  keeps `--help` quick
        from app.lab.bench.parts import COMPARED, ON_REQUEST, PARTS, chosen_parts  # noqa: PLC0415
        from app.lab.bench.plan import Plan  # noqa: PLC0415
        from app.lab.bench.run import run  # noqa: PLC0415

    names = [part.name for part in PARTS]
    unknown = sorted(set(only or ()) - set(names))
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: choose from {', '.join(names)}", param_hint="--only")
    for file in (json, svg):
        if file is not None and not file.absolute().parent.is_dir():
            raise CommandError(f"cannot write {file}: its folder does not exist")
    compared = tuple(name for name in only or () if name in COMPARED)
    plan = Plan.of(
        quick=quick,
        viewers=viewers,
        seconds=seconds,
        children=children,
        repeat=repeat,
        compared=compared,
        all_rules=all_rules,
    )
    parts = chosen_parts(only or (), repeats=repeat is not None)
    if repeat is not None and not ON_REQUEST.intersection(part.name for part in parts):
        raise typer.BadParameter(
            f"of the named parts none takes turns; {', '.join(sorted(COMPARED))} do", param_hint="--repeat"
        )
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(143))  # ends the servers on the way
    try:
        run(plan, parts=parts, data_dir=data_dir, json_file=json, svg_file=svg)
    except BenchFailed as error:
        raise CommandError(str(error)) from error
