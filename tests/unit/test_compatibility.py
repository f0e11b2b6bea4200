"""The code runs on its own schema, or on a newer one that supports it."""

import ast
from collections.abc import Iterator

import pytest
from alembic.script import ScriptDirectory

from app.postgres_store.compatibility import MIGRATIONS, known_revisions, validation_problem
from app.postgres_store.migrate import alembic_config, head

KNOWN = known_revisions()


def test_revisions_are_read_as_the_library_reads_them() -> None:
    scripts = ScriptDirectory.from_config(alembic_config("postgresql://nobody@nowhere/none"))
    assert [script.revision for script in scripts.walk_revisions()] == list(reversed(KNOWN))
    assert KNOWN[-1] == head()


def test_only_the_newest_known_schema_fits() -> None:
    assert validation_problem(KNOWN[-1], None) is None
    for older in KNOWN[:-1]:
        for mark in (None, *KNOWN):
            assert "run: hourglass migrate" in str(validation_problem(older, mark))
    assert "run: hourglass migrate" in str(validation_problem(None, None))


def test_a_newer_schema_fits_when_it_says_that_code_of_ours_works() -> None:
    for mark in KNOWN:
        assert validation_problem("from the future", mark) is None
    for unknown in (None, "also from the future"):
        assert "upgrade Hourglass" in str(validation_problem("from the future", unknown))


EXPANDING = {"create_table", "create_index", "add_column", "alter_column", "execute", "get_context", "f"}
"""What the upgrade of a migration may call. ``alter_column`` may only loosen: older code goes on with what it has."""
LOOSENING = {"existing_type", "existing_nullable", "type_", "nullable", "schema"}
CONTRACTING_SQL = ("DROP TABLE", "DROP COLUMN", "DROP TYPE", "RENAME", "SET NOT NULL", "ADD CONSTRAINT", "TRUNCATE")


def _calls(name: str) -> Iterator[ast.Call]:
    """The calls of ``op`` in the upgrade of a migration."""
    [script] = (MIGRATIONS / "versions").glob(f"{name}_*.py")
    tree = ast.parse(script.read_text(encoding="utf-8"))
    upgrade = next(node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "upgrade")
    for node in ast.walk(upgrade):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and ast.unparse(node.func.value) == "op":
            yield node


def _contracts(call: ast.Call) -> bool:
    """Whether older code may miss something after a call."""
    said = ast.unparse(call)
    match call.func.attr if isinstance(call.func, ast.Attribute) else "":
        case "execute":
            return any(word in said.upper() for word in CONTRACTING_SQL)
        case "alter_column":
            given = {keyword.arg for keyword in call.keywords}
            return not given <= LOOSENING or "nullable=False" in said
        case "add_column":
            return "nullable=False" in said and "server_default" not in said
        case name:
            return name not in EXPANDING


@pytest.mark.parametrize("revision", KNOWN[1:])
def test_a_migration_only_expands_or_says_since_when_code_bears_it(revision: str) -> None:
    scripts = ScriptDirectory.from_config(alembic_config("postgresql://nobody@nowhere/none"))
    if getattr(scripts.get_revision(revision).module, "compatible_from", None) is None:
        assert [ast.unparse(call) for call in _calls(revision) if _contracts(call)] == []


@pytest.mark.parametrize(
    "statement",
    [
        "op.drop_column('accounts', 'email')",
        "op.rename_table('titles', 'films')",
        "op.alter_column('accounts', 'email', nullable=False)",
        "op.alter_column('accounts', 'email', new_column_name='address')",
        "op.add_column('accounts', sa.Column('market', sa.Text(), nullable=False))",
        "op.execute('ALTER TABLE accounts DROP COLUMN email')",
    ],
)
def test_what_contracts_is_noticed(statement: str) -> None:
    [call] = [node for node in ast.walk(ast.parse(statement)) if isinstance(node, ast.Call)][:1]
    assert _contracts(call)
