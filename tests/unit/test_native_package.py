"""The native module is a distribution of its own, of the version of the service."""

import tomllib
from pathlib import Path

import app
from app import __version__

ROOT = Path(app.__file__).parents[1]


def test_both_distributions_have_one_version() -> None:
    service = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    module = tomllib.loads((ROOT / "app/native/pyproject.toml").read_text(encoding="utf-8"))
    assert module["project"]["version"] == __version__
    assert service["project"]["optional-dependencies"]["native"] == [f"hourglass-native=={__version__}"]
