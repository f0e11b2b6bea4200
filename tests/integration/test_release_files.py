"""scripts/release makes a complete release: wheel, sdists, SBOM, licences and notes, each with its digest."""

import hashlib
import json
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

from app import __version__
from scripts import licences

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not (ROOT / ".venv" / "bin" / "cyclonedx-py").exists():
        pytest.skip("THE RELEASE IS NOT TESTED: there is no .venv here")
    folder = tmp_path_factory.mktemp("release")
    done = subprocess.run(  # noqa: S603  ours
        [ROOT / "scripts" / "release"],
        env={**os.environ, "DIST": str(folder)},  # noqa: TID251  handed on as it is
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


def test_every_file_has_its_digest(release: Path) -> None:
    lines = (release / "SHA256SUMS").read_text(encoding="utf-8").splitlines()
    sums = {name: digest for digest, name in (line.split() for line in lines)}
    assert sums == {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in release.iterdir()
        if path.name not in {"SHA256SUMS", ".gitignore"}
    }
    assert {Path(name).suffix for name in sums} == {".whl", ".gz", ".json", ".md"}


def test_the_native_module_can_be_built_from_its_sdist(release: Path) -> None:
    with tarfile.open(release / f"hourglass_native-{__version__}.tar.gz") as sdist:
        names = {Path(name).name for name in sdist.getnames()}
    assert {"heartbeats.pyx", "pyproject.toml"} <= names


def test_the_bill_of_materials_lists_what_is_locked(release: Path) -> None:
    bill = json.loads((release / f"hourglass-{__version__}.cdx.json").read_text(encoding="utf-8"))
    assert (bill["bomFormat"], bill["metadata"]["component"]["name"]) == ("CycloneDX", "hourglass")
    listed = {(part["name"], part["version"]) for part in bill["components"]}
    assert listed == set(licences.locked("requirements.lock").items())
