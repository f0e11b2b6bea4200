"""The files of deploy/monitoring are generated, valid and documented, and use existing metrics."""

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from app.observability.reference import names
from scripts import monitoring

ROOT = Path(__file__).parents[2]
TESTS = monitoring.FOLDER / "rules.test.yml"
PROMTOOL = Path("/usr/bin/promtool")
needs_promtool = pytest.mark.skipif(not PROMTOOL.exists(), reason="promtool is not installed (package prometheus)")
_FOREIGN = {"up", "ALERTS"}


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, timeout=240, check=False)  # noqa: S603
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(("path", "content"), list(monitoring.files()), ids=lambda value: getattr(value, "name", ""))
def test_the_files_are_as_the_code_makes_them(path: Path, content: str) -> None:
    assert path.read_text(encoding="utf-8") == content, "run scripts/documents"


@needs_promtool
def test_the_rules_are_sound() -> None:
    promtool("check", "rules", monitoring.FOLDER / "rules.yml")


@needs_promtool
def test_the_rules_fire_and_stay_silent_as_they_should() -> None:
    promtool("test", "rules", TESTS)


def _deaf(rule: dict[str, Any]) -> None:
    rule["expr"] = f"({rule['expr']}) and vector(1) == 2"


def _alarmist(rule: dict[str, Any]) -> None:
    rule["expr"] = "vector(1)"


def _stubborn(rule: dict[str, Any]) -> None:
    rule["expr"] = f"last_over_time(({rule['expr']})[3h:1m])"


@needs_promtool
@pytest.mark.parametrize("worsen", [_deaf, _alarmist, _stubborn])
def test_the_tests_of_the_rules_can_fail(tmp_path: Path, worsen: Callable[[dict[str, Any]], None]) -> None:
    """Rules that never fire, always fire or never clear are noticed."""
    rules = monitoring.rules()
    for group in rules["groups"]:
        for rule in group["rules"]:
            if "alert" in rule:
                worsen(rule)
    (tmp_path / "rules.yml").write_text(yaml.safe_dump(rules), encoding="utf-8")
    (tmp_path / "rules.test.yml").write_text(TESTS.read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(AssertionError, match="FAILED"):
        promtool("test", "rules", tmp_path / "rules.test.yml")


def _minutes(time: str) -> int:
    return int(time[:-1]) * (60 if time.endswith("h") else 1)


def _expected(test: dict[str, Any]) -> list[tuple[int, set[str]]]:
    """Which alerts fire at which minutes, as a test says of all of them at once."""
    return sorted(
        (
            _minutes(each["eval_time"]),
            {str(yaml.safe_load(sample["labels"].replace("=", ": "))["alertname"]) for sample in each["exp_samples"]}
            if each.get("exp_samples")
            else set(),
        )
        for each in test.get("promql_expr_test", ())
        if re.fullmatch(r"count by \(alertname\) \(ALERTS(\{.*\})?\)", each["expr"])
    )


@pytest.mark.parametrize("alert", monitoring.alert_names())
def test_every_alert_fires_and_clears_in_the_tests_of_the_rules(alert: str) -> None:
    """In one test: silent before the fault, firing during it, silent after it."""
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    lives = ["".join("!" if alert in fires else "." for _, fires in _expected(test)) for test in tests]
    assert any(re.search(r"!\.", life) for life in lives), lives
    assert any(life.startswith(".") for life in lives), lives


@pytest.mark.parametrize("alert", monitoring.alert_names())
def test_every_alert_has_a_section_in_the_runbook(alert: str) -> None:
    text = (ROOT / monitoring.RUNBOOK).read_text(encoding="utf-8")
    sections = re.findall(r"^### (\w+)\n\n(.+?)(?=\n##|\Z)", text, re.MULTILINE | re.DOTALL)
    found = [body for heading, body in sections if heading == alert]
    assert len(found) == 1
    assert len(found[0].split()) > 15, "says what it means and what to do"


def test_the_runbook_has_no_section_of_an_alert_that_is_gone() -> None:
    text = (ROOT / monitoring.RUNBOOK).read_text(encoding="utf-8")
    assert set(re.findall(r"^### (Hourglass\w+)$", text, re.MULTILINE)) == set(monitoring.alert_names())


def test_every_query_asks_for_metrics_that_we_have() -> None:
    text = (monitoring.FOLDER / "rules.yml").read_text(encoding="utf-8")
    text += json.dumps([monitoring.grafana(dashboard) for dashboard in monitoring.dashboards()])
    asked = set(re.findall(r"\b(?:hourglass_(?!slo:)|http_server_)\w+", text))
    assert asked - names() - _FOREIGN == set()
    assert asked
