"""The tutorial's commands are run, in order, against the service as a newcomer starts it."""

import json

from tests.docs.guides import DOCS, run_script, script_of
from tests.integration.test_up import Up
from tests.servers import reachable_folder

TUTORIAL = DOCS / "tutorial" / "first-limit.md"


def test_the_steps_lead_to_a_limit_that_counts() -> None:
    with reachable_folder() as folder:
        up = Up(folder, "--demo")
        try:
            script = script_of(TUTORIAL).replace("run token", f"run token --data-dir {folder}")
            parts = run_script(script, {"HOURGLASS_API": f"{up.url()}/api/v1"})
        finally:
            up.end()
            up.kill_everything()
    assert json.loads(parts["limit"])["weekday_limit_minutes"] == 15
    answer = json.loads(parts["watch"])
    assert 5 <= answer["used_seconds"] < 15
    assert 15 * 60 - 15 < answer["remaining_seconds"] <= 15 * 60 - 5
    ended, _balance, why = (json.loads(line) for line in parts["end"].replace("}{", "}\n{").splitlines())
    assert ended["total_seconds"] >= 5
    assert why["sentences"]
