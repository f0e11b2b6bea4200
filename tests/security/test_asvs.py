"""The OWASP ASVS table in docs/reference/security.md names existing tests."""

import ast
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from app.main import create_app
from tests.builders import settings_for

ROOT = Path(__file__).parents[2]
_ROW = re.compile(r"^\| (\d+\.\d+\.\d+) [^|]+\|[^|]+\| `(tests/[\w/]+\.py)::(test_\w+)` \|$", re.MULTILINE)
_TEXT = (ROOT / "docs" / "reference" / "security.md").read_text(encoding="utf-8")
ROWS = _ROW.findall(_TEXT)
CHAPTERS = {"2", "4", "6", "7", "8", "9", "11", "13", "14", "16"}
_SECRET = re.compile("pin|password|token|secret|email|name|note", re.IGNORECASE)


@cache
def _tests_in(path: Path) -> frozenset[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in tree.body if isinstance(node, functions))


def test_every_row_is_understood_and_no_requirement_stands_twice() -> None:
    section = _TEXT[_TEXT.index("## OWASP ASVS 5.0") :]
    assert len(ROWS) == len(re.findall(r"^\| \d", section, re.MULTILINE))
    numbers = [number for number, _, _ in ROWS]
    assert len(numbers) == len(set(numbers))
    assert {number.split(".")[0] for number in numbers} == CHAPTERS


@pytest.mark.parametrize(("number", "path", "name"), ROWS, ids=[number for number, _, _ in ROWS])
def test_the_test_that_proves_it_is_there(number: str, path: str, name: str) -> None:
    assert (ROOT / path).is_file(), number
    assert name in _tests_in(ROOT / path), number


def test_14_2_1_no_secret_travels_in_an_address() -> None:
    front = create_app(settings_for(database_url="postgresql://nowhere/x", redis_url="redis://nowhere"))
    operations: list[dict[str, Any]] = [
        operation for operations in front.openapi()["paths"].values() for operation in operations.values()
    ]
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", [])]
    in_addresses = {parameter["name"] for parameter in parameters if parameter["in"] in {"path", "query"}}
    assert in_addresses
    assert [name for name in in_addresses if _SECRET.search(name)] == []
