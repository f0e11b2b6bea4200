"""One language: retired names stay out, and a class name means one thing (docs/reference/glossary.md)."""

import ast
import io
import re
import tokenize
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperGroup, TyperOption

from app.cli import app as command_line

ROOT = Path(__file__).parents[2]
GLOSSARY = ROOT / "docs/reference/glossary.md"
RETIRED = {
    "Coalescer": "Batcher",
    "Lanes": "ShardedBatcher",
    "Deliver": "Callback",
    "Standing": "EffectivePolicy",
    "Pace": "HeartbeatTiming",
    "Counting": "BeatRecorder",
    "Live": "Counters",
    "Closing": "EndReason",
    "Meant": "SessionMatch",
    "proof_ms": "issued_at_ms",
    "paced_ms": "gcra_tat_ms",
    "set_aside": "enqueue",
    "Continuity": "RollbackGuard",
    "Trusting": "NoRollbackGuard",
    "Census": "UsageScanner",
    "Tally": "DayUsage",
    "Keeping": "RetentionPolicy",
    "park": "dead_letter",
    "SoleFlusher": "LeaderLock",
    "Traces": "CopyEraser",
    "Concurrency": "ActiveSessions",
    "Wakes": "StreamNotifier",
    "Front": "Dispatcher",
    "short_ways": "fast_path",
    "misfit": "validation_problem",
    "Begun": "EagerAwaitable",
    "Tries": "Attempts",
    "forgive": "reset",
    "Members": "ProfileService",
    "Concern": "HealthIssue",
    "unavailability_named": "translate_errors",
    "Family": "ProcessGroup",
    "bury_metrics": "drop_metrics",
    "rivals": "baselines",
    "Rival": "Baseline",
    "Crowd": "ClientPool",
    "Tale": "ClientStats",
    "Weather": "NetworkFault",
    "Crew": "ServiceProcesses",
    "DigestTable": "CompactTable",
}
"""Names that nobody outside the project understands, and what the field says instead."""

PRIVATE_PHRASES = re.compile(
    r"\b(whoever|of whom|for whom|somebody|nobody else need|of which nobody|what came of|what became of|comes to be|"
    r"in the way of all others|own way|the short way|to be hurt|is no more|told so|be mended|throws? away)\b",
    re.IGNORECASE,
)
"""Phrases that a reader understands only at the second reading. Name the subject and the action instead."""
PLAIN_ROOMS = (
    "app/admin",
    "app/auth",
    "app/backup",
    "app/catalogue",
    "app/cli",
    "app/clients",
    "app/conformance",
    "app/deployment",
    "app/domain",
    "app/embedded",
    "app/feed",
    "app/flushing",
    "app/http",
    "app/kit",
    "app/lab",
    "app/postgres_store",
    "app/privacy",
    "app/profiles",
    "app/reconciling",
    "app/redis_store",
    "app/reports",
    "app/rollback_guard",
    "app/sdk",
    "app/server",
    "app/settings",
    "app/viewing",
    "workers",
)
"""Folders whose docstrings keep to plain sentences. New folders belong here."""
MAX_MEAN_WORDS = 20
"""Mean length of the sentences of a page."""
MAX_DOCSTRING_WORDS = 35
EVENT = re.compile(r"[a-z0-9]+(_[a-z0-9]+)*")
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").rglob("*.md")])
COMMANDS = typer.main.get_command(command_line)

MAX_MEANINGS = re.compile(r"^_?(MOST|LONGEST|LARGEST|FEWEST|SHORTEST)_")
"""Bounds begin with MAX or MIN."""


def sources() -> Iterator[Path]:
    for folder in ("app", "workers", "tests"):
        yield from (path for path in (ROOT / folder).rglob("*.py") if path != Path(__file__))


def names_of(path: Path) -> Iterator[tuple[int, str]]:
    with io.StringIO(path.read_text(encoding="utf-8")) as text:
        for token in tokenize.generate_tokens(text.readline):
            if token.type == tokenize.NAME:
                yield token.start[0], token.string


def test_retired_names_stay_out_of_the_code() -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}, say {RETIRED[name]}"
        for path in sources()
        if "rich.live" not in path.read_text(encoding="utf-8")
        for line, name in names_of(path)
        if name in RETIRED
    ]
    assert found == []


def test_bounds_begin_with_max_or_min() -> None:
    found = {name for path in sources() for _, name in names_of(path) if MAX_MEANINGS.match(name)}
    assert found == set()


def test_retired_names_stay_out_of_the_documents() -> None:
    code = re.compile(r"`([^`\n]+)`")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for path in [ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
        for quoted in code.findall(path.read_text(encoding="utf-8"))
        for word in re.findall(r"\w+", quoted)
        if word in RETIRED
    ]
    assert found == []


def test_a_class_name_means_one_thing() -> None:
    """Protocols share names with their adapters, and baselines of the benchmark imitate other services."""
    homes = defaultdict(set)
    for path in sources():
        if "tests" in path.relative_to(ROOT).parts[:1] or path.name == "ports.py" or "baselines" in path.parts:
            continue
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            is_private = isinstance(node, ast.ClassDef) and node.name.startswith("_")
            if isinstance(node, ast.ClassDef) and not is_private and not _is_protocol(node):
                homes[node.name].add(str(path.relative_to(ROOT)))
    assert {name: sorted(paths) for name, paths in homes.items() if len(paths) > 1} == {}


def test_the_glossary_names_each_term_once() -> None:
    terms = re.findall(r"(?m)^\| ([^|]+?) \|", GLOSSARY.read_text(encoding="utf-8"))
    words = [word.strip() for term in terms if term not in {"term", "---"} for word in term.split(",")]
    assert len(words) == len(set(words))
    assert len(words) >= 30


def _is_protocol(node: ast.ClassDef) -> bool:
    return any(isinstance(base, ast.Name) and base.id == "Protocol" for base in node.bases)


def _without_tables(prose: str) -> Iterator[str]:
    """Lines outside of tables that are drawn with rules of ``=``, as docstrings have them."""
    rules = 0
    for line in prose.splitlines():
        if line.lstrip().startswith("====="):
            rules += 1
        elif rules % 3 == 0:
            yield line


def sentences_of(text: str) -> list[str]:
    """Sentences of prose with code spans as one word; without code blocks, headings and tables."""
    prose = re.sub(r"```.*?```|^=+ [= ]+$.*^=+ [= ]+$", "", text, flags=re.DOTALL | re.MULTILINE)
    unread = ("|", "#", "    ", "``hg:", "``   ")  # tables, headings, code, the list of Redis keys
    prose = "\n".join(line for line in prose.splitlines() if not line.startswith(unread))
    prose = re.sub(r"`[^`]*`", "x", re.sub(r"\]\([^)]*\)", "]", prose))
    blocks = re.split(r"\n\s*\n|\n(?=\s*(?:[-*]|\d+\.) )", prose)
    split = (re.split(r"(?<=[.!?:])\s+", " ".join(block.split())) for block in blocks)
    return [sentence for sentences in split for sentence in sentences if len(sentence.split()) > 2]


def docstrings_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and text of the docstrings of modules, classes, functions and values."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            yield node.lineno, node.value.value


def plain_docstrings() -> Iterator[tuple[str, str]]:
    for room in PLAIN_ROOMS:
        for path in (ROOT / room).rglob("*.py"):
            for line, text in docstrings_of(path):
                yield f"{path.relative_to(ROOT)}:{line}", text


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_short_sentences(page: Path) -> None:
    lengths = [len(sentence.split()) for sentence in sentences_of(page.read_text(encoding="utf-8"))]
    assert sum(lengths) <= MAX_MEAN_WORDS * len(lengths)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_has_no_private_phrase(page: Path) -> None:
    found = PRIVATE_PHRASES.findall(" ".join(page.read_text(encoding="utf-8").split()))
    assert found == []


def test_docstrings_have_no_private_phrase() -> None:
    found = [
        f"{place}: {match[0]}"
        for place, text in plain_docstrings()
        for match in PRIVATE_PHRASES.finditer(" ".join(text.split()))
    ]
    assert found == []


def test_docstrings_have_short_sentences() -> None:
    found = [
        f"{place}: {sentence}"
        for place, text in plain_docstrings()
        for sentence in sentences_of(re.split(r"\n\s*(?:Args|Attributes|Returns|Raises):", text)[0])
        if len(sentence.split()) > MAX_DOCSTRING_WORDS
    ]
    assert found == []


def helps() -> Iterator[tuple[str, str]]:
    assert isinstance(COMMANDS, TyperGroup)
    for name, command in COMMANDS.commands.items():
        yield name, (command.help or "").strip().splitlines()[0]
        for parameter in command.params:
            if isinstance(parameter, TyperOption):
                yield f"{name} {parameter.opts[0]}", parameter.help or ""


@pytest.mark.parametrize(("place", "text"), list(helps()), ids=lambda value: value.split(".")[0][:30])
def test_help_is_a_sentence(place: str, text: str) -> None:
    assert text[:1].isupper(), place
    assert text.endswith("."), place


def test_log_events_are_snake_case() -> None:
    levels = {"debug", "info", "warning", "error", "exception"}
    found = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.args[0].value!r}"
        for folder in ("app", "workers")
        for path in (ROOT / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in levels
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id in {"log", "_log"}
        and node.args
        and isinstance(node.args[0], ast.Constant)
        and not EVENT.fullmatch(str(node.args[0].value))
    ]
    assert found == []
