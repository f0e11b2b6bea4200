"""Hooks of the site: pages from outside docs/, lists of decisions and notes, links that leave docs/."""

import os
import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from mkdocs.structure.files import File, Files

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT = Path(__file__).resolve().parents[1]
OUTSIDE = {
    "CHANGELOG.md": "project/changelog.md",
    "CONTRIBUTING.md": "project/contributing.md",
    "SECURITY.md": "project/security-policy.md",
    "README.md": "index.md",
}
"""Files of the repository that are pages of the site."""
LISTED = {"Decisions": "decisions", "Notes": "notes"}
"""Sections of the navigation that list every page of a folder."""
_LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")


def on_config(config: "MkDocsConfig") -> "MkDocsConfig":
    """Fill the sections that list a folder."""
    nav: list[dict[str, Any]] = config.nav or []
    for section in nav:
        for name, pages in section.items():
            if isinstance(pages, list):
                section[name] = [_listed(page) for page in pages]
    return config


def _listed(page: dict[str, Any]) -> dict[str, Any]:
    ((title, _),) = page.items()
    if title not in LISTED:
        return page
    folder = ROOT / "docs" / LISTED[title]
    return {title: [f"{LISTED[title]}/{file.name}" for file in sorted(folder.glob("*.md"))]}


def on_files(files: Files, config: "MkDocsConfig") -> Files:
    """Add the pages that stand outside docs/."""
    for source, target in OUTSIDE.items():
        files.append(File.generated(config, target, content=(ROOT / source).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown: str, *, page: "Page", config: "MkDocsConfig", files: Files) -> str:
    """Lead links to pages of the site; a link to a file that is no page becomes its text."""
    del config
    here = PurePosixPath(page.file.src_uri)
    source = next((name for name, target in OUTSIDE.items() if target == str(here)), f"docs/{here}")
    known = {file.src_uri for file in files}

    def led(match: re.Match[str]) -> str:
        mark, text, target, anchor = match[1], match[2], match[3], match[4] or ""
        if re.match(r"[a-z]+:", target):
            return match[0]
        place = os.path.normpath(PurePosixPath(source).parent / target)
        inside = OUTSIDE.get(place, place.removeprefix("docs/"))
        if place == "docs/decisions":
            inside = "decisions/" + min(file.name for file in (ROOT / place).glob("*.md"))
        if inside not in known and (ROOT / place).exists():
            return text
        return f"{mark}[{text}]({os.path.relpath(inside, here.parent)}{anchor})"

    return _LINK.sub(led, markdown)
