"""No number is read before an ``await`` and written after it, because that loses concurrent updates."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]
_SOURCES = sorted(path for folder in ("app", "workers") for path in (_ROOT / folder).rglob("*.py"))


def _shared_targets(target: ast.expr) -> set[str]:
    """Shared targets of a statement: attributes and items, not local variables."""
    parts = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
    return {ast.unparse(part) for part in parts if isinstance(part, ast.Attribute | ast.Subscript)}


def lost_updates(source: str) -> Iterator[int]:
    """Lines of statements that read something shared, await, and write it."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign) or node.value is None:
            continue
        if not any(isinstance(part, ast.Await) for part in ast.walk(node.value)):
            continue
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        written = {name for target in targets for name in _shared_targets(target)}
        read = {ast.unparse(part) for part in ast.walk(node.value) if isinstance(part, ast.Attribute | ast.Subscript)}
        if written & (written if isinstance(node, ast.AugAssign) else read):
            yield node.lineno


@pytest.mark.parametrize("path", _SOURCES, ids=lambda path: str(path.relative_to(_ROOT)))
def test_nothing_shared_is_read_before_an_await_and_written_after_it(path: Path) -> None:
    assert list(lost_updates(path.read_text(encoding="utf-8"))) == []


@pytest.mark.parametrize(
    ("body", "is_lost"),
    [
        ("tally.parked += await write()", True),
        ("self.counts[key] = self.counts[key] + await write()", True),
        ("self.a, b = self.a + (await write()), 1", True),
        ("total += await write()", False),
        ("self.a = await write()", False),
        ("self.a += write()", False),
    ],
)
def test_the_check_finds_what_it_is_for(body: str, is_lost: bool) -> None:
    assert bool(list(lost_updates(f"async def f(self, tally, total):\n    {body}\n"))) is is_lost
