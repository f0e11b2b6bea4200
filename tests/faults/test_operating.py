"""API and worker in separate processes: metrics, logs, and a shutdown that fails no request."""

import contextlib
import http.client
import json
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Self

import psutil  # type: ignore[import-untyped]  # no stubs
import pytest
from prometheus_client.parser import text_string_to_metric_families

from app.deployment.listening import is_ready
from app.embedded.secrets import development_secrets
from app.embedded.system import wait_until
from app.embedded.valkey import Valkey
from app.settings.settings import variable_of
from tests.faults.services import ROOT, Run, free_port, started, surroundings
from tests.servers import Databases, reachable_folder

SECONDS = 60.0
FLUSHING = {"hourglass_flush_lag_seconds", "hourglass_unflushed", "hourglass_flushed_entries", "hourglass_job_failures"}


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as found:
        yield found


@pytest.fixture
def variables(postgres: Databases, valkey: Valkey, folder: Path) -> dict[str, str]:
    """The environment of API and worker; every process gets ports of its own."""
    secrets = {variable_of(name): value for name, value in development_secrets(folder).items()}
    return {**surroundings(), **secrets, "DATABASE_URL": postgres.fresh(), "REDIS_URL": valkey.url}


@contextlib.contextmanager
def api(folder: Path, variables: Mapping[str, str], **settings: str) -> Iterator[tuple[Run, int]]:
    """An API that is ready, and its port."""
    port = free_port()
    with started(folder, {**variables, "HOURGLASS_PORT": str(port), **settings}, "api") as run:
        assert wait_until(lambda: is_ready("127.0.0.1", port), seconds=SECONDS), run.lines
        yield run, port


def get(url: str) -> tuple[int, str]:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  http, our own
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as refusal:
        return refusal.code, refusal.read().decode()


def metrics_at(port: int) -> dict[str, list[float]]:
    """The samples of each family."""
    status, text = get(f"http://127.0.0.1:{port}/metrics")
    assert status == 200, text
    return {family.name: [sample.value for sample in family.samples] for family in text_string_to_metric_families(text)}


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("has_folder", [False, True])
def test_an_api_says_what_all_its_processes_know_and_nothing_of_the_flush(
    folder: Path, variables: dict[str, str], workers: str, *, has_folder: bool
) -> None:
    settings = {"HOURGLASS_METRICS_DIR": str(folder / "metrics")} if has_folder else {}
    with api(folder, variables, HOURGLASS_WORKERS=workers, **settings) as (run, port):
        processes = [run.process.pid, *(child.pid for child in psutil.Process(run.process.pid).children())]
        assert len(processes) >= int(workers)
        scrapes = [metrics_at(port) for _ in range(20)]  # whichever process answers
        assert all(FLUSHING.isdisjoint(found) for found in scrapes)
        # A counter that falls would be that of another process: each scrape sums all of them.
        looks = [found["hourglass_event_loop_lag_seconds"][-2] for found in scrapes]
        assert looks == sorted(looks)
        assert all(found["hourglass_heartbeats"][0] == 0 for found in scrapes)


def test_a_worker_says_what_it_knows_and_nothing_of_heartbeats(folder: Path, variables: dict[str, str]) -> None:
    port = free_port()
    with started(folder, {**variables, "HOURGLASS_WORKER_PORT": str(port)}, "worker") as run:
        assert wait_until(lambda: run.count("worker_ready") == 1, seconds=SECONDS), run.lines
        found = metrics_at(port)
        assert set(found) >= FLUSHING | {"hourglass_job_last_success_age_seconds", "hourglass_job_overdue"}
        assert "hourglass_heartbeats" not in found
        base = f"http://127.0.0.1:{port}/health"
        assert [get(f"{base}/{probe}")[0] for probe in ("live", "startup", "ready")] == [200, 200, 200]
        assert wait_until(lambda: json.loads(get(f"{base}/ready")[1])["status"] == "up", seconds=SECONDS)
        assert get(f"http://127.0.0.1:{port}/anything")[0] == 404


def test_a_worker_without_a_database_lives_but_is_not_ready(folder: Path, variables: dict[str, str]) -> None:
    port = free_port()
    away = {"HOURGLASS_WORKER_PORT": str(port), "DATABASE_URL": "postgresql://127.0.0.1:1/none"}
    with started(folder, {**variables, **away}, "worker") as run:
        base = f"http://127.0.0.1:{port}"
        assert wait_until(lambda: _answers(f"{base}/health/live"), seconds=SECONDS), run.lines
        assert [get(f"{base}/health/{probe}")[0] for probe in ("startup", "ready")] == [503, 503]
        assert "hourglass_flush_lag_seconds" not in metrics_at(port)


def _answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        return get(url)[0] == 200
    return False


def test_every_line_of_every_service_is_one_json_object(folder: Path, variables: dict[str, str]) -> None:
    """Also warnings, tracebacks, and what is said when a process dies or a server goes away."""
    failing = {**variables, "PYTHONWARNINGS": "default", "PYTHONASYNCIODEBUG": "1"}
    with (
        api(folder, failing, HOURGLASS_WORKERS="2") as (serving, port),
        started(folder, failing, "worker") as working,
    ):
        assert wait_until(lambda: working.count("worker_ready") == 1, seconds=SECONDS), working.lines
        [first, *_] = psutil.Process(serving.process.pid).children()
        first.kill()
        assert wait_until(lambda: serving.count("process_restarted") == 1, seconds=SECONDS), serving.lines
        assert wait_until(lambda: is_ready("127.0.0.1", port), seconds=SECONDS)
        for run in (serving, working):
            run.process.terminate()
            assert run.ended() == 0, run.lines
    for run in (serving, working):
        assert run.lines
        assert all({"event", "level", "timestamp"} <= set(event) for event in run.events), run.lines


def test_up_says_everything_as_json_when_asked_to(folder: Path, variables: dict[str, str]) -> None:
    wanted = {**variables, "HOURGLASS_LOG_FORMAT": "json", "HOURGLASS_WORKERS": "1"}
    with started(folder, wanted, "up", "--port", "0", f"--data-dir={folder / 'data'}") as run:
        assert wait_until(lambda: any("ready: http" in line for line in run.lines), seconds=SECONDS), run.lines
        run.process.terminate()
        assert run.ended() == 0, run.lines
    assert all("event" in event for event in run.events)


def test_a_traceback_is_one_line(folder: Path) -> None:
    """Of a process, a thread and a task; of a library, and of a warning."""
    program = """
import asyncio, logging, sys, threading, warnings
from app.observability.logs import configure_logs, log_the_uncaught
configure_logs("INFO"); log_the_uncaught()
warnings.warn("look", UserWarning)
logging.getLogger("apscheduler").error("job failed", exc_info=ValueError("first\\nsecond"))
thread = threading.Thread(target=lambda: 1 / 0); thread.start(); thread.join()
async def fails(): raise KeyError("lost")
async def main():
    task = asyncio.get_running_loop().create_task(fails()); await asyncio.sleep(0.1); del task
    import gc; gc.collect()
asyncio.run(main())
raise RuntimeError("the end")
"""
    (folder / "program.py").write_text(program, encoding="utf-8")
    ended = subprocess.run(  # noqa: S603  ourselves
        [sys.executable, str(folder / "program.py")],
        env={**surroundings(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 1
    events = [json.loads(line) for line in ended.stderr.splitlines()]
    assert len(events) == 5, ended.stderr
    assert [event["level"] for event in events] == ["warning", "error", "critical", "error", "critical"]
    told = [event.get("exception", "") for event in events]
    assert [last.rpartition("\n")[2].partition(":")[0] for last in told[2:]] == [
        "ZeroDivisionError",
        "KeyError",
        "RuntimeError",
    ]


class Clients:
    """Keep-alive clients behind a balancer that looks at readiness, as Kubernetes or nginx do."""

    def __init__(self, ports: list[int], *, count: int) -> None:
        self._ready = list(ports)
        self._ports = ports
        self._stop = threading.Event()
        self.answers: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._look)]
        self._threads += [threading.Thread(target=self._ask, args=(number,)) for number in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _look(self) -> None:
        while not self._stop.wait(0.1):
            self._ready = [port for port in self._ports if is_ready("127.0.0.1", port)]

    def _ask(self, number: int) -> None:
        """One client: a connection as long as it lasts, then another to whoever is ready."""
        connection, asked = None, 0
        while not self._stop.is_set():
            try:
                if connection is None:
                    ready = self._ready or self._ports
                    connection = http.client.HTTPConnection("127.0.0.1", ready[number % len(ready)], timeout=5)
                connection.request("GET" if asked % 2 else "POST", *_request_of(asked))
                answer = connection.getresponse()
                answer.read()
                self.answers[str(answer.status)] += 1
                if answer.getheader("Connection") == "close":
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.answers[type(error).__name__] += 1
                connection = None
            asked += 1
            time.sleep(0.01)
        if connection is not None:
            connection.close()


def _request_of(asked: int) -> tuple[str, bytes | None, dict[str, str]]:
    """By turns a heartbeat, which goes the short way, and a page of the framework's."""
    if asked % 2:
        return "/health/live", None, {}
    return "/api/v1/viewing-time/heartbeat", b"{}", {"Content-Type": "application/json"}


def test_an_end_under_load_fails_no_request(folder: Path, variables: dict[str, str]) -> None:
    settings = {"HOURGLASS_DRAIN_SECONDS": "3", "HOURGLASS_WORKERS": "1"}
    with api(folder, variables, **settings) as (ending, port), api(folder, variables, **settings) as (_, other):
        with Clients([port, other], count=8) as clients:
            assert wait_until(lambda: clients.answers.total() > 200, seconds=30)
            ending.process.terminate()
            assert wait_until(lambda: get(f"http://127.0.0.1:{port}/health/ready")[0] == 503, seconds=2)
            assert get(f"http://127.0.0.1:{port}/health/live")[0] == 200, "it still answers"
            readiness = json.loads(get(f"http://127.0.0.1:{port}/health/ready")[1])
            assert readiness["is_draining"] is True
            assert ending.ended() == 0
            enough = clients.answers.total() + 200
            assert wait_until(lambda: clients.answers.total() > enough, seconds=30)
        assert set(clients.answers) == {"200", "401"}, clients.answers
        assert min(clients.answers.values()) > 100


def test_without_a_pause_it_ends_at_once(folder: Path, variables: dict[str, str]) -> None:
    with api(folder, variables, HOURGLASS_WORKERS="2") as (run, port):
        assert run.ports == [port]
        began = time.monotonic()
        run.process.terminate()
        assert run.ended() == 0
        assert time.monotonic() - began < 5
