"""What a release is made of: notes, licences, and one version everywhere."""

import re
from pathlib import Path

import pytest
import yaml

from app import __version__
from scripts import licences, release_notes

ROOT = Path(__file__).parents[2]
CHANGELOG = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_the_changelog_has_notes_for_this_version() -> None:
    assert "### Added" in release_notes.notes(CHANGELOG, __version__)


def test_a_version_without_notes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"9\.9\.9"):
        release_notes.notes(CHANGELOG, "9.9.9")


def test_notes_end_before_the_version_before() -> None:
    text = "# C\n\n## [Unreleased]\n\n## [2.0.0] - x\n\nnew\n\n## [1.0.0] - y\n\nold\n"
    assert release_notes.notes(text, "2.0.0") == "new"
    with pytest.raises(ValueError, match="Unreleased"):
        release_notes.notes(text, "Unreleased")


def test_the_chart_carries_the_version() -> None:
    chart = yaml.safe_load((ROOT / "deploy/helm/hourglass/Chart.yaml").read_text(encoding="utf-8"))
    assert (chart["version"], chart["appVersion"]) == (__version__, __version__)


def test_the_list_of_licences_names_every_locked_library() -> None:
    rows = dict(re.findall(r"(?m)^\| ([\w.-]+) \| ([^|]+) \| (?:production|development) \|$", _page()))
    assert set(rows) == set(licences.locked("requirements.lock") | licences.locked("requirements-test.lock"))
    assert not {name for name, licence in rows.items() if licence.startswith("not ")}


def test_no_library_of_production_has_a_licence_that_spreads() -> None:
    production = re.findall(r"(?m)^\| ([\w.-]+) \| ([^|]+) \| production \|$", _page())
    assert [name for name, licence in production if re.search(r"\b[AL]?GPL|General Public", licence)] == []


def _page() -> str:
    return licences.PAGE.read_text(encoding="utf-8")
