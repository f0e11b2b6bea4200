"""The how-to pages are run from their own text against a service as a newcomer starts it."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from app.embedded.deployment import Deployment
from tests.docs.guides import DOCS, ROOT, run_script, script_of
from tests.integration.test_up import Up
from tests.servers import reachable_folder

HOWTO = DOCS / "howto"


@pytest.fixture(scope="module")
def service() -> Iterator[Deployment]:
    """The demo of `./scripts/run`: its address, and the variables of its servers."""
    with reachable_folder() as folder:
        up = Up(folder, "--demo")
        try:
            up.url()
            yield up.deployment()
        finally:
            up.end()
            up.kill_everything()


def run(page: Path, service: Deployment, folder: Path) -> dict[str, str]:
    api = f"{service.api_url}/api/v1"
    return run_script(script_of(page), {**service.variables, "HOURGLASS_API": api}, folder=folder)


def test_a_parents_app_does_all_that_parents_do(service: Deployment, tmp_path: Path) -> None:
    parts = run(HOWTO / "parents-app.md", service, tmp_path)
    assert json.loads(parts["children"].splitlines()[0]) == {"name": "Kim", "limits_reviewed": False}
    days, saved = re.fullmatch(r"(\d+)\n(\{.*\})\n412\n", parts["limits"], re.DOTALL).groups()  # type: ignore[union-attr]
    assert int(days) > 0
    assert json.loads(saved) == {"weekday_limit_minutes": 60, "weekend_limit_minutes": 90}
    assert parts["grant"].split() == ["15", "0"]
    assert parts["request"].split() == ["approved"]
    assert parts["pause"].splitlines() == ["blocked parent_pause", "null", "1"]
    refused, state, *devices = parts["caregiver"].splitlines()
    assert (refused, json.loads(state)) == ("budget_exhausted 0", {"left_minutes": 0, "children": ["Kim"]})
    assert json.loads(devices[-1]) == {"name": "Grandma", "role": "caregiver", "granted_today_minutes": 30}
    assert "event: viewing_time_updated" in parts["follow"]
    assert '"days":' in parts["past"]
    assert '{"profile_name":"Kim","total_seconds":0' in parts["past"]


def test_a_gateway_sends_for_many(service: Deployment, tmp_path: Path) -> None:
    parts = run(HOWTO / "gateway.md", service, tmp_path)
    *results, used = parts["beats"].splitlines()
    assert [json.loads(result) for result in results] == [
        {"enforcement": "allowed", "code": None},
        {"enforcement": "allowed", "code": None},
        {"enforcement": None, "code": "title_unknown"},
    ]
    assert 2 <= float(used) < 20
    assert parts["streams"].count('{"title_id":"moon-pirates"') == 2


def test_a_privacy_request_is_answered(service: Deployment, tmp_path: Path) -> None:
    parts = run(HOWTO / "privacy-requests.md", service, tmp_path)
    exported = json.loads(parts["export"])
    assert exported["children"] == 1
    assert {"account", "profiles", "audit_log"} <= set(exported["members"])
    assert json.loads(parts["audit"].splitlines()[1])["actor"] == "admin:robin"
    receipt, status = parts["erase"].split()
    assert json.loads(receipt)["counts"]["profiles"] == 1
    assert status == "404"


def test_the_five_lines_of_the_readme_lead_to_a_heartbeat(service: Deployment) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8").partition("## Five lines")[2]
    five = re.search(r"```sh\n(.*?)```", text, re.DOTALL)
    assert five
    script = five[1].replace("http://127.0.0.1:8000", service.api_url)
    answer = run_script(f"set -euo pipefail\nprintf '=== five\\n'\n{script}", service.variables)["five"]
    assert json.loads(answer)["enforcement"] == "allowed"
