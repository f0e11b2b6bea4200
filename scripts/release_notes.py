"""Print the section of one version from CHANGELOG.md. Fails when that version has none."""

import re
import sys
from pathlib import Path

CHANGELOG = Path(__file__).resolve().parents[1] / "CHANGELOG.md"


def notes(text: str, version: str) -> str:
    """The section of a version without its heading.

    Raises:
        ValueError: the changelog has no such section, or an empty one.
    """
    sections = re.split(r"(?m)^## \[", text)[1:]
    found = {section.partition("]")[0]: section.partition("\n")[2].strip() for section in sections}
    if not found.get(version):
        raise ValueError(f"CHANGELOG.md says nothing about {version}")
    return found[version]


def main() -> None:
    """Print the notes of the version that is asked for."""
    if {"-h", "--help"} & set(sys.argv[1:]):
        print(__doc__)  # noqa: T201  a program
        return
    try:
        print(notes(CHANGELOG.read_text(encoding="utf-8"), sys.argv[1]))  # noqa: T201  likewise
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
