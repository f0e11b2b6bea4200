"""A failing start prints one line with cause and correction; an absent server is awaited."""

import os
import socket
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest
from _pytest.mark.structures import ParameterSet

from app.deployment.listening import is_ready
from app.embedded.secrets import development_secrets
from app.embedded.system import wait_until
from app.embedded.valkey import Valkey
from app.settings.settings import variable_of
from tests.faults.disks import tiny_disk
from tests.faults.services import Run, started, surroundings
from tests.servers import Cache, Databases, reachable_folder, running_postgres, running_valkey

SECONDS = 60.0
SERVICES = ("api", "worker")
PASSWORD = "sesame"


@pytest.fixture(scope="module")
def server() -> Iterator[Databases]:
    """A PostgreSQL that asks two of its users for a password."""
    with running_postgres() as server:
        server.execute(f"CREATE ROLE locked LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE powerless LOGIN")
        rules = server.cluster / "pg_hba.conf"
        rules.write_text("local all locked scram-sha-256\n" + rules.read_text(encoding="utf-8"), encoding="utf-8")
        server.execute("SELECT pg_reload_conf()")
        yield server


@pytest.fixture(scope="module")
def cache() -> Iterator[Valkey]:
    with running_valkey() as server:
        yield server


@pytest.fixture(scope="module")
def secrets(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    found = development_secrets(tmp_path_factory.mktemp("secrets"))
    return {variable_of(name): value for name, value in found.items()}


@pytest.fixture(scope="module")
def environment(secrets: Mapping[str, str], cache: Valkey) -> dict[str, str]:
    """What every process gets, but for the address of the database."""
    return {**surroundings(), **secrets, "REDIS_URL": cache.url, "HOURGLASS_PORT": "0", "COLUMNS": "300"}


def failure(folder: Path, variables: Mapping[str, str], *arguments: str) -> str:
    """The one line with which a command fails."""
    with started(folder, variables, *arguments) as run:
        assert run.ended() == 1, run.lines
    assert not [line for line in run.lines if "Traceback" in line], run.lines
    if arguments[0] in SERVICES:
        reasons = [event["reason"] for event in run.events if event["event"] == "cannot_start"]
    elif arguments[0] == "doctor":
        reasons = [line for line in run.lines if "failure" in line and "│" in line]
    else:
        reasons = [line for line in run.lines if line.startswith("hourglass: ")]
    assert len(reasons) == 1, run.lines
    return str(reasons[0])


def of_user(url: str, user: str, password: str = "") -> str:
    """The same database for another user."""
    parts = urlsplit(url)
    return f"postgresql://{user}{':' if password else ''}{quote(password)}@{parts.path}?{parts.query}"


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as found:
        yield found


def url_of_fault(server: Databases, fault: str) -> str:
    """A database with a fault."""
    match fault:
        case "wrong password":
            return of_user(server.fresh(), "locked", "not-" + PASSWORD)
        case "no such user":
            return of_user(server.fresh(), "nobody-of-this-name")
        case "missing database":
            return server.url_of("not_there")
        case "no permission":
            return of_user(server.fresh(), "powerless")
        case "no schema":
            return server.empty()
    url = server.fresh()
    database = urlsplit(url).path.removeprefix("/")
    match fault:
        case "older schema":
            server.execute("UPDATE alembic_version SET version_num = '0001'", database=database)
        case "newer schema":
            server.execute("UPDATE alembic_version SET version_num = '9999'", database=database)
            server.execute("UPDATE schema_compatibility SET compatible_from = '9998'", database=database)
        case "newer schema, compatible":
            server.execute("UPDATE alembic_version SET version_num = '9999'", database=database)
    return url


WORDS = {
    "wrong password": ("password", "DATABASE_URL"),
    "no such user": ("nobody-of-this-name", "DATABASE_URL"),
    "missing database": ("not_there", "createdb"),
    "no permission": ("permission denied", "GRANT"),
    "no schema": ("no schema", "run: hourglass migrate"),
    "older schema": ("at 0001, older", "run: hourglass migrate"),
    "newer schema": ("at 9999, too new", "upgrade Hourglass"),
}
LEFT_TO_MIGRATE = {"no schema", "older schema"}
MISFITS = [
    (command, fault)
    for command in ("api", "worker", "migrate", "up", "reconcile", "doctor")
    for fault in WORDS
    if not (command in {"migrate", "up"} and fault in LEFT_TO_MIGRATE)  # this is what the command mends
]
QUICK_MISFITS = {
    *(("api", "wrong password"), ("worker", "no such user"), ("migrate", "missing database"), ("up", "no permission")),
    *(("reconcile", "no schema"), ("doctor", "older schema"), ("migrate", "newer schema")),
}
"""Each fault once, and each command at least once; all pairs are of the long set."""


def _case(*pair: str, is_quick: bool) -> ParameterSet:
    return pytest.param(*pair, marks=[] if is_quick else pytest.mark.faults)


@pytest.mark.parametrize(("command", "fault"), [_case(*pair, is_quick=pair in QUICK_MISFITS) for pair in MISFITS])
def test_a_database_that_does_not_fit(
    server: Databases, environment: dict[str, str], folder: Path, command: str, fault: str
) -> None:
    if fault == "no permission" and command in {"migrate", "up"}:
        url = of_user(server.empty(), "powerless")
    else:
        url = url_of_fault(server, fault)
    arguments = [command, f"--data-dir={folder / 'data'}"] if command == "up" else [command]
    said = failure(folder, {**environment, "DATABASE_URL": url}, *arguments)
    assert all(word in said for word in WORDS[fault]), said


def test_migrate_needs_the_database_alone(server: Databases, folder: Path) -> None:
    variables = {"PATH": os.defpath, "DATABASE_URL": server.empty()}
    with started(folder, variables, "migrate") as run:
        assert run.ended() == 0, run.lines


@pytest.mark.parametrize("command", ["migrate", "reconcile", "worker"])
def test_a_newer_schema_that_only_grew_is_fine(
    server: Databases, environment: dict[str, str], folder: Path, command: str
) -> None:
    url = url_of_fault(server, "newer schema, compatible")
    with started(folder, {**environment, "DATABASE_URL": url}, command) as run:
        if command != "worker":
            assert run.ended() == 0, run.lines
        else:
            assert wait_until(lambda: any("worker_ready" in line for line in run.lines), seconds=SECONDS), run.lines


def test_a_password_that_redis_refuses(server: Databases, environment: dict[str, str], folder: Path) -> None:
    with ExitStack() as ending:
        guarded = Cache(folder / "valkey", options={"requirepass": PASSWORD})
        guarded._is_ready = guarded._socket.exists  # type: ignore[method-assign]
        guarded.start()
        ending.callback(guarded.stop)
        for command in ("api", "worker", "reconcile"):
            variables = {**environment, "DATABASE_URL": server.fresh(), "REDIS_URL": guarded.url}
            assert "REDIS_URL" in failure(folder, variables, command)


@pytest.mark.parametrize("command", ["migrate", "reconcile", "up"])
@pytest.mark.parametrize("missing", ["PostgreSQL", "Redis"])
def test_a_command_does_not_wait_for_a_server_that_is_away(
    server: Databases, environment: dict[str, str], folder: Path, command: str, missing: str
) -> None:
    if (command, missing) == ("migrate", "Redis"):
        pytest.skip("it needs no Redis")
    addresses = {"DATABASE_URL": server.fresh(), "REDIS_URL": environment["REDIS_URL"]}
    name = {"PostgreSQL": "DATABASE_URL", "Redis": "REDIS_URL"}[missing]
    addresses[name] = {"PostgreSQL": "postgresql://127.0.0.1:1/none", "Redis": "redis://127.0.0.1:1"}[missing]
    arguments = [command, f"--data-dir={folder / 'data'}"] if command == "up" else [command]
    said = failure(folder, {**environment, **addresses}, *arguments)
    assert name in said
    assert missing in said


@pytest.mark.parametrize("command", [_case(name, is_quick=name == "worker") for name in SERVICES])
def test_a_database_that_is_away_is_said_once_then_now_and_then_and_when_it_is_back(
    environment: dict[str, str], folder: Path, command: str
) -> None:
    postgres = Databases(folder / "postgres")
    postgres.start()
    try:
        url = postgres.fresh()
        postgres.stop()
        with started(folder, {**environment, "DATABASE_URL": url}, command) as run:
            assert wait_until(lambda: _count(run, "server_away") == 1, seconds=SECONDS), run.lines
            assert wait_until(lambda: _count(run, "server_still_away") == 1, seconds=SECONDS), run.lines
            assert run.process.poll() is None
            assert _count(run, "server_away") == 1
            assert len(run.lines) <= 4, run.lines
            postgres.start()
            assert wait_until(lambda: _count(run, "server_back") == 1, seconds=SECONDS), run.lines
            ready = "worker_ready" if command == "worker" else "listening"
            assert wait_until(lambda: _count(run, ready) == 1, seconds=SECONDS), run.lines
            # While it runs the same holds.
            postgres.stop()
            assert wait_until(lambda: _count(run, "server_away") >= 2, seconds=SECONDS), run.lines
            assert wait_until(lambda: _count(run, "server_still_away") >= 2, seconds=SECONDS), run.lines
            processes = 1 if command == "worker" else 2
            assert _count(run, "server_away") <= 1 + processes
            assert _count(run, "server_still_away") <= 1 + 2 * processes
            assert len(run.lines) < 20, run.lines
            postgres.start()
            assert wait_until(lambda: _count(run, "server_back") == 1 + processes, seconds=SECONDS), run.lines
            assert not [line for line in run.lines if "Traceback" in line]
    finally:
        postgres.stop()


def _is_away(run: Run) -> bool:
    return _count(run, "server_away") == 1


def _count(run: Run, event: str) -> int:
    return sum(found["event"] == event for found in run.events)


@pytest.mark.parametrize("command", SERVICES)
def test_a_service_that_waits_ends_when_asked(environment: dict[str, str], folder: Path, command: str) -> None:
    variables = {**environment, "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    for workers in ("1", "2"):
        with started(folder, {**variables, "HOURGLASS_WORKERS": workers}, command) as run:
            assert wait_until(partial(_is_away, run), seconds=SECONDS), run.lines
            run.process.terminate()
            assert run.ended() == 0, run.lines
            assert "Traceback" not in "".join(run.lines)


@pytest.mark.parametrize("command", SERVICES)
def test_a_port_in_use(server: Databases, environment: dict[str, str], folder: Path, command: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        variables = {"DATABASE_URL": server.fresh(), "HOURGLASS_PORT": port, "HOURGLASS_WORKER_PORT": port}
        said = failure(folder, {**environment, **variables}, command)
    assert port in said
    assert "in use" in said


@pytest.mark.parametrize("command", ["api", "worker", "migrate", "reconcile", "doctor", "token", "up"])
def test_a_secret_that_cannot_be_read(
    server: Databases, environment: dict[str, str], folder: Path, command: str
) -> None:
    name = "DATABASE_URL" if command == "migrate" else "HOURGLASS_JWT_SECRET"
    variables = {**environment, "DATABASE_URL": server.fresh(), f"{name}_FILE": str(folder / "nothing" / "here")}
    del variables[name]
    more = {"token": ["--role", "service"], "up": [f"--data-dir={folder / 'data'}"]}.get(command, [])
    with started(folder, variables, command, *more) as run:
        assert run.ended() == 1, run.lines
    assert len(run.lines) == 1, run.lines
    assert f"{name}_FILE: cannot read" in run.lines[0]


def test_a_data_folder_that_cannot_be_one(environment: dict[str, str], folder: Path) -> None:
    (folder / "file").touch()
    variables = {name: value for name, value in environment.items() if name != "REDIS_URL"}
    said = failure(folder, variables, "up", f"--data-dir={folder / 'file' / 'data'}")
    assert str(folder / "file") in said


def test_a_read_only_data_folder(environment: dict[str, str], folder: Path) -> None:
    variables = {name: value for name, value in environment.items() if name != "REDIS_URL"}
    with tiny_disk(folder / "disk", megabytes=5) as disk:
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, capture_output=True)  # noqa: S603, S607
        said = failure(folder, variables, "up", f"--data-dir={disk / 'data'}")
    assert "Read-only file system" in said
    assert "--data-dir" in said


def test_a_full_disk(environment: dict[str, str], folder: Path) -> None:
    variables = {name: value for name, value in environment.items() if name != "REDIS_URL"}
    with tiny_disk(folder / "disk", megabytes=5) as disk:
        said = failure(folder, variables, "up", f"--data-dir={disk / 'data'}")
    assert "No space left on device" in said


def test_a_metrics_folder_that_cannot_be_one(server: Databases, environment: dict[str, str], folder: Path) -> None:
    (folder / "file").touch()
    for workers in ("1", "2"):
        variables = {"HOURGLASS_METRICS_DIR": str(folder / "file" / "metrics"), "HOURGLASS_WORKERS": workers}
        said = failure(folder, {**environment, "DATABASE_URL": server.fresh(), **variables}, "api")
        assert str(folder / "file") in said


def test_one_api_process_serves_and_says_where(server: Databases, environment: dict[str, str], folder: Path) -> None:
    variables = {**environment, "DATABASE_URL": server.fresh(), "HOURGLASS_WORKERS": "1"}
    with started(folder, variables, "api") as run:
        assert wait_until(lambda: _count(run, "listening") == 1, seconds=SECONDS), run.lines
        [port] = run.ports
        assert wait_until(lambda: is_ready("127.0.0.1", port), seconds=SECONDS), run.lines
