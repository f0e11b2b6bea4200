"""Code blocks of the documents are sound: shells parse, commands, options and files exist, data can be read."""

import ast
import json
import re
import shlex
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import typer
import yaml
from typer.core import TyperGroup

from app.cli import app as command_line
from app.settings.settings import Settings, variable_of
from tests.docs.guides import DOCS, ROOT, Block, blocks_of

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.rglob("*.md"))]
BLOCKS = [block for page in PAGES for block in blocks_of(page)]
SHELLS = [block for block in BLOCKS if block.language == "sh"]
DATA: dict[str, Callable[[str], object]] = {
    "json": json.loads,
    "toml": tomllib.loads,
    "yaml": yaml.safe_load,
    "python": ast.parse,
}
COMMANDS = typer.main.get_command(command_line)
_OURS = re.compile(r"(?:^|[\s;|(])(?:\./scripts/run|hourglass) (?P<command>[a-z]+)(?P<rest>[^|;)\n#>&]*)", re.MULTILINE)
_SETTING = re.compile(r"\b(HOURGLASS_[A-Z_]+)(?==)")
_FILE = re.compile(r"(?<![\w/.$-])((?:\./)?(?:deploy|scripts|tests|docs|app)/[\w./*-]+)")
OF_CALLERS = {"HOURGLASS_API", "HOURGLASS_URL", "HOURGLASS_HIDDEN_SECONDS"}


def test_there_are_blocks_to_look_at() -> None:
    assert len(SHELLS) > 30
    assert sum(block.name is not None for block in SHELLS) > 20


@pytest.mark.parametrize("block", SHELLS, ids=str)
def test_a_shell_can_read_it(block: Block) -> None:
    done = subprocess.run(
        ["bash", "-n"],  # noqa: S607
        input=block.text,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def ours_of(block: Block) -> Iterator[tuple[str, list[str]]]:
    joined = block.text.replace("\\\n", " ")
    for match in _OURS.finditer(joined):
        yield match["command"], shlex.split(match["rest"].replace('"', "").replace("'", ""))


@pytest.mark.parametrize("block", [block for block in SHELLS if any(ours_of(block))], ids=str)
def test_commands_of_ours_and_their_options_exist(block: Block) -> None:
    assert isinstance(COMMANDS, TyperGroup)
    for name, arguments in ours_of(block):
        assert name in COMMANDS.commands, f"hourglass {name}"
        known = {option for parameter in COMMANDS.commands[name].params for option in parameter.opts}
        used = {argument.partition("=")[0] for argument in arguments if argument.startswith("--")}
        assert used <= known, f"hourglass {name}"


@pytest.mark.parametrize("block", SHELLS, ids=str)
def test_files_and_settings_exist(block: Block) -> None:
    known = {variable_of(name).removesuffix("_FILE") for name in Settings.model_fields} | OF_CALLERS
    assert {name.removesuffix("_FILE") for name in _SETTING.findall(block.text)} <= known
    missing = [name for name in _FILE.findall(block.text) if not list(ROOT.glob(name.removeprefix("./")))]
    assert missing == []


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.language in DATA], ids=str)
def test_data_and_programs_can_be_read(block: Block) -> None:
    assert DATA[block.language](block.text) is not None


def test_indented_code_is_fenced_so_that_it_is_seen() -> None:
    """An indented block has no language, so nothing here would look at it."""
    found = [
        f"{page.relative_to(ROOT)}: {match[0].strip()}"
        for page in PAGES
        for match in re.finditer(r"(?m)\n\n    (?! )\S.*$", _without_fences(page))
    ]
    assert found == []


def _without_fences(page: Path) -> str:
    return re.sub(r"(?ms)^( *)```.*?^\1```$", "", page.read_text(encoding="utf-8"))
