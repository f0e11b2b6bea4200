"""Tests of the oracle: the differences that it accepts, and those that it reports."""

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from app.lab.chaos.deployment import ChaosDeployment
from app.lab.chaos.soak import write_ledger
from tests.faults.record import Trial

Begin = Callable[..., Trial]


def _reconcile(deployment: ChaosDeployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", "app.cli", "reconcile", *arguments],
        env=deployment.variables(),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_reconcile_tells_what_differs(deployment: ChaosDeployment, trial: Begin, tmp_path: Path) -> None:
    with trial(0, "none", size=3) as watching:
        watching.until_heard()
    watching.expect_exact()
    write_ledger(tmp_path / "ledger", watching.clients.ledger())
    agreed = _reconcile(deployment, "--ledger", str(tmp_path / "ledger"))
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert " 0 differences" in agreed.stdout
    [less, more, _] = watching.clients.profile_ids
    taken, given = 700, 90_000
    deployment.sql(f"UPDATE viewing_time_balances SET overrun_ms = overrun_ms + {given} WHERE profile_id = '{more}'")  # noqa: S608  our own id
    column = "educational_ms" if deployment.sql(_educational(less)) == "t" else "used_ms"
    cut = f"SET {column} = {column} - {taken}"
    deployment.sql(f"UPDATE viewing_time_balances {cut} WHERE profile_id = '{less}'")
    wrong = _reconcile(deployment, "--json", "--ledger", str(tmp_path / "ledger"))
    assert wrong.returncode == 1
    told = {(each["kind"], each["profile_id"]) for each in json.loads(wrong.stdout)["differences"]}
    # Redis still knows what PostgreSQL lost; that it would never be flushed is the defect.
    assert told == {("unmarked", less), ("behind", more), ("doubled", more)}


def _educational(child: str) -> str:
    return f"SELECT educational_ms > 0 FROM viewing_time_balances WHERE profile_id = '{child}'"  # noqa: S608  our own id


def test_what_a_player_watched_and_nobody_counted(deployment: ChaosDeployment, trial: Begin) -> None:
    with trial(0, "none", size=2) as watching:
        watching.until_heard()
    watching.expect_exact()
    [child, _] = watching.clients.profile_ids
    with deployment.redis() as redis:
        redis.flushall()
    deployment.sql(f"DELETE FROM viewing_time_balances WHERE profile_id = '{child}'")  # noqa: S608  our own id
    differences = deployment.findings(watching.clients.ledger()).differences
    assert [(each.kind.value, each.profile_id) for each in differences] == [("lost", child)]


@pytest.mark.faults
def test_a_short_soak() -> None:
    soak = subprocess.run(
        [sys.executable, "-P", "-m", "app.cli", "chaos", "--seed", "7", "--minutes", "0.5", "--rate", "100"],
        check=False,
        capture_output=True,
        text=True,
        timeout=580,
    )
    assert soak.returncode == 0, soak.stdout + soak.stderr
    assert "nothing lost, nothing doubled" in soak.stdout
    told = re.search(r"feed: (\d+) events read, .* 0 differences; (\d+) leases, 0 wrong", soak.stdout)
    assert told is not None, soak.stdout
    assert all(int(count) for count in told.groups()), soak.stdout
