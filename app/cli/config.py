"""`hourglass config`: the settings as this version reads them."""

import json
import sys
from typing import Annotated

import typer

from app.cli.target import DataDir, settings_of


def command(
    data_dir: DataDir = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object instead of lines.")] = False,
) -> None:
    """Print every effective setting by its environment variable, secrets masked."""
    settings = settings_of(data_dir)
    from app.settings import unknown_variables  # noqa: PLC0415  keeps `--help` quick

    values = {name: _plain(value) for name, value in settings.masked().items()}
    if as_json:
        print(json.dumps(values, indent=2))
    else:
        for name, value in values.items():
            print(f"{name}={'' if value is None else value}")
    for name in unknown_variables():
        print(f"hourglass: {name} is no setting of this version; is it misspelt?", file=sys.stderr)


def _plain(value: object) -> int | float | str | bool | None:
    """As it would be written in the environment."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, tuple):
        return ",".join(map(str, value))
    return str(value)
