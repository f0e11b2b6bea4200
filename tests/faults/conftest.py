"""Deployments to hurt, and the record of what came of it."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from app.chaos.stand import Stand
from tests.faults.record import RECORDS, Trial, table
from tests.servers import Cache, Databases, reachable_folder

VIEWERS = 4000


@pytest.fixture(scope="session")
def _stand() -> Iterator[Stand]:
    with (
        reachable_folder() as folder,
        Stand(
            folder,
            postgres=Databases(folder / "postgres"),
            valkey=Cache(folder / "valkey", options={"enable-debug-command": "local"}),
            viewers=VIEWERS,
        ) as stand,
    ):
        yield stand


@pytest.fixture
def stand(_stand: Stand) -> Iterator[Stand]:
    """A deployment shared by the tests of this folder: whole before each, mended after it."""
    _stand.mend()
    yield _stand
    _stand.mend()


@pytest.fixture
def trial(stand: Stand) -> Callable[..., Trial]:
    """Begins a trial: players who watch while the test breaks something."""

    def begin(row: int, fault: str, *, size: int = 20, **options: float) -> Trial:
        return Trial(stand, row=row, fault=fault, size=size, **options)

    return begin


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table of docs/reliability.md, filled from this run."""
    if RECORDS:
        terminalreporter.section("what came of each fault")
        for line in table():
            terminalreporter.write_line(line)
        file = terminalreporter.config.getoption("--reliability", default=None)
        if file:
            Path(file).write_text("\n".join(table()) + "\n", encoding="utf-8")
