"""Rows 1 to 3: processes of the service die."""

import time
from collections.abc import Callable

from app.chaos.stand import Stand
from tests.faults.record import Trial

Begin = Callable[..., Trial]


def test_an_api_worker_dies_again_and_again(stand: Stand, trial: Begin) -> None:
    with trial(1, "API worker killed every 2 s") as watching:
        for _ in range(3):
            dead = stand.kill("api")
            began = time.monotonic()
            assert stand.eventually(lambda: dead not in stand.pids("api"), seconds=20)  # noqa: B023
            time.sleep(max(0.0, 2 - (time.monotonic() - began)))
    watching.expect_exact()
    watching.expect_answers("200", "lost")
