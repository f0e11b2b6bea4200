"""Each reference that has no test beside its code names all that it lists."""

import re
import tomllib
from typing import Any

import pytest

from scripts import references
from tests.docs.guides import DOCS, ROOT

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
DIRECT = {
    re.split(r"[\[<>=;]", requirement)[0]
    for requirements in (PROJECT["dependencies"], *PROJECT["optional-dependencies"].values())
    for requirement in requirements
} - {"hourglass"}
INSIDE = {"opentelemetry-exporter-otlp-proto-http": "OTLP exporter over HTTP"}
"""Libraries that the page names by what they are."""


@pytest.mark.parametrize("library", sorted(DIRECT))
def test_every_direct_dependency_says_what_it_is_for(library: str) -> None:
    named = re.findall(
        r"^\| ([^|]+) \|", (DOCS / "reference/dependencies.md").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert INSIDE.get(library, library) in ", ".join(named)


@pytest.mark.parametrize(("path", "text"), list(references.files()), ids=lambda value: getattr(value, "name", ""))
def test_every_generated_reference_is_fresh(path: Any, text: str) -> None:
    assert path.read_text(encoding="utf-8") == text, "run scripts/documents"
