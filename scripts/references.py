"""The reference documents that are made from code: settings, metrics, API, commands. Tests say when they are due."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
from pydantic import SecretStr
from typer.core import TyperArgument, TyperGroup, TyperOption

from app.cli import app as command_line
from app.feed.document import asyncapi_text, event_sections
from app.main import create_app
from app.observability.reference import metrics_table
from app.settings.advice import WHEN_TO_CHANGE
from app.settings.settings import Settings, variable_of

DOCS = Path(__file__).parents[1] / "docs"
REFERENCE, OPENAPI = DOCS / "reference", DOCS / "openapi.json"
SETTINGS, METRICS = REFERENCE / "settings.md", REFERENCE / "metrics.md"
CLI, API = REFERENCE / "cli.md", REFERENCE / "api.md"


EVENTS, ASYNCAPI = DOCS / "reference" / "events.md", DOCS / "asyncapi.json"


def settings_table() -> str:
    rows = [
        f"| `{variable_of(name)}` | {_default(field.default, required=field.is_required())} | {field.description} |"
        f" {WHEN_TO_CHANGE.get(name, '')} |"
        for name, field in Settings.model_fields.items()
    ]
    return "\n".join(["| variable | default | meaning | change it when |", "|---|---|---|---|", *rows])


def _default(value: object, *, required: bool) -> str:
    if required:
        return "required"
    return f"`{','.join(map(str, value))}`" if isinstance(value, tuple) else f"`{value}`"


def cli_text() -> str:
    """Every command with its arguments and options, as ``--help`` shows them."""
    group = typer.main.get_command(command_line)
    if not isinstance(group, TyperGroup):
        raise TypeError("the command line has several commands")
    parts = []
    for name, command in sorted(group.commands.items()):
        if command.hidden:
            continue
        summary = (command.help or "").strip().splitlines()[0]
        parts += [f"## hourglass {name}", "", summary, ""]
        for argument in command.params:
            if isinstance(argument, TyperArgument):
                parts += [f"`{str(argument.name).upper()}`: {_cell(argument.help or '')}", ""]
        options = [option for option in command.params if isinstance(option, TyperOption) and not option.hidden]
        if options:
            parts += ["| option | meaning |", "|---|---|"]
            parts += [f"| `{', '.join(option.opts)}` | {_cell(option.help or '')} |" for option in options]
            parts.append("")
    return "\n".join(parts)


def api_table() -> str:
    """Every operation of the OpenAPI document: method, path, what it does, and the statuses it answers."""
    document = json.loads(openapi_text())
    rows = [
        f"| {method.upper()} | `{path}` | {_cell(_does(operation))} | {', '.join(operation['responses'])} |"
        for path, operations in document["paths"].items()
        for method, operation in operations.items()
        if isinstance(operation, dict) and "responses" in operation
    ]
    return "\n".join(["| method | path | does | answers |", "|---|---|---|---|", *rows])


def _does(operation: dict[str, Any]) -> str:
    """What an operation does: its summary if that is a sentence, else the first sentence of its description."""
    summary = str(operation.get("summary", ""))
    first, stop, _ = " ".join(str(operation.get("description", "")).split()).partition(". ")
    return summary if summary.endswith(".") or not first else first + stop.strip()


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def openapi_text() -> str:
    """The document of an application that connects to nothing."""
    secret = SecretStr("0" * 32)
    settings = Settings(
        database_url=SecretStr("postgresql://nowhere/x"),
        redis_url=SecretStr("redis://nowhere"),
        jwt_secret=secret,
        session_secret=secret,
        pin_pepper=secret,
    )
    return json.dumps(create_app(settings).openapi(), indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def files() -> Iterator[tuple[Path, str]]:
    """Every document with its content."""
    yield OPENAPI, openapi_text()
    yield ASYNCAPI, asyncapi_text()
    for path, first, table in (
        (METRICS, "| metric", metrics_table()),
        (SETTINGS, "| variable", settings_table()),
        (CLI, "## hourglass ", cli_text().rstrip()),
        (API, "| method", api_table()),
        (EVENTS, "## hourglass.", event_sections()),
    ):
        text = path.read_text(encoding="utf-8")
        yield path, text[: text.index(first)] + table + "\n"
