"""Whether this code may run on the schema that a database has.

An older schema lacks what this code needs. A newer one is fine as long as it only added something: during a rolling
upgrade the old code runs on it. The database itself names the oldest revision whose code still works.
"""

import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from asyncpg import Connection

_CHECKOUT, _PACKAGED = Path(__file__).parents[2] / "alembic", Path(__file__).with_name("migrations")
MIGRATIONS = _CHECKOUT if (_CHECKOUT / "env.py").is_file() else _PACKAGED
"""In a checkout the migrations lie at the root; the wheel carries them beside this module."""
_ASSIGNED = re.compile(r'^(revision|down_revision)\b[^=\n]*= "([^"]+)"', re.MULTILINE)
_MIGRATE = "run: hourglass migrate"


class SchemaMisfit(Exception):
    """This code must not run on the schema; the text says why, and what to do."""


@cache
def known_revisions() -> tuple[str, ...]:
    """Every revision this code knows, the newest last. Read without the library: API processes do without it."""
    after: dict[str | None, str] = {}
    for script in (MIGRATIONS / "versions").glob("*.py"):
        found = dict(_ASSIGNED.findall(script.read_text(encoding="utf-8")))
        after[found.get("down_revision")] = found["revision"]
    ordered: list[str] = []
    revision = after.get(None)
    while revision is not None:
        ordered.append(revision)
        revision = after.get(revision)
    return tuple(ordered)


def validation_problem(revision: str | None, compatible_from: str | None) -> str | None:
    """What is wrong with a schema, and its mend; None where this code may run on it.

    Args:
        revision: of the schema; None where there is none.
        compatible_from: the oldest revision whose code works on it, as the database says; None where it does not say.
    """
    known = known_revisions()
    if revision == known[-1]:
        return None
    if revision is None:
        return f"the database has no schema; {_MIGRATE}"
    if revision in known:
        return f"the schema is at {revision}, older than this version, which needs {known[-1]}; {_MIGRATE}"
    if compatible_from in known:
        return None
    return f"the schema is at {revision}, too new for this version, which knows {known[-1]}; upgrade Hourglass"


async def read_marks(connection: "Connection[Any]") -> tuple[str | None, str | None]:
    """The revision of a schema, and the oldest revision whose code works on it; None for what is not there."""
    if await connection.fetchval("SELECT to_regclass('alembic_version')") is None:
        return None, None
    revision: str | None = await connection.fetchval("SELECT version_num FROM alembic_version")
    if await connection.fetchval("SELECT to_regclass('schema_compatibility')") is None:
        return revision, None
    return revision, await connection.fetchval("SELECT compatible_from FROM schema_compatibility")


async def require_schema(connection: "Connection[Any]") -> None:
    """Raise SchemaMisfit unless this code may run on the schema."""
    problem = validation_problem(*await read_marks(connection))
    if problem is not None:
        raise SchemaMisfit(problem)
