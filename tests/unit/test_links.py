"""Links in the documentation have existing targets."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = (
    "",
    "docs",
    "docs/decisions",
    "docs/explanation",
    "docs/notes",
    "docs/howto",
    "docs/reference",
    "docs/tutorial",
    "deploy",
)
PAGES = sorted(page for folder in FOLDERS for page in (ROOT / folder).glob("*.md"))
_LINK = re.compile(r"\[([^\]]*)\]\(([^)\s]+)\)")
_CODE = re.compile(r"```.*?```|`[^`]*`", re.DOTALL)
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def links_of(page: Path) -> list[tuple[str, str]]:
    """Text and target of every link to a file of the repository."""
    found = _LINK.findall(_CODE.sub("", page.read_text(encoding="utf-8")))
    return [(text, target) for text, target in found if not re.match(r"[a-z]+:", target)]


def anchors_of(page: Path) -> set[str]:
    """Anchors of headings, as GitHub builds them."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_there_are_links() -> None:
    assert sum(len(links_of(page)) for page in PAGES) > 20


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for text, target in links_of(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"[{text}]({target})"
        if anchor:
            assert anchor in anchors_of(file), f"[{text}]({target})"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_decision_is_called_by_its_number(page: Path) -> None:
    for text, target in links_of(page):
        called, file = re.fullmatch(r"decision (\d+)", text), re.search(r"(?:^|decisions/)(\d+)-", target)
        if called is not None:
            assert file is not None, f"[{text}]({target})"
            assert int(called[1]) == int(file[1]), f"[{text}]({target})"
