"""`hourglass config`: show the effective settings."""

import json
import sys
from typing import Annotated

import typer

from app.deployment.target import DataDir, settings_of


def command(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Print every effective setting by its environment variable, with secrets masked."""
    settings = settings_of(data_dir)
    from app.settings.settings import old_variables, unknown_variables  # noqa: PLC0415  keeps `--help` quick

    values = {name: _plain(value) for name, value in settings.masked().items()}
    if as_json:
        print(json.dumps(values, indent=2))
    else:
        for name, value in values.items():
            print(f"{name}={'' if value is None else value}")
    for old, new in old_variables().items():
        print(f"hourglass: {old} is called {new} now; the old name goes on for this version", file=sys.stderr)
    for name in unknown_variables():
        print(f"hourglass: {name} is not a setting of this version; check the spelling", file=sys.stderr)


def _plain(value: object) -> int | float | str | bool | None:
    """A value in the notation of the environment."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
