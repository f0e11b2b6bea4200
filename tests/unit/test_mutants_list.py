"""The text that each mutant changes exists exactly once in its file."""

import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[2]
MUTANTS = tomllib.loads((ROOT / "tests" / "mutants" / "mutants.toml").read_text(encoding="utf-8"))["mutant"]


def test_every_mutant_changes_exactly_one_place() -> None:
    changes = [change for mutant in MUTANTS for change in (mutant, mutant.get("also")) if change]
    stale = [
        change["old"]
        for change in changes
        if (ROOT / change["file"]).read_text(encoding="utf-8").count(change["old"]) != 1
        or change["old"] == change["new"]
    ]
    assert stale == []
    assert len(MUTANTS) >= 20
