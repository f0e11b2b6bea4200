"""Children that watch over HTTP while a test restarts, replaces or breaks what answers them.

Each child has a household of its own, made over the API. Everything that is not an answer 200 is kept as a refusal.
"""

import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx

from tests.scenes.players import CLOCKS_APART_SECONDS
from tests.servers import Databases

PASSWORD = "correct horse battery"
PIN = "1234"
TITLE = "moon"


def add_title(url: str, service_token: str) -> None:
    """Add the title that everybody watches."""
    titles = [{"id": TITLE, "name": "Moon", "is_educational": False}]
    headers = {"Authorization": f"Bearer {service_token}"}
    httpx.put(f"{url}/api/v1/catalog/titles", json=titles, headers=headers, timeout=20).raise_for_status()


class Household:
    """A household with one child.

    Args:
        url: of the service or of a proxy.
    """

    def __init__(self, url: str) -> None:
        self.http = httpx.Client(base_url=f"{url}/api/v1", timeout=20)
        self.email = f"{uuid.uuid4().hex}@example.org"
        account = {"email": self.email, "password": PASSWORD, "timezone": "Europe/Oslo"}
        made = self.call("POST", "/auth/register", json=account)
        self.account_id: str = made["account_id"]
        self.refresh_token: str = made.get("refresh_token", "")
        self.player = {"Authorization": f"Bearer {made['access_token']}"}
        self.call("POST", "/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD}, headers=self.player)
        self.parent = dict(self.player)
        self.unlock()
        self.child: str = self.call("POST", "/profiles", json={"name": "Ada", "is_kids": True}, headers=self.parent)[
            "id"
        ]

    @property
    def controls(self) -> str:
        return f"/parental-controls/profiles/{self.child}"

    def unlock(self) -> None:
        """Enter the PIN."""
        verified = self.call("POST", "/parental-controls/pin/verify", json={"pin": PIN}, headers=self.player)
        self.parent = {**self.player, "X-PIN-Token": verified["pin_token"]}

    def sign_in(self) -> None:
        """Sign in with the password; calls from now on use the new token."""
        made = self.call("POST", "/auth/login", json={"email": self.email, "password": PASSWORD})
        self.refresh_token = made["refresh_token"]
        self.player = {"Authorization": f"Bearer {made['access_token']}"}

    def refresh(self) -> None:
        """Exchange the refresh token; calls from now on use the new token."""
        made = self.call("POST", "/auth/refresh", json={"refresh_token": self.refresh_token})
        self.refresh_token = made["refresh_token"]
        self.player = {"Authorization": f"Bearer {made['access_token']}"}

    def limit(self, minutes: int) -> None:
        """Change the limit of every day."""
        headers = self.parent
        config = self.http.get(f"{self.controls}/viewing-time", headers=headers).raise_for_status()
        change = {"weekday_limit_minutes": minutes, "weekend_limit_minutes": minutes}
        headers = {**headers, "If-Match": config.headers["ETag"]}
        self.call("PUT", f"{self.controls}/viewing-time", json=change, headers=headers)

    def call(self, method: str, path: str, **options: Any) -> Any:
        """The content of a good answer; everything else is an error."""
        answer = self.http.request(method, path, **options)
        assert answer.status_code < 400, (method, path, answer.status_code, answer.text)
        return answer.json() if answer.content else None


@contextmanager
def households(url: str, count: int) -> Iterator[list[Household]]:
    """So many households; their connections are closed after the block."""
    with ExitStack() as stack:
        homes = []
        for _ in range(count):
            homes.append(Household(url))
            stack.callback(homes[-1].http.close)
        yield homes


class Watcher:
    """Watches as its child until told to stop. Instants are monotonic seconds.

    ``refusals`` are all answers but 200, and broken connections. ``decisions`` are what the player was told to do.
    """

    def __init__(self, home: Household, *, pause_seconds: float = 0.12) -> None:
        self.home = home
        self.answered = 0
        self.used_seconds = -1.0
        self.falls = 0
        self.sessions: set[str] = set()
        self.refusals: Counter[str] = Counter()
        self.decisions: Counter[str] = Counter()
        self._session: str | None = None
        self._pause_seconds = pause_seconds
        self._first_sent_at = self._first_answered_at = self._last_sent_at = self._last_answered_at = 0.0

    def watch(self, is_over: threading.Event) -> None:
        self._first_sent_at = time.monotonic()
        while True:
            self._beat()
            if is_over.wait(self._pause_seconds):
                return

    def _beat(self) -> None:
        sent_at = time.monotonic()
        beat = {"profile_id": self.home.child, "title_id": TITLE, "device_id": "tv-1"}
        if self._session is not None:
            beat["session_id"] = self._session
        try:
            answer = self.home.http.post("/viewing-time/heartbeat", json=beat, headers=self.home.player)
        except httpx.HTTPError as error:
            self.refusals[type(error).__name__] += 1
            return
        if answer.status_code != 200:
            self.refusals[f"{answer.status_code} {answer.text}"] += 1
            return
        told = answer.json()
        if not self.answered:
            self._first_answered_at = time.monotonic()
        self._last_sent_at, self._last_answered_at = sent_at, time.monotonic()
        self._session = told["session_id"]
        self.sessions.add(told["session_id"])
        self.falls += told["used_seconds"] < self.used_seconds
        self.used_seconds = told["used_seconds"]
        self.decisions[told["enforcement"]] += 1
        self.answered += 1

    def assert_counted(self, flushed_seconds: float) -> None:
        """One session, never refused, and PostgreSQL has what the player watched: nothing lost, nothing doubled."""
        assert not self.refusals, self.refusals
        assert len(self.sessions) == 1
        assert self.falls == 0
        least = self._last_sent_at - self._first_answered_at - CLOCKS_APART_SECONDS
        most = self._last_answered_at - self._first_sent_at + CLOCKS_APART_SECONDS
        assert least <= self.used_seconds <= most
        assert abs(flushed_seconds - self.used_seconds) < 0.001, "the ledger is what the player was told"


@contextmanager
def watching(watchers: list[Watcher]) -> Iterator[None]:
    """All of them watch during the block."""
    is_over = threading.Event()
    threads = [threading.Thread(target=watcher.watch, args=(is_over,)) for watcher in watchers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        is_over.set()
        for thread in threads:
            thread.join()


@contextmanager
def repeated(action: Callable[[], None], *, pause_seconds: float = 0.3) -> Iterator[Counter[str]]:
    """Do something again and again during the block; what went wrong, and ``done``."""
    is_over, seen = threading.Event(), Counter[str]()

    def run() -> None:
        while not is_over.wait(pause_seconds):
            try:
                action()
                seen["done"] += 1
            except (AssertionError, httpx.HTTPError) as error:
                seen[repr(error)] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield seen
    finally:
        is_over.set()
        thread.join()


def flushed_seconds(postgres: Databases, database: str, child: str) -> float:
    """What PostgreSQL knows of a child, over all days."""
    query = f"SELECT COALESCE(sum(used_ms), 0) FROM viewing_time_balances WHERE profile_id = '{child}'"  # noqa: S608
    return int(postgres.execute(query, database=database)) / 1000
