"""The vendored files match the docs."""

import re
from base64 import b64encode
from hashlib import sha384
from pathlib import Path

import pytest

from app.web.assets import FOLDER, assets

DOCUMENT = Path(__file__).parents[2] / "docs" / "howto" / "console.md"
ROW = re.compile(
    r"^\| [^|]+ \| ([\d.]+) \| npm `([\w.]+)`, `dist/[\w.]+` \| [\w ]+ \| `([\w+/=]{64})` \|$", re.MULTILINE
)
RECORDED = ROW.findall(DOCUMENT.read_text(encoding="utf-8"))
VENDORED = sorted(path for path in (FOLDER / "vendor").iterdir() if path.suffix in {".js", ".css"})


def test_each_vendored_file_is_recorded() -> None:
    assert len(RECORDED) == len(VENDORED) > 0


@pytest.mark.parametrize("path", VENDORED, ids=lambda path: path.name)
def test_a_vendored_file_has_the_content_and_version_recorded(path: Path) -> None:
    digest = b64encode(sha384(path.read_bytes()).digest()).decode()
    [(version, package)] = [(version, package) for version, package, known in RECORDED if known == digest]
    assert f"-{version}." in path.name
    assert path.with_name(f"{package.partition('.')[0]}.LICENSE").exists()


def test_every_file_is_served_compressed_smaller() -> None:
    for asset in assets().values():
        assert len(asset.compressed) < len(asset.content) or len(asset.content) < 500, asset.name
