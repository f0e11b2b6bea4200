"""The task list: every program in scripts/ says what it does, and does nothing else when asked for that."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"
PROGRAMS = sorted(path.name for path in SCRIPTS.iterdir() if os.access(path, os.X_OK) and path.is_file())


def test_the_tasks_are_programs() -> None:
    assert {"check", "documents", "fuzz", "lock", "messages", "mutants", "run", "screenshots", "test"} <= set(PROGRAMS)


@pytest.mark.parametrize("name", [*PROGRAMS, "monitoring.py"])
def test_each_explains_itself(name: str) -> None:
    program = SCRIPTS / name
    is_python = "python" in program.read_text(encoding="utf-8").splitlines()[0] or program.suffix == ".py"
    command = [sys.executable, program] if is_python else [program]
    done = subprocess.run(  # noqa: S603  our own
        [*command, "--help"], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) > 30
    assert "set -euo" not in done.stdout
