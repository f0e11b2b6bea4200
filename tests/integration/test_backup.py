"""A backup taken during playback and restored into empty servers: nothing lost, nothing doubled, sessions continue."""

import subprocess
import sys
import tarfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import httpx

from app.embedded.valkey import Valkey
from tests.deployed import ROOT, Deployed, free_port
from tests.servers import Databases, running_valkey

PASSWORD = "correct horse battery"
SLACK_SECONDS = 0.1
"""The service counts whole milliseconds of its own clock, session by session."""


class Players:
    """Children who watch until told to stop. They know how much is counted at ``least`` and at most, in seconds.

    A beat is counted between its sending and its answer. As players do, they send again what was refused with 503. Each
    other error ends them: ``failure``.
    """

    def __init__(self, url: str, token: str, *, children: int) -> None:
        self.url = url
        email = f"{uuid.uuid4().hex}@example.org"
        account = {"email": email, "password": PASSWORD, "timezone": "Europe/Oslo"}
        tokens = httpx.post(f"{url}/api/v1/auth/register", json=account).raise_for_status().json()
        self._player = {"Authorization": f"Bearer {tokens['access_token']}"}
        title = [{"id": "moon", "name": "Moon", "is_educational": False}]
        service = {"Authorization": f"Bearer {token}"}
        httpx.put(f"{url}/api/v1/catalog/titles", json=title, headers=service).raise_for_status()
        self.post("/parental-controls/pin", {"new_pin": "1234", "password": PASSWORD})
        unlock = self.post("/parental-controls/pin/verify", {"pin": "1234"})["pin_token"]
        more = {"X-PIN-Token": unlock}
        self.children = [self.post("/profiles", {"name": "Ada", "is_kids": True}, more)["id"] for _ in range(children)]
        self.least = dict.fromkeys(self.children, 0.0)
        self.failure: httpx.HTTPError | None = None
        self._sessions: dict[str, str] = {}
        self._began: dict[str, float] = {}
        self._counted_until: dict[str, float] = {}
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> Any:
        answer = httpx.post(
            f"{self.url}/api/v1{path}", json=body, headers={**self._player, **(headers or {})}, timeout=20
        )
        answer.raise_for_status()
        return answer.json()

    def used(self, child: str) -> float:
        answer = httpx.get(f"{self.url}/api/v1/viewing-time/balance/{child}", headers=self._player, timeout=20)
        return float(answer.raise_for_status().json()["used_seconds"])

    def most(self, child: str) -> float:
        return time.monotonic() - self._began[child]

    def beat(self, child: str) -> None:
        session = self._sessions.get(child)
        body = {"profile_id": child, "title_id": "moon", "device_id": "tv", "session_id": session}
        sent_at = time.monotonic()
        self._sessions[child] = self._insist("/viewing-time/heartbeat", body)["session_id"]
        if session is None:
            self._began.setdefault(child, sent_at)
            self._counted_until[child] = time.monotonic()
        else:
            self.least[child] += sent_at - self._counted_until[child]
            self._counted_until[child] = sent_at

    def end(self, child: str) -> None:
        """End a session; the next beat opens another one, and the time between is nobody's."""
        self._insist(f"/viewing-time/session/{self._sessions.pop(child)}/end", {})

    def _insist(self, path: str, body: Any) -> Any:
        while True:
            try:
                return self.post(path, body)
            except httpx.HTTPStatusError as error:
                if error.response.status_code != 503 or self._is_over.wait(0.1):
                    raise

    def __enter__(self) -> Self:
        for child in self.children:
            self.beat(child)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def flushed(self, postgres: Databases, database: str) -> bool:
        """Whether PostgreSQL has something of each child; raises what ended the watching."""
        if self.failure is not None:
            raise self.failure
        counted = "SELECT count(*) FROM viewing_time_balances WHERE used_ms > 0"
        return int(postgres.execute(counted, database=database)) == len(self.children)

    def _watch(self) -> None:
        try:
            self._take_turns()
        except httpx.HTTPError as error:
            self.failure = error

    def _take_turns(self) -> None:
        turn = 0
        while not self._is_over.wait(0.05):
            turn += 1
            for child in self.children:
                self.beat(child)
            if turn % 5 == 0:  # some end and begin anew, so that finished sessions are on their way all the time
                self.end(self.children[0])
                self.beat(self.children[0])


@contextmanager
def _service(folder: Path, database: str, redis: str) -> Iterator[tuple[Deployed, str]]:
    folder.mkdir()
    variables = {
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "HOURGLASS_FLUSH_CYCLE_SECONDS": "0.3",
        "HOURGLASS_FLUSH_AGE_SECONDS": "1",
        "HOURGLASS_MAX_BEATS_PER_SECOND": "0",
        "HOURGLASS_ACCESS_LOG": "0",
    }
    with Deployed(folder, variables) as deployed:
        deployed.hourglass("worker", "worker")
        yield deployed, deployed.api(free_port())


def _run(deployed: Deployed, *arguments: str | Path, code: int = 0) -> str:
    name = f"{arguments[0]}-{uuid.uuid4().hex[:6]}"
    deployed.start(name, sys.executable, "-m", "app.cli", *arguments)
    assert deployed.wait(name) == code, deployed.log(name)
    return deployed.log(name)


def test_what_is_restored_is_what_was_watched(postgres: Databases, valkey: Valkey, tmp_path: Path) -> None:
    file = tmp_path / "saved"
    database = postgres.fresh()
    with _service(tmp_path / "first", database, valkey.url) as (deployed, url):
        token = _run(deployed, "token", "--account", "catalogue", "--role", "service").strip().splitlines()[-1]
        with Players(url, token, children=4) as players:
            name = urlsplit(database).path.removeprefix("/")
            # Some of it is flushed then, and some is not, for they watch on.
            deployed.until(lambda: players.flushed(postgres, name), "everybody is flushed once")
            least = dict(players.least)
            _run(deployed, "backup", file)
            most = {child: players.most(child) for child in players.children}
        assert "exists already" in _run(deployed, "backup", file, code=1)
    assert file.stat().st_mode & 0o777 == 0o600
    with running_valkey() as other:
        empty = postgres.empty()
        (tmp_path / "second").mkdir()
        with Deployed(tmp_path / "second", {"DATABASE_URL": empty, "REDIS_URL": other.url}) as restoring:
            _damage_is_refused(restoring, file, tmp_path / "damaged")
            assert "restored" in _run(restoring, "restore", file)
            assert "not empty" in _run(restoring, "restore", file, code=1)
        with _service(tmp_path / "third", empty, other.url) as (deployed, url):
            players.url = url
            for child in players.children:
                assert least[child] - SLACK_SECONDS <= players.used(child) <= most[child] + SLACK_SECONDS
            for child in players.children[1:]:  # their sessions go on, and the gap is credited
                players.beat(child)
                players.beat(child)
                used = players.used(child)
                assert players.least[child] - SLACK_SECONDS <= used <= players.most(child) + SLACK_SECONDS
            players.post("/parental-controls/pin/verify", {"pin": "1234"})
            for child in players.children[1:]:
                players.end(child)
            deployed.until(
                lambda: " 0 days wait" in _reconciled(deployed),
                "everything is flushed and both sides agree",
                seconds=30,
            )


def _reconciled(deployed: Deployed) -> str:
    return _run(deployed, "reconcile")


def _damage_is_refused(deployed: Deployed, file: Path, damaged: Path) -> None:
    """Cut short, one bit changed in a table, a file of something else: refused, and nothing is written."""
    whole = file.read_bytes()
    with tarfile.open(file) as archive:
        names = archive.getnames()
    assert {"manifest.json", "unflushed", "accounts", "viewing_time_balances"} <= set(names)
    for content in (whole[: len(whole) // 2], b"", b"something else"):
        damaged.write_bytes(content)
        assert "backup" in _run(deployed, "restore", damaged, code=1)
    unpacked = damaged.with_suffix(".d")
    unpacked.mkdir()
    subprocess.run(["tar", "xzf", file, "-C", unpacked], check=True, cwd=ROOT)  # noqa: S603, S607  the system's tar
    accounts = unpacked / "accounts"
    flipped = bytearray(accounts.read_bytes())
    flipped[len(flipped) // 2] ^= 1
    accounts.write_bytes(flipped)
    subprocess.run(["tar", "czf", damaged, "-C", unpacked, *names], check=True, cwd=ROOT)  # noqa: S603, S607  likewise
    assert "damaged: accounts" in _run(deployed, "restore", damaged, code=1)
