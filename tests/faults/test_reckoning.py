"""The oracle itself: what it is silent about, and what it tells."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from app.chaos.soak import write_ledger
from app.chaos.stand import Stand
from tests.faults.record import Trial

Begin = Callable[..., Trial]


def _reconcile(stand: Stand, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  ourselves
        [sys.executable, "-P", "-m", "app.cli", "reconcile", *arguments],
        env=stand.variables(),
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_reconcile_tells_what_differs(stand: Stand, trial: Begin, tmp_path: Path) -> None:
    with trial(0, "none", size=3) as watching:
        time.sleep(1)
    watching.expect_exact()
    write_ledger(tmp_path / "ledger", watching.crowd.ledger())
    agreed = _reconcile(stand, "--ledger", str(tmp_path / "ledger"))
    assert agreed.returncode == 0, agreed.stdout + agreed.stderr
    assert " 0 differences" in agreed.stdout
    [less, more, _] = watching.crowd.profile_ids
    taken, given = 700, 90_000
    stand.sql(f"UPDATE viewing_time_balances SET overrun_ms = overrun_ms + {given} WHERE profile_id = '{more}'")  # noqa: S608  our own id
    column = "educational_ms" if stand.sql(_educational(less)) == "t" else "used_ms"
    cut = f"SET {column} = {column} - {taken}"
    stand.sql(f"UPDATE viewing_time_balances {cut} WHERE profile_id = '{less}'")
    wrong = _reconcile(stand, "--json", "--ledger", str(tmp_path / "ledger"))
    assert wrong.returncode == 1
    told = {(each["kind"], each["profile_id"]) for each in json.loads(wrong.stdout)["differences"]}
    # Redis still knows what PostgreSQL lost; that it would never be flushed is the defect.
    assert told == {("unmarked", less), ("behind", more), ("doubled", more)}


def _educational(child: str) -> str:
    return f"SELECT educational_ms > 0 FROM viewing_time_balances WHERE profile_id = '{child}'"  # noqa: S608  our own id


def test_what_a_player_watched_and_nobody_counted(stand: Stand, trial: Begin) -> None:
    with trial(0, "none", size=2) as watching:
        time.sleep(1)
    watching.expect_exact()
    [child, _] = watching.crowd.profile_ids
    with stand.redis() as redis:
        redis.flushall()
    stand.sql(f"DELETE FROM viewing_time_balances WHERE profile_id = '{child}'")  # noqa: S608  our own id
    differences = stand.findings(watching.crowd.ledger()).differences
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
