"""Licence of every locked library, from the metadata of the installed packages. Writes docs/reference/licences.md."""

import re
import sys
from importlib.metadata import PackageMetadata, PackageNotFoundError, metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reference" / "licences.md"
OTHER_PLATFORMS = {"async-timeout": "Apache-2.0"}
"""Locked libraries that are installed on other systems or versions of Python only."""
_PIN = re.compile(r"(?m)^([a-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;\\]+)")
_CLASSIFIER = "License :: OSI Approved :: "


def locked(lock: str) -> dict[str, str]:
    """Version by name of every library of a lock file."""
    return dict(_PIN.findall((ROOT / lock).read_text(encoding="utf-8")))


def licence_of(found: PackageMetadata) -> str:
    """The SPDX expression, else the classifiers, else the first line of the field."""
    texts = found.get_all("License-Expression") or []
    texts = texts or [
        text.removeprefix(_CLASSIFIER) for text in found.get_all("Classifier") or [] if text.startswith(_CLASSIFIER)
    ]
    texts = texts or [text.splitlines()[0] for text in found.get_all("License") or [] if text.strip()]
    return ", ".join(texts) or "not stated"


def table() -> str:
    """Every library of production, then those that only build, test and document."""
    production = locked("requirements.lock")
    rows = []
    for name in sorted(production | locked("requirements-test.lock")):
        try:
            licence = licence_of(metadata(name))
        except PackageNotFoundError:
            licence = OTHER_PLATFORMS.get(name, "not installed on this system")
        rows.append(f"| {name} | {licence} | {'production' if name in production else 'development'} |")
    return "\n".join(["| library | licence | used in |", "|---|---|---|", *rows])


def main() -> None:
    """Replace the table of the page."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)  # noqa: T201  a program
        return
    text = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(text[: text.index("| library")] + table() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
