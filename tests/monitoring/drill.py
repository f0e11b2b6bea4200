"""What a fire drill needs: a Prometheus, a household that never rests, and faults with an end."""

import contextlib
import json
import signal
import socket
import threading
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import httpx
import yaml
from redis import Redis
from redis.exceptions import RedisError

from app.embedded.server import ServerFailed
from app.redis_store.keys import Keys
from scripts import monitoring
from tests.deployed import Deployed, free_port, is_good
from tests.servers import Databases
from tests.watchers import TITLE, Household

PROMETHEUS = Path("/usr/bin/prometheus")
QUICK = monitoring.Timing(scale=1 / 240, limit_scale=1 / 20, least_seconds=3.0, slow_seconds=1.0)
FASTEST = f"{max(burn.factor for burn in monitoring.BURNS):g}x"
POOL = 2
BUCKETS = 1
"""The check of accuracy looks at one bucket for ten minutes."""
DESCRIPTORS = 300
"""So many files may the API have open: about a hundred of them connections of clients."""


class Prometheus:
    """What Prometheus knows."""

    def __init__(self, url: str) -> None:
        self.url = url

    def query(self, expression: str) -> list[dict[str, Any]]:
        asked = urllib.parse.urlencode({"query": expression})
        with urllib.request.urlopen(f"{self.url}/api/v1/query?{asked}", timeout=30) as answer:  # noqa: S310  ours
            found: list[dict[str, Any]] = json.load(answer)["data"]["result"]
            return found

    def firing(self) -> set[str]:
        """The alerts that fire; of objectives those with the shortest windows, for the others clear hours later."""
        return {
            series["metric"]["alertname"]
            for series in self.query('ALERTS{alertstate="firing"}')
            if series["metric"].get("burn", FASTEST) == FASTEST
        }


def prometheus_of(deployed: Deployed, **ports: int) -> Prometheus:
    """A Prometheus that scrapes the service twice a second, with our rules and shorter durations."""
    folder = deployed.folder / "prometheus"
    folder.mkdir()
    (folder / "rules.yml").write_text(yaml.safe_dump(monitoring.rules(QUICK)), encoding="utf-8")
    scraped = [
        {"job_name": f"hourglass-{name}", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]}
        for name, port in ports.items()
    ]
    config = {
        "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
        "rule_files": [str(folder / "rules.yml")],
        "scrape_configs": scraped,
    }
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config), encoding="utf-8")
    port = free_port()
    deployed.start(
        "prometheus",
        PROMETHEUS,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
    )
    url = f"http://127.0.0.1:{port}"
    deployed.until(lambda: is_good(f"{url}/-/ready"), "Prometheus is ready")
    return Prometheus(url)


class WatchingFamily:
    """A household whose children watch, and whose parents do what parents do, until told to stop.

    One more child has been asked for and watches nothing. Somebody else's household is there to be guessed at.
    """

    def __init__(self, url: str) -> None:
        self._parents = httpx.Client(base_url=f"{url}/api/v1", timeout=30)
        self._home, self._victim = Household(url), Household(url)
        self.children = [self._profile(is_kids=True) for _ in range(3)]
        self._adult, self._resting = self._profile(is_kids=False), self._profile(is_kids=True)
        self._sessions: dict[str, str] = {}
        self._is_over = threading.Event()
        self._threads = [threading.Thread(target=self._watch), threading.Thread(target=self._care)]

    def _profile(self, *, is_kids: bool) -> str:
        body = {"name": "Ada", "is_kids": is_kids}
        return str(self._home.call("POST", "/profiles", json=body, headers=self._home.parent)["id"])

    def __enter__(self) -> Self:
        self.ask_for_the_resting_child()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        for thread in self._threads:
            thread.join()
        self._parents.close()
        self._home.http.close()
        self._victim.http.close()

    def guess(self) -> None:
        """A wrong PIN of the other household."""
        self._victim.http.post("/parental-controls/pin/verify", json={"pin": "0000"}, headers=self._victim.player)

    def ask_for_the_resting_child(self) -> None:
        self._parents.get(f"/viewing-time/balance/{self._resting}", headers=self._home.player)

    def forget_the_resting_child(self, redis: Redis) -> None:
        """Remove the shared copy of its policy."""
        redis.delete(Keys(BUCKETS).policy(self._resting))

    def change_settings(self) -> None:
        """As its parents do all the time; also as many more parents at once."""
        path = f"/parental-controls/profiles/{self.children[0]}/viewing-time"
        config = self._parents.get(path, headers=self._home.parent)
        if config.status_code == 200:
            headers = {**self._home.parent, "If-Match": config.headers["ETag"]}
            self._parents.put(path, json={"warning_minutes": [10, 5]}, headers=headers)

    def _watch(self) -> None:
        while not self._is_over.wait(0.05):
            for profile in (*self.children, self._adult):
                with contextlib.suppress(httpx.HTTPError):
                    self._beat(profile)

    def _beat(self, profile: str) -> None:
        beat = {
            "profile_id": profile,
            "title_id": TITLE,
            "device_id": "tv-1",
            "session_id": self._sessions.get(profile),
        }
        if profile in self._sessions:
            beat["session_id"] = self._sessions[profile]
        answer = self._home.http.post("/viewing-time/heartbeat", json=beat, headers=self._home.player)
        if answer.status_code == 200:
            self._sessions[profile] = answer.json()["session_id"]
        elif answer.status_code == 409:
            del self._sessions[profile]

    def _care(self) -> None:
        while not self._is_over.wait(0.5):
            with contextlib.suppress(httpx.HTTPError):
                self.change_settings()


@contextmanager
def again_and_again(action: Callable[[], object], *, at_once: int = 1, pause_seconds: float = 0.0) -> Iterator[None]:
    """Do something all the time during the block; what fails is tried again."""
    is_over = threading.Event()

    def run() -> None:
        while not is_over.wait(pause_seconds):
            with contextlib.suppress(httpx.HTTPError, RedisError, OSError):
                action()

    threads = [threading.Thread(target=run) for _ in range(at_once)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@contextmanager
def locked(postgres: Databases, database: str, table: str) -> Iterator[None]:
    """Nobody writes to a table meanwhile."""

    def hold() -> None:
        with contextlib.suppress(ServerFailed):  # it is ended from outside
            postgres.execute(f"LOCK TABLE {table} IN EXCLUSIVE MODE; SELECT pg_sleep(300)", database=database)

    holding = threading.Thread(target=hold)
    holding.start()
    yield
    postgres.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query LIKE 'LOCK TABLE%'")
    holding.join()


@contextmanager
def too_many_connections(port: int) -> Iterator[None]:
    """More clients than the API has descriptors for."""
    with contextlib.ExitStack() as stack:
        for _ in range(DESCRIPTORS):
            with contextlib.suppress(OSError):
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5))
        yield


def freeze(deployed: Deployed, name: str) -> None:
    """Keep a process from running for a third of a second."""
    deployed.signal(name, signal.SIGSTOP)
    time.sleep(0.36)
    deployed.signal(name, signal.SIGCONT)
    time.sleep(0.4)


def stand_still(redis: Redis) -> None:
    """Let Redis do nothing for a while; between two such pauses it answers who waits."""
    redis.execute_command("DEBUG", "SLEEP", "1.4")  # type: ignore[no-untyped-call]
