"""The wall clocks of API, worker and Redis step back and forth. Counted time still reaches PostgreSQL."""

import json
import mmap
import shutil
import struct
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from app.lab.chaos.deployment import ChaosDeployment
from tests.faults.households import PASSWORD, Home
from tests.faults.services import worker_metric, worker_url
from tests.servers import Cache, Databases, reachable_folder

HOUR_MS = 3_600_000
STEPS_MS = {"- 3 h": -3 * HOUR_MS, "- 47 min": -47 * 60_000, "+ 1 d": 24 * HOUR_MS}
FLUSHED_SECONDS = 15.0
SOURCE = Path(__file__).with_name("clock.c")


class WallClock:
    """The wall clock of every process that was started with it.

    Args:
        folder: for the library and for the file that holds the offset.
    """

    def __init__(self, folder: Path) -> None:
        self._library, self._file = folder / "clock.so", folder / "offset"
        command = ["gcc", "-O1", "-shared", "-fPIC", "-o", str(self._library), str(SOURCE)]
        subprocess.run(command, check=True, capture_output=True)  # noqa: S603  fixed words
        self.step(0)

    @property
    def variables(self) -> dict[str, str]:
        """What a process needs in its environment."""
        return {"LD_PRELOAD": str(self._library), "TEST_CLOCK_FILE": str(self._file)}

    def step(self, offset_ms: int) -> None:
        """Set the clock this far from the true one, at once and for all."""
        if not self._file.exists():
            self._file.write_bytes(struct.pack("q", 0))
        with self._file.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
            shared[:] = struct.pack("q", offset_ms)


class CacheOnClock(Cache):
    """A Valkey that tells the time by such a clock."""

    clock: WallClock

    def _variables(self) -> Mapping[str, str]:
        return {**super()._variables(), **self.clock.variables}


@dataclass
class Stepped:
    """A deployment whose clocks a test sets."""

    deployment: ChaosDeployment
    clock: WallClock

    def readiness(self) -> dict[str, object]:
        with urllib.request.urlopen(f"{worker_url(self.deployment)}/health/ready", timeout=5) as answer:  # noqa: S310  ours
            found: dict[str, object] = json.loads(answer.read())
        return found

    def metric(self, name: str) -> float:
        return worker_metric(self.deployment, name)

    def flushed_used_ms(self, home: Home) -> int:
        """What PostgreSQL knows of a child, over all days."""
        answer = self.deployment.sql(
            f"SELECT COALESCE(sum(used_ms), 0) FROM viewing_time_balances WHERE profile_id = '{home.child}'"  # noqa: S608
        )
        return int(answer)


@pytest.fixture
def stepped() -> Iterator[Stepped]:
    if shutil.which("gcc") is None:
        pytest.skip("STEPS OF THE CLOCKS ARE NOT TESTED: gcc is not installed")
    with reachable_folder() as folder:
        clock = WallClock(folder)
        cache = CacheOnClock(folder / "valkey")
        cache.clock = clock
        deployment = ChaosDeployment(
            folder, postgres=Databases(folder / "postgres"), valkey=cache, viewers=10, proxied=False
        )
        plain = deployment.variables
        deployment.variables = lambda *args: {**plain(*args), **clock.variables}  # type: ignore[method-assign]
        with deployment:
            yield Stepped(deployment, clock)


def sign_in(home: Home, email: str) -> None:
    """A fresh token, as a player gets one whose old one has expired."""
    answer = home.call("POST", "/auth/login", json={"email": email, "password": PASSWORD})
    assert answer.status_code == 200, f"locked out: {answer.text}"
    home.player["Authorization"] = f"Bearer {answer.json()['access_token']}"


def email_of(stepped: Stepped, home: Home) -> str:
    return stepped.deployment.sql(f"SELECT email FROM accounts WHERE id = '{home.account_id}'")  # noqa: S608


def watch(home: Home, device: str) -> None:
    """Open a session on a device and beat for a second and a half."""
    opened = home.beat(device_id=device)
    assert opened.status_code == 200, opened.text
    for _ in range(3):
        time.sleep(0.5)
        beat = home.beat(device_id=device, session_id=opened.json()["session_id"])
        assert beat.status_code == 200, beat.text


@pytest.mark.parametrize(
    "step", [pytest.param(step, marks=[] if step == "- 3 h" else pytest.mark.faults) for step in STEPS_MS]
)
def test_a_step_of_all_clocks_stops_nothing(stepped: Stepped, step: str) -> None:
    home = Home.found(stepped.deployment)
    email = email_of(stepped, home)
    watch(home, "tv-before")
    for name, offset_ms in ((step, STEPS_MS[step]), ("and back", 0)):
        flushed, steps = (
            stepped.metric("hourglass_flushed_entries_total"),
            stepped.metric("hourglass_clock_steps_total"),
        )
        stepped.clock.step(offset_ms)
        sign_in(home, email)
        watch(home, f"tv {name}")
        assert home.try_pin(home.pin) == 200, f"{name}: the right PIN is refused"

        def goes_on(flushed: float = flushed, steps: float = steps) -> bool:
            is_flushed = stepped.metric("hourglass_flushed_entries_total") > flushed
            has_noticed = stepped.metric("hourglass_clock_steps_total") > steps
            return is_flushed and has_noticed and stepped.metric('hourglass_unflushed{kind="children"}') == 0

        assert stepped.deployment.eventually(goes_on, seconds=FLUSHED_SECONDS), f"{name}: the flush stands still"
        assert stepped.metric("hourglass_flush_lag_seconds") < 5
        readiness = stepped.readiness()
        assert readiness["status"] == "up", readiness
        assert stepped.metric('hourglass_job_last_success_age_seconds{job="flush"}') < 5
        assert home.balance().status_code == 200
    assert stepped.flushed_used_ms(home) > 0
    assert "Traceback" not in stepped.deployment.log


def test_a_worker_that_stands_still_is_degraded(stepped: Stepped) -> None:
    """No cycle has ended for long: said by its own readiness and metrics, which no job sets."""
    home = Home.found(stepped.deployment)
    watch(home, "tv")
    stepped.deployment.postgres.kill9()
    assert stepped.deployment.eventually(lambda: stepped.readiness()["status"] == "degraded", seconds=10)
    age = 'hourglass_job_last_success_age_seconds{job="flush"}'
    assert stepped.deployment.eventually(lambda: stepped.metric(age) > 1.5, seconds=20)
    assert stepped.metric('hourglass_job_failures_total{job="flush"}') >= 1
    assert stepped.metric('hourglass_job_failures_total{job="remove_erased"}') == 0
    stepped.deployment.postgres.start()
    assert stepped.deployment.eventually(lambda: stepped.readiness()["status"] == "up", seconds=20)
