"""An upgrade as docs/howto/upgrade.md has it: under load, two versions on one Redis and PostgreSQL, and back again.

The older code comes from the history of the repository. An sdist has none, and a shallow clone may lack it.
"""

import io
import itertools
import shutil
import subprocess
import tarfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from app.postgres_store.compatibility import known_revisions
from tests.deploy.test_nginx import NGINX, proxied
from tests.deployed import ROOT, Deployed, free_port, is_good
from tests.servers import Databases, running_postgres, running_valkey
from tests.watchers import Watcher, add_title, flushed_seconds, households, repeated, watching

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")

GIT = shutil.which("git")
OLDER_COMMIT, OLDER_SCHEMA = "473488bdb0c79e29daaf3460e01b509b4960c141", "0018"
"""The code before breaks and finished titles, and the newest migration that it knows."""
BEATS = 8
"""Beats of each child that are answered between two steps."""


def source_of(commit: str, folder: Path) -> Path:
    """The tree of a commit of ours."""
    if GIT is None or not (ROOT / ".git").exists():
        pytest.skip("NO UPGRADE IS TESTED: this is no clone of the repository, so there is no older code")
    if subprocess.run([GIT, "-C", ROOT, "cat-file", "-e", commit], capture_output=True, check=False).returncode:  # noqa: S603
        pytest.skip(f"NO UPGRADE IS TESTED: this clone is shallow and lacks {commit}; run git fetch --unshallow")
    packed = subprocess.run([GIT, "-C", ROOT, "archive", commit], capture_output=True, check=True).stdout  # noqa: S603
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


def migrate(deployed: Deployed) -> None:
    deployed.hourglass("migrate", "migrate")
    assert deployed.wait("migrate") == 0, deployed.log("migrate")


@dataclass
class Rollout:
    """A deployment of two API processes and a worker whose versions are changed one after the other."""

    deployed: Deployed
    ports: dict[str, int]
    watchers: list[Watcher]

    def start(self, name: str) -> None:
        if name in self.ports:
            self.deployed.api(self.ports[name], name)
        else:
            self.deployed.hourglass(name, "worker", HOURGLASS_WORKER_PORT=str(free_port()))

    def replace(self, *names: str, source: Path) -> None:
        """End each process and start its successor; everybody watches for a while after it."""
        self.deployed.source = source
        for name in names:
            assert self.deployed.stop(name) == 0, self.deployed.log(name)[-3000:]
            self.start(name)
            self.settle()

    def settle(self) -> None:
        goals = [watcher.answered + BEATS for watcher in self.watchers]
        self.deployed.until(
            lambda: all(watcher.answered >= goal for watcher, goal in zip(self.watchers, goals, strict=True)),
            f"everybody watches: {[watcher.refusals for watcher in self.watchers]}",
        )


def _use_what_is_new(url: str, service: str) -> list[str]:
    """Write rows that older code has never seen; the ids of the accounts."""
    with httpx.Client(base_url=f"{url}/api/v1", timeout=20, headers={"Authorization": f"Bearer {service}"}) as http:

        def ask(method: str, path: str, body: Any) -> Any:
            answer = http.request(method, path, json=body)
            assert answer.status_code < 400, (path, answer.text)
            return answer.json()

        made = []
        for _ in range(2):
            external = f"auth0|{uuid.uuid4().hex}"
            account = ask("PUT", f"/platform/accounts/{external}", {"timezone": "Europe/Oslo"})
            ask("PUT", f"/platform/accounts/{external}/profiles/kid-1", {"name": "Kit", "is_kids": True})
            ask("PATCH", f"/accounts/{external}/profiles/kid-1", {"enforcement": "shadow"})
            made.append(account["account_id"])
    return made


def _older_code_bears_it(deployed: Deployed, url: str, account: str, name: str) -> None:
    """What the new version has written makes no server error in the old one, and its children may watch."""
    bearer = {"Authorization": f"Bearer {deployed.token('parent', account=account)}"}
    with httpx.Client(base_url=f"{url}/api/v1", timeout=20, headers=bearer) as http:
        profiles = http.get("/profiles").raise_for_status().json()
        [child] = profiles if isinstance(profiles, list) else profiles["profiles"]
        beat = {"profile_id": child["id"], "title_id": "moon", "device_id": "tv-1"}
        assert http.post("/viewing-time/heartbeat", json=beat).status_code == 200
        control = f"/parental-controls/profiles/{child['id']}"
        for path in (
            f"{control}/viewing-time",
            f"{control}/history",
            f"{control}/export",
            f"/viewing-time/balance/{child['id']}",
            f"/viewing-time/why/{child['id']}",
            "/parental-controls/weekly-report",
            "/account",
            "/account/export",
            "/account/audit",
        ):
            assert http.get(path).status_code < 500, (path, deployed.log(name)[-3000:])


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Databases, str, Deployed]]:
    """PostgreSQL, an empty database on it, and a deployment on servers of its own."""
    with running_postgres() as postgres, running_valkey() as valkey:
        address = postgres.empty()
        variables = {
            "DATABASE_URL": address,
            "REDIS_URL": valkey.url,
            "HOURGLASS_DRAIN_SECONDS": "3",
            "HOURGLASS_ACCESS_LOG": "0",
            "HOURGLASS_ACCOUNT_REQUESTS_PER_MINUTE": "0",
            "HOURGLASS_TOKEN_REQUESTS_PER_MINUTE": "0",
            "HOURGLASS_FLUSH_CYCLE_SECONDS": "0.5",
            "HOURGLASS_FLUSH_AGE_SECONDS": "1",
            "HOURGLASS_METRICS_DIR": "",
            "PROMETHEUS_MULTIPROC_DIR": "",
        }
        with Deployed(tmp_path, variables) as deployed:
            yield postgres, address, deployed


def test_an_upgrade_under_load_and_back_again(servers: tuple[Databases, str, Deployed], tmp_path: Path) -> None:
    """No beat is refused, no parent notices, and PostgreSQL has what each child has watched, to the millisecond."""
    (postgres, address, deployed), old = servers, source_of(OLDER_COMMIT, tmp_path / "old")
    database = urlsplit(address).path.strip("/")
    deployed.source = old
    migrate(deployed)
    assert postgres.execute("SELECT version_num FROM alembic_version", database=database) == OLDER_SCHEMA
    rollout = Rollout(deployed, {"a": free_port(), "b": free_port()}, [])
    for name in ("a", "b", "worker"):
        rollout.start(name)
    with proxied(deployed, list(rollout.ports.values())) as url:
        service = deployed.token("service")
        add_title(url, service)
        with households(url, 4) as [parent, *others]:
            rollout.watchers += [Watcher(home, pause_seconds=0.2) for home in others]
            limits = itertools.cycle(range(60, 480, 15))
            with (
                watching(rollout.watchers),
                repeated(lambda: parent.limit(next(limits)), pause_seconds=1) as cared,
            ):
                rollout.settle()
                deployed.source = ROOT
                migrate(deployed)
                rollout.settle()
                rollout.replace("a", "worker", "b", source=ROOT)
                newcomers = _use_what_is_new(url, service)
                rollout.replace("b", "worker", "a", source=old)  # back again
                for name, account in zip(("a", "b"), newcomers, strict=True):
                    _older_code_bears_it(deployed, f"http://127.0.0.1:{rollout.ports[name]}", account, name)
                with households(url, 1):
                    deployed.until(lambda: is_good(f"{url}/health/ready"), "newcomers are welcome")
                migrate(deployed)  # by the older code: the newer schema stays
    assert set(cared) == {"done"}, cared
    assert deployed.stop("worker") == 0, "it flushes the rest"
    for watcher in rollout.watchers:
        watcher.assert_counted(flushed_seconds(postgres, database, watcher.home.child))
    deployed.source = ROOT
    deployed.hourglass("reconcile", "reconcile")
    assert deployed.wait("reconcile") == 0, deployed.log("reconcile")
    assert postgres.execute("SELECT count(*) FROM parked_rows", database=database) == "0"
    assert postgres.execute("SELECT version_num FROM alembic_version", database=database) == known_revisions()[-1]


def test_older_code_refuses_a_schema_that_no_longer_supports_it(
    servers: tuple[Databases, str, Deployed], tmp_path: Path
) -> None:
    """A contracting migration would say so in ``compatible_from``; code before it then ends with one line."""
    (postgres, address, deployed), old = servers, source_of(OLDER_COMMIT, tmp_path / "old")
    database = urlsplit(address).path.strip("/")
    migrate(deployed)
    deployed.source = old
    after = known_revisions()[known_revisions().index(OLDER_SCHEMA) + 1]
    postgres.execute(f"UPDATE schema_compatibility SET compatible_from = '{after}'", database=database)  # noqa: S608
    for name, command in (("a", "api"), ("worker", "worker"), ("migrate", "migrate")):
        (deployed.folder / f"{name}.log").unlink(missing_ok=True)
        deployed.hourglass(name, command)
        assert deployed.wait(name) == 1, deployed.log(name)
        said = [line for line in deployed.log(name).splitlines() if "too new for this version" in line]
        assert len(said) == 1, deployed.log(name)
        assert "Traceback" not in deployed.log(name)
