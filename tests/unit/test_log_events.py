"""Every event that the code logs is explained, and the page is made from both."""

import ast
from collections.abc import Iterator
from pathlib import Path

from app.observability.log_events import MEANINGS
from app.observability.outages import _EVENTS

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "reference" / "log-events.md"
LEVELS = {"debug", "info", "warning", "error", "exception"}
LOGGERS = {"log", "_log", "logger"}
NAMED_ELSEWHERE = {"cannot_start": ("error", frozenset({"reason"}))}
"""Written before there is a logger, or by a logger that is given the name (``app/observability/outages.py``)."""
for kind, events in _EVENTS.items():
    NAMED_ELSEWHERE |= {
        events.away: ("warning", frozenset({kind, "reason"})),
        events.lasts: ("warning", frozenset({kind, "reason", "away_seconds"})),
        events.back: ("info", frozenset({kind, "away_seconds"})),
    }


def logged() -> dict[str, tuple[str, frozenset[str]]]:
    """Level and fields of every event that is logged in the service, tools aside."""
    found = dict(NAMED_ELSEWHERE)
    for folder in ("app", "workers"):
        for file in (ROOT / folder).rglob("*.py"):
            if not {"bench", "chaos", "lab"} & set(file.relative_to(ROOT).parts):
                found |= dict(_in(file))
    return found


def _in(file: Path) -> Iterator[tuple[str, tuple[str, frozenset[str]]]]:
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        match node:
            case ast.Call(
                func=ast.Attribute(value=ast.Name(id=name), attr=level), args=[ast.Constant(value=str(event)), *_]
            ) if name in LOGGERS and level in LEVELS:
                yield event, (level, frozenset(k.arg for k in node.keywords if k.arg not in {None, "exc_info"}))


def table() -> str:
    rows = []
    for event, (level, fields) in sorted(logged().items()):
        severity = "error" if level == "exception" else level
        shown = ", ".join(f"`{field}`" for field in sorted(fields))
        rows.append(f"| `{event}` | {severity} | {shown} | {MEANINGS.get(event, '')} |")
    return "\n".join(["| event | level | fields of its own | meaning |", "|---|---|---|---|", *rows])


def test_every_event_is_explained() -> None:
    """An event without a meaning belongs into app/observability/log_events.py; one without code leaves it."""
    assert set(MEANINGS) == set(logged())


def test_the_page_lists_the_events_as_they_are() -> None:
    assert table() in DOCUMENT.read_text(encoding="utf-8"), "run scripts/documents"
