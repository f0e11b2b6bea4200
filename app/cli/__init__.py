"""The command line: ``hourglass COMMAND``. Each command is one module and imports its dependencies when it runs.

Exit codes: 0 success, 1 failure with a message, 2 wrong usage.
"""

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from app import __version__
from app.cli import (
    api,
    backup,
    bench,
    chaos,
    config,
    conformance,
    demo,
    doctor,
    events,
    migrate,
    reconcile,
    restore,
    simulate,
    size,
    token,
    up,
    worker,
)
from app.deployment.errors import configure_output, expected_message, show_failure
from app.kit.garbage import start_quickly

app = typer.Typer(
    name="hourglass",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _show_version(is_asked: bool) -> None:
    if is_asked:
        print(f"hourglass {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Viewing time for children: measured, enforced, never lost, never doubled."""


for _module in (
    up,
    api,
    worker,
    migrate,
    config,
    doctor,
    token,
    simulate,
    reconcile,
    events,
    backup,
    restore,
    size,
    bench,
    chaos,
    conformance,
):
    app.command(_module.__name__.rpartition(".")[2])(_module.command)
app.command("demo", hidden=True)(demo.command)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command and end the process with SystemExit."""
    start_quickly()
    configure_output(service=False)
    try:
        app(args=arguments, prog_name="hourglass")
    except KeyboardInterrupt:
        sys.exit(130)
    except Exception as error:
        text = expected_message(error)
        if text is None:
            raise
        show_failure(text)
        sys.exit(1)
