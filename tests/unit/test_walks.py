"""The pages of docs/explanation name existing files and functions, the walks among them step by step."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs/explanation").glob("*.md"))
WALKS = ("flush", "heartbeat", "settings-change")
_STEP = re.compile(r"`((?:app|workers)/[\w/]+\.(?:py|lua))(?::([\w.]+))?`")
STEPS = sorted({(file, name) for page in PAGES for file, name in _STEP.findall(page.read_text(encoding="utf-8"))})


def _names_of(path: Path) -> set[str]:
    """Functions, classes and methods of a module, methods as ``Class.method``."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    body = [node for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, kinds)]
    methods = {
        f"{owner.name}.{node.name}"
        for owner in body
        if isinstance(owner, ast.ClassDef)
        for node in owner.body
        if isinstance(node, kinds)
    }
    return {node.name for node in body} | methods


@pytest.mark.parametrize(("file", "name"), STEPS, ids=[f"{file}:{name}" for file, name in STEPS])
def test_each_step_names_an_existing_function(file: str, name: str) -> None:
    path = ROOT / file
    assert path.is_file()
    assert not name or name in _names_of(path)


@pytest.mark.parametrize("walk", WALKS)
def test_each_flow_has_a_walk_that_names_its_steps(walk: str) -> None:
    steps = _STEP.findall((ROOT / f"docs/explanation/{walk}.md").read_text(encoding="utf-8"))
    assert len([name for _, name in steps if name]) >= 6
