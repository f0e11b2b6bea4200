"""Deployments for fault injection, and the record of the results."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.auth.lease_keys import new_lease_key
from app.lab.chaos.deployment import ChaosDeployment
from tests.faults.record import RECORDS, Trial, table
from tests.servers import Cache, Databases, reachable_folder

VIEWERS = 4000


@pytest.fixture(scope="session")
def _deployment() -> Iterator[ChaosDeployment]:
    with (
        reachable_folder() as folder,
        ChaosDeployment(
            folder,
            postgres=Databases(folder / "postgres"),
            valkey=Cache(folder / "valkey", options={"enable-debug-command": "local"}),
            viewers=VIEWERS,
            settings={"event_feed": True, "lease_key": new_lease_key()},
        ) as deployment,
    ):
        yield deployment


@pytest.fixture
def deployment(_deployment: ChaosDeployment) -> Iterator[ChaosDeployment]:
    """A deployment shared by the tests of this folder, repaired before and after each test."""
    _deployment.repair()
    yield _deployment
    _deployment.repair()


@pytest.fixture
def trial(deployment: ChaosDeployment) -> Callable[..., Trial]:
    """Begins a trial: players that watch while the test injects a fault."""

    def begin(row: int, fault: str, *, size: int = 20, **options: float) -> Trial:
        return Trial(deployment, row=row, fault=fault, size=size, **options)

    return begin


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of docs/explanation/reliability.md, filled from this run."""
    if RECORDS:
        terminalreporter.section("results by fault")
        for line in table():
            terminalreporter.write_line(line)
        file = terminalreporter.config.getoption("--reliability", default=None)
        if file:
            Path(file).write_text("\n".join(table()) + "\n", encoding="utf-8")
