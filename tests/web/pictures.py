"""What the pictures in docs/images show, and whether they are older than that.

``docs/images/taken.json`` has, for each group of pictures, a digest of the sources that they were taken from.
"""

import hashlib
import json
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, meta

ROOT = Path(__file__).parents[2]
IMAGES = ROOT / "docs" / "images"
RECORD = IMAGES / "taken.json"
WEB = ROOT / "app" / "web"
TEMPLATES = WEB / "templates"
STATIC = WEB / "static"
SHOWN = {
    "console-overview": ("overview.html", "console.css", "console.js"),
    "console-today": ("child.html", "console.css", "console.js"),
    "console-limits": ("settings.html", "console.css", "console.js"),
    "console-week": ("week.html", "console.css", "console.js"),
    "console-history": ("history.html", "console.css", "console.js"),
    "console-and-play": ("overview.html", "play.html", "console.css", "play.css", "play.js"),
}
"""Pictures by the beginning of their names, with the template of the page and what gives it its look."""


def with_parts(templates: set[str]) -> set[str]:
    """Templates with all that they include, extend or import."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), extensions=["jinja2.ext.i18n"], autoescape=True)
    found: set[str] = set()
    while missing := templates - found:
        found |= missing
        for name in missing:
            parsed = environment.parse((TEMPLATES / name).read_text(encoding="utf-8"))
            templates = templates | {part for part in meta.find_referenced_templates(parsed) if part}
    return found


def sources_of(group: str) -> list[Path]:
    shown = SHOWN[group]
    templates = with_parts({name for name in shown if name.endswith(".html")})
    return sorted([TEMPLATES / name for name in templates] + [STATIC / name for name in shown if "html" not in name])


def digest_of(group: str) -> str:
    digest = hashlib.sha256()
    for path in sources_of(group):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def record(*groups: str) -> None:
    """Note that these pictures show the sources as they are."""
    taken = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    taken |= {group: digest_of(group) for group in groups}
    RECORD.write_text(json.dumps(taken, indent=2, sort_keys=True) + "\n", encoding="utf-8")
