"""The command line: ``hourglass COMMAND``. One module per command; what a command needs it imports when it runs.

Exit codes: 0 done, 1 failed with a message, 2 wrong usage.
"""

import sys
from collections.abc import Sequence

import typer

from app.cli import (
    api,
    bench,
    chaos,
    config,
    conformance,
    demo,
    doctor,
    migrate,
    reconcile,
    rival,
    simulate,
    token,
    up,
    worker,
)
from app.cli.errors import explained

app = typer.Typer(
    name="hourglass",
    help="Viewing time for children: measured, enforced, never lost, never doubled.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _module in (up, api, worker, migrate, config, doctor, token, simulate, reconcile, bench, chaos, conformance):
    app.command(_module.__name__.rpartition(".")[2])(_module.command)
app.command("demo", hidden=True)(demo.command)
app.command("rival", hidden=True)(rival.command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process, which is a SystemExit."""
    try:
        app(args=arguments, prog_name="hourglass")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        text = explained(error)
        if text is None:
            raise
        for line in text.splitlines():
            print(f"hourglass: {line}", file=sys.stderr)
        sys.exit(1)
