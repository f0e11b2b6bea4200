"""The code blocks of the documents, and a way to run those that are marked with ``<!-- run: name -->``."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
RUN_SECONDS = 120
_FENCE = re.compile(
    r"(?:^<!-- run: (?P<name>[\w-]+) -->\n)?^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$",
    re.DOTALL | re.MULTILINE,
)


@dataclass(frozen=True, kw_only=True)
class Block:
    """A fenced block of a page.

    Attributes:
        line: number of its first line in the page.
        language: as the fence names it, or empty.
        name: of a block that is run, else None.
    """

    page: Path
    line: int
    language: str
    text: str
    name: str | None

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks_of(page: Path) -> list[Block]:
    """Every fenced block, in order, without its indentation."""
    content = page.read_text(encoding="utf-8")
    return [
        Block(
            page=page,
            line=content.count("\n", 0, match.start("text")) + 1,
            language=match["language"],
            text=re.sub(rf"(?m)^{match['indent']}", "", match["text"]),
            name=match["name"],
        )
        for match in _FENCE.finditer(content)
    ]


def script_of(page: Path, *names: str) -> str:
    """The marked blocks as one script, in which any failure ends it. Each prints its name before its output.

    Args:
        page: of the documents.
        names: of the blocks to take, in the order of the page; all of them if none is given.
    """
    taken = [block for block in blocks_of(page) if block.name and (not names or block.name in names)]
    assert len(taken) >= max(1, len(names)), f"{page} has not all of {names}"
    steps = [f"printf '\\n=== {block.name}\\n'\n{block.text}" for block in taken]
    return "set -euo pipefail\n" + "\n".join(steps)


def run_script(script: str, variables: Mapping[str, str], *, folder: Path = ROOT) -> dict[str, str]:
    """Run a script as an operator's shell would, with `hourglass` of this environment. The output of each block."""
    here = os.environ  # noqa: TID251  handed on
    path = ":".join([variables.get("PROGRAMS", ""), str(Path(sys.executable).parent), here["PATH"]]).lstrip(":")
    done = subprocess.run(  # noqa: S603  the pages' own commands
        ["bash", "-c", script],  # noqa: S607
        cwd=folder,
        env={**here, "PATH": path, **variables},
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    return dict(re.findall(r"=== ([\w-]+)\n(.*?)(?=\n===|\Z)", done.stdout, re.DOTALL))
