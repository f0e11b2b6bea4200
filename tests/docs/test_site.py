"""The documentation site: it builds without a dead link or an orphan page, and needs no other host."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
LOADING = {"script": "src", "img": "src", "link": "href", "iframe": "src"}
"""Elements that make a browser load something, and the attribute that says from where."""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built site. With ``--strict`` a dead link or a page outside the navigation is an error."""
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(  # noqa: S603  a tool of ours
        [
            sys.executable,
            "-m",
            "mkdocs",
            "build",
            "--config-file",
            "scripts/mkdocs.yml",
            "--strict",
            "--site-dir",
            folder,
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


class Loads(HTMLParser):
    """Collects the addresses that a page loads."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag in LOADING and values.get("rel") != "canonical":
            self.found.append(values.get(LOADING[tag]) or "")


def loaded_by(page: Path) -> list[str]:
    parser = Loads()
    parser.feed(page.read_text(encoding="utf-8"))
    return parser.found


def test_a_page_loads_nothing_from_another_host(site: Path) -> None:
    found = {(page.name, url) for page in site.rglob("*.html") for url in loaded_by(page) if "//" in url}
    assert found == set()


def test_styles_load_nothing_from_another_host(site: Path) -> None:
    found = {
        (style.name, url)
        for style in site.rglob("*.css")
        for url in re.findall(r"url\([\"']?(https?:)?//([^)]+)\)", style.read_text(encoding="utf-8"))
    }
    assert found == set()


def test_the_search_finds_every_page(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    found = {entry["location"].partition("#")[0] for entry in index["docs"]}
    for page in DOCS.rglob("*.md"):
        assert page.relative_to(DOCS).with_suffix(".html").as_posix() in found


def listed(section: object) -> Iterator[str]:
    match section:
        case str():
            yield section
        case dict():
            for value in section.values():
                yield from listed(value)
        case list():
            for value in section:
                yield from listed(value)


def test_the_navigation_names_each_page_once() -> None:
    """Decisions and notes are listed by the hook; every other page has one place, by the need of its reader."""
    nav = yaml.safe_load((ROOT / "scripts/mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    names = [name for name in listed(nav) if not name.startswith("project/") and name != "index.md"]
    pages = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    assert sorted(names) == sorted(name for name in pages if name.split("/")[0] not in {"decisions", "notes"})


def test_every_picture_is_used() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in [ROOT / "README.md", *DOCS.rglob("*.md")])
    used = {Path(target).name for target in re.findall(r"!\[[^\]]*\]\(([^)]+)\)", text)}
    pictures = {picture.name for picture in (DOCS / "images").iterdir() if picture.suffix in {".png", ".jpg"}}
    assert used <= pictures
    unseen = {name for name in pictures - used if not name.startswith("console-")}
    assert unseen == set()
