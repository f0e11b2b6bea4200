"""Children who watch together, in other zones and with other reset hours, while something fails."""

import random
from collections.abc import Callable

import pytest

from app.lab.chaos.clients import SIBLINGS
from app.lab.chaos.deployment import ChaosDeployment
from app.lab.chaos.faults import Scene, empty_redis
from tests.faults.record import Trial

Begin = Callable[..., Trial]
SIZE = 8 * SIBLINGS
AWAY = ("200", "503 counters_unavailable")


def together(trial: Begin, row: int, fault: str, **options: float) -> Trial:
    watching = trial(row, f"{fault}, children together", size=SIZE, together=1.0, **options)
    assert watching.clients.size <= SIZE / 2, "every player has several children"
    assert len(watching.clients.profile_ids) == SIZE
    return watching


def test_an_api_worker_dies(deployment: ChaosDeployment, trial: Begin) -> None:
    with together(trial, 1, "API worker killed") as watching:
        dead = deployment.kill("api")
        assert deployment.eventually(lambda: dead not in deployment.pids("api"), seconds=20)
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers("200", "lost")


def test_redis_is_killed(deployment: ChaosDeployment, trial: Begin) -> None:
    with together(trial, 4, "Redis kill -9 with AOF") as watching:
        deployment.valkey.kill9()
        watching.endure(0.5)
        deployment.valkey.start()
        watching.until_heard()
    watching.expect_exact()
    watching.expect_answers(*AWAY)


def test_redis_forgets_everything(deployment: ChaosDeployment, trial: Begin) -> None:
    with together(trial, 5, "FLUSHALL, twice") as watching, deployment.redis() as redis:
        for _ in range(2):
            redis.flushall()
            watching.until_heard()
    watching.expect_exact()
    watching.expect_answers("200")


@pytest.mark.faults
def test_redis_forgets_everything_while_sessions_come_and_go(deployment: ChaosDeployment, trial: Begin) -> None:
    with together(trial, 5, "FLUSHALL, 3 times, beside sessions that end", interval_seconds=1.0, churn=0.2) as watching:
        scene = Scene(deployment, watching.clients, random.Random(5))  # noqa: S311  to be repeated
        for _ in range(3):
            watching.until_heard()
            empty_redis(scene)
    watching.expect_exact()
