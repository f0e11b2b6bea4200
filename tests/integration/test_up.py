"""`hourglass up` as one process tree: start, faults, end, restart."""

import contextlib
import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]  # no stubs
import pytest
from redis import Redis

from app.embedded.deployment import Deployment, locate
from tests.servers import reachable_folder

ROOT = Path(__file__).parents[2]
START_SECONDS = 60.0
END_SECONDS = 20.0
REPLACE_SECONDS = 15.0


class Up:
    """`hourglass up` as a child of the test."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        self.folder = folder
        self._process = subprocess.Popen(  # noqa: S603  ourselves
            [sys.executable, "-m", "app.cli", "up", "--port", "0", "--data-dir", str(folder), *options],
            cwd=ROOT,
            env={**os.environ, **environment},  # noqa: TID251  handed on as it is
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._unread: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def wait_for(self, beginning: str, *, seconds: float = START_SECONDS) -> str:
        """The next line of output that begins like this."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._unread.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                line = None
            if line is None:
                output = "\n".join(self.lines)
                raise AssertionError(f"no {beginning!r} within {seconds} s, but:\n{output}")
            if line.startswith(beginning):
                return line

    def url(self) -> str:
        return self.wait_for("ready: ").removeprefix("ready: ")

    def deployment(self) -> Deployment:
        return locate(self.folder)

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait; the exit code."""
        self._process.send_signal(number)
        return self.wait(END_SECONDS)

    def wait(self, seconds: float) -> int:
        code = self._process.wait(timeout=seconds)
        self._reader.join(timeout=10)
        return code

    def kill_everything(self) -> None:
        """Whatever a failed test left."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        for process in psutil.process_iter(["cmdline"]):
            if any(str(self.folder) in word for word in process.info["cmdline"] or []):
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
        self._reader.join(timeout=10)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        if self._process.stdout is not None:
            for line in self._process.stdout:
                self.lines.append(line.rstrip("\n"))
                self._unread.put(line.rstrip("\n"))
        self._unread.put(None)  # it has ended


Starter = Callable[..., Up]


@pytest.fixture
def start() -> Iterator[Starter]:
    """Starts deployments in one folder, and cleans up after them."""
    with reachable_folder() as folder, contextlib.ExitStack() as cleaning:

        def starter(*options: str, **environment: str) -> Up:
            up = Up(folder / "data", *options, **environment)
            cleaning.callback(up.kill_everything)
            return up

        yield starter


def get(url: str) -> int:
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  http, our own
        return int(answer.status)


def eventually(condition: Callable[[], bool], *, seconds: float) -> float:
    """Seconds until the condition held."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < seconds, f"not within {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - began


def alive(pid: int) -> bool:
    return bool(psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)


def command_line(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603  ourselves
        [sys.executable, "-m", "app.cli", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


def test_it_starts_serves_and_ends_in_order(start: Starter) -> None:
    up = start("--workers", "2")
    url = up.url()
    assert up.lines[-1] == f"ready: {url}"
    assert get(f"{url}/health/ready") == 200
    running = up.deployment()
    assert set(running.processes) == {"api 1", "api 2", "worker", "PostgreSQL", "Valkey"}
    assert running.api_url == url
    assert up.end() == 0
    assert [line for line in up.lines if "Traceback" in line] == []
    assert not any(alive(pid) for pid in running.processes.values())
    assert not (up.folder / "deployment.json").exists()


def ask(url: str, method: str, path: str, token: str = "", body: object = None) -> Any:
    """The JSON that comes back."""
    request = urllib.request.Request(  # noqa: S310  http, our own
        f"{url}/api/v1{path}",
        method=method,
        data=None if body is None else json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Authorization": f"Bearer {token}"},
    )
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  likewise
        return json.loads(answer.read())


def minted(up: Up, account: str, role: str) -> str:
    result = command_line("token", "--account", account, "--role", role, "--data-dir", str(up.folder))
    assert result.returncode == 0, result.stderr
    return result.stdout.split()[-1]


def connected(url: str, head: str) -> socket.socket:
    """A connection on which a request was begun."""
    host, port = url.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(head.encode())
    return connection


def test_it_ends_in_time_with_streams_open_and_requests_half_sent(start: Starter) -> None:
    up = start("--workers", "2")
    url = up.url()
    registered = ask(
        url, "POST", "/auth/register", body={"email": "a@example.org", "password": "x" * 12, "timezone": "UTC"}
    )
    token, account = registered["access_token"], registered["account_id"]
    child = ask(url, "POST", "/profiles", minted(up, account, "parent"), {"name": "Kim", "is_kids": True})["id"]
    titles = [{"id": "film", "name": "Film", "is_educational": False}]
    ask(url, "PUT", "/catalog/titles", minted(up, account, "service"), titles)
    beat = {"profile_id": child, "title_id": "film", "device_id": "tv"}
    beat["session_id"] = ask(url, "POST", "/viewing-time/heartbeat", token, beat)["session_id"]
    time.sleep(0.2)
    used = ask(url, "POST", "/viewing-time/heartbeat", token, beat)["used_seconds"]
    assert used > 0

    auth = f"Host: x\r\nAuthorization: Bearer {token}\r\n"
    with contextlib.ExitStack() as open_ones:
        streams = [connected(url, f"GET /api/v1/viewing-time/events/{child} HTTP/1.1\r\n{auth}\r\n") for _ in range(50)]
        halves = [
            connected(url, f"POST /api/v1/viewing-time/heartbeat HTTP/1.1\r\n{auth}Content-Length: 500\r\n\r\n{{")
            for _ in range(10)
        ]
        halves += [connected(url, "POST /api/v1/viewing-time/heartbeat HTTP/1.1\r\nHost: x\r\nX-") for _ in range(5)]
        for connection in (*streams, *halves):
            open_ones.enter_context(connection)
        assert all(stream.recv(12) == b"HTTP/1.1 200" for stream in streams)
        assert up.end() == 0
    assert [line for line in up.lines if "Traceback" in line] == []
    assert any("worker_drained" in line for line in up.lines), "nothing is left unflushed"


def test_other_commands_find_it_by_its_folder(start: Starter) -> None:
    up = start("--workers", "1")
    url = up.url()
    folder = str(up.folder)
    doctor = command_line("doctor", "--data-dir", folder)
    assert doctor.returncode == 0, doctor.stdout + doctor.stderr
    assert command_line("migrate", "--data-dir", folder).returncode == 0
    config = json.loads(command_line("config", "--json", "--data-dir", folder).stdout)
    assert f"http://{config['HOURGLASS_HOST']}:{config['HOURGLASS_PORT']}" == url
    assert config["REDIS_URL"] == up.deployment().variables["REDIS_URL"]
    second = command_line("up", "--data-dir", folder)
    assert second.returncode == 1
    assert second.stderr == f"hourglass: a deployment already runs in {folder}; end it first\n"
    Redis.from_url(up.deployment().variables["REDIS_URL"]).config_set("maxmemory-policy", "allkeys-lru")
    assert command_line("doctor", "--data-dir", folder).returncode == 1


@pytest.mark.parametrize("name", ["api 1", "worker"])
def test_a_killed_child_is_replaced(start: Starter, name: str) -> None:
    up = start("--workers", "2")
    url = up.url()
    killed = up.deployment().processes[name]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: up.deployment().processes.get(name, killed) != killed, seconds=REPLACE_SECONDS)
    assert get(f"{url}/health/live") == 200
    assert f"{name} ended; starting another" in up.lines


@pytest.mark.parametrize("name", ["PostgreSQL", "Valkey"])
def test_a_killed_server_is_started_again(start: Starter, name: str) -> None:
    up = start("--workers", "1")
    url = up.url()
    killed = up.deployment().processes[name]
    os.kill(killed, signal.SIGKILL)
    eventually(lambda: up.deployment().processes.get(name, killed) != killed, seconds=15)
    eventually(lambda: is_ready(url), seconds=15)


def is_ready(url: str) -> bool:
    try:
        return get(f"{url}/health/ready") == 200
    except OSError:
        return False


def test_data_outlives_kill_9_of_everything(start: Starter) -> None:
    first = start("--workers", "1")
    first.url()
    before = first.deployment()
    Redis.from_url(before.variables["REDIS_URL"]).set("kept", 7)
    os.kill(first.pid, signal.SIGKILL)
    second = start("--workers", "1")
    second.url()
    after = second.deployment()
    assert after.supervisor == second.pid
    assert after.variables["HOURGLASS_JWT_SECRET"] == before.variables["HOURGLASS_JWT_SECRET"]
    assert Redis.from_url(after.variables["REDIS_URL"]).get("kept") == b"7"
    # Nobody of the first survived: its API and worker ended with it, its servers made way for new ones.
    eventually(lambda: not any(alive(pid) for pid in before.processes.values()), seconds=END_SECONDS)
    assert second.end() == 0


def test_a_port_in_use_is_one_line(start: Starter) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = start("--port", str(port))
        assert up.wait(START_SECONDS) == 1
    assert up.lines == [
        f"hourglass: port {port} on 127.0.0.1 is in use; choose another with --port (0 takes a free one)"
    ]


def test_a_wrong_setting_is_told_before_anything_starts(start: Starter) -> None:
    up = start(HOURGLASS_BUCKETS="many")
    assert up.wait(START_SECONDS) == 1
    assert [line.partition(" Input")[0] for line in up.lines] == ["hourglass: HOURGLASS_BUCKETS:"]
    assert not (up.folder / "postgres").exists()


def test_a_server_of_ones_own_that_does_not_answer_is_one_line(start: Starter) -> None:
    up = start(DATABASE_URL="postgresql://127.0.0.1:1/none", REDIS_URL="redis://127.0.0.1:1")
    assert up.wait(START_SECONDS) == 1
    assert up.lines[-1].startswith("hourglass: cannot use PostgreSQL (DATABASE_URL): ")
    assert not any("Traceback" in line for line in up.lines)


def test_ctrl_c_ends_it_too_and_twice_at_once(start: Starter) -> None:
    up = start("--workers", "1")
    up.url()
    assert up.end(signal.SIGINT) == 0
    up = start("--workers", "1")
    up.url()
    running = up.deployment()
    os.kill(running.processes["worker"], signal.SIGSTOP)  # it cannot end in order
    os.kill(up.pid, signal.SIGINT)
    up.wait_for("draining")
    os.kill(up.pid, signal.SIGINT)
    assert up.wait(5) == 0
    assert not any(alive(pid) for pid in running.processes.values())


def test_the_demo_household_watches_and_is_kept(start: Starter) -> None:
    up = start("--workers", "1", "--demo")
    up.url()
    up.wait_for("sign in:")
    credentials = up.wait_for("          demo-")
    up.wait_for("Mia: watching")
    assert up.wait_for("flush lag").endswith(" s")
    assert up.end() == 0
    assert not any("Traceback" in line for line in up.lines)
    again = start("--workers", "1", "--demo")
    again.url()
    assert again.wait_for("          demo-") == credentials
    again.wait_for("Mia: watching")
    assert again.end() == 0


def test_simulated_players_agree_with_what_was_counted(start: Starter) -> None:
    up = start("--workers", "2")
    up.url()
    result = command_line("simulate", "--viewers", "4", "--seconds", "5", "--data-dir", str(up.folder))
    assert result.returncode == 0, result.stdout + result.stderr
    assert up.end() == 0
