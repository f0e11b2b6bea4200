"""The house rules that no linter knows: where ports lie, what may lie loose, how long wiring may be."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import app

ROOT = Path(app.__file__).parent
MAX_WIRING_LINES = 60
LOOSE = {"__init__.py", "main.py", "errors.py", "clock.py", "timestamps.py"}
SEAMS = {
    "auth/external_idp.py",  # AccountIds: external_ids satisfies it
    "auth/external_ids.py",  # its stores speak of values that are defined beside them
    "auth/key_sets.py",  # KeySource: a file, or an address
    "auth/remote_key_set.py",  # the fetcher of the same module
    "auth/sign_ins.py",  # its store speaks of values that are defined beside it
    "auth/tokens.py",  # ExternalIdentity: two modules of one feature
    "conformance/replay.py",  # Service: what the kit replays against
    "web/views/play.py",
    "web/visit.py",  # the part of wiring's services that pages use
}
"""Modules with a Protocol that is no port: both of its sides, or its values, lie in the same module or feature."""


def modules(folder: Path = ROOT) -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(folder.rglob("*.py")):
        yield str(path.relative_to(ROOT)), ast.parse(path.read_text(encoding="utf-8"))


def is_protocol(node: ast.AST) -> bool:
    return isinstance(node, ast.ClassDef) and any(
        isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases
    )


def test_each_feature_declares_its_ports_in_one_module() -> None:
    found = {name for name, module in modules() if any(is_protocol(node) for node in module.body)}
    assert {name for name in found if not name.endswith("/ports.py")} == SEAMS


def test_nothing_else_lies_loose_in_app() -> None:
    assert {path.name for path in ROOT.glob("*.py")} == LOOSE


def test_functions_of_the_wiring_are_short() -> None:
    functions = [
        (name, node)
        for name, module in modules(ROOT / "wiring")
        for node in ast.walk(module)
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
    ]
    assert functions
    assert [
        f"{name}: {node.name}"
        for name, node in functions
        if (node.end_lineno or node.lineno) - node.lineno >= MAX_WIRING_LINES
    ] == []


def test_every_command_has_a_module_and_every_module_a_command() -> None:
    for name, module in modules(ROOT / "cli"):
        if name not in {"cli/__init__.py", "cli/__main__.py"}:
            assert any(isinstance(node, ast.FunctionDef) and node.name == "command" for node in module.body), name


def test_the_house_table_names_every_room() -> None:
    text = (ROOT.parent / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    table = text.partition("## The house")[2].partition("`workers/` stands")[0]
    rooms = {path.name for path in ROOT.iterdir() if (path / "__init__.py").exists()} | {
        Path(name).stem for name in LOOSE
    }
    assert rooms - {"__init__"} <= set(re.findall(r"`([a-z_]+)`", table))
