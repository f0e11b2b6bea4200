"""Each finding of `hourglass doctor` has an explanation."""

import re
from pathlib import Path

import pytest

from app.deployment.checkup import CheckResult, judged, show
from app.deployment.explanations import EXPLANATIONS, explanation_of

SOURCE = (Path(__file__).parents[2] / "app" / "deployment" / "checkup.py").read_text(encoding="utf-8")
SUBJECTS = set(re.findall(r'(?:judged|_clock)\(\s*"([^"]+)"', SOURCE))


def test_every_subject_is_explained() -> None:
    assert len(SUBJECTS) > 15
    assert [subject for subject in SUBJECTS if explanation_of(subject) is None] == []


@pytest.mark.parametrize("subject", ["master 10.0.0.1:6379", "replica 10.0.0.2:6379", "Valkey version"])
def test_subjects_that_are_made_are_explained_too(subject: str) -> None:
    assert explanation_of(subject) is not None


def test_a_node_of_a_cluster_is_explained_by_what_is_wrong_with_it() -> None:
    assert explanation_of("replica 10.0.0.2:6379: eviction") == EXPLANATIONS["eviction"]


def test_a_finding_that_is_not_good_is_shown_with_its_mend(capsys: pytest.CaptureFixture[str]) -> None:
    findings = [
        judged("eviction", "allkeys-lru", "noeviction", good=False),
        judged("snapshots", "900 1", "off", good=False, otherwise=CheckResult.WARNING),
        judged("synchronous_commit", "on", "on", good=True),
    ]
    assert show(findings) is False
    shown = capsys.readouterr().out
    assert "fix: CONFIG SET maxmemory-policy noeviction" in shown
    assert 'fix: CONFIG SET save ""' in shown
    assert "ALTER SYSTEM" not in shown
