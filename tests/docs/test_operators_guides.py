"""What operators do, run from the pages' own text on one host: deploy, monitor, debug, back up, upgrade, restore.

The host has real servers and real processes. Two programs stand in for systemd, which no test can have: `systemctl`
starts and ends the commands of the units in deploy/systemd, `journalctl` shows their logs.
"""

import json
import re
import shutil
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.deployed import SECRETS, free_port
from tests.docs import units
from tests.docs.guides import DOCS, ROOT, run_script, script_of
from tests.servers import Databases, reachable_folder, running_postgres, running_valkey

HOWTO = DOCS / "howto"
NEEDED = ("psql", "createdb", "jq", "curl", "openssl")
pytestmark = pytest.mark.skipif(not all(map(shutil.which, NEEDED)), reason=f"needs {', '.join(NEEDED)}")


@dataclass
class Host:
    """A machine after deploy.md was followed on it."""

    folder: Path
    postgres: Databases
    variables: dict[str, str]
    ports: tuple[int, int]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def run(self, page: str, *names: str, **variables: str) -> dict[str, str]:
        """Run blocks of a page, with the ports and folders of this host in place of those of the page."""
        script = script_of(HOWTO / page, *names)
        for ours, theirs in zip(self.ports, ("8000", "8001"), strict=True):
            script = script.replace(theirs, str(ours))
        for folder in ("/etc/systemd/system", "/etc/hourglass", "/backups"):
            script = script.replace(folder, f"{self.folder}{folder}")
        return run_script(script, {**self.variables, **variables}, folder=self.folder)

    def pids(self) -> dict[str, str]:
        return {file.stem: file.read_text(encoding="utf-8") for file in self.folder.glob("*.pid")}


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with reachable_folder() as folder, running_postgres() as postgres, running_valkey() as valkey:
        programs = folder / "programs"
        for made in (programs, folder / "etc/systemd/system", folder / "backups"):
            made.mkdir(parents=True)
        (folder / "deploy").symlink_to(ROOT / "deploy")
        for name, does in (
            ("systemctl", f'cd {ROOT} && exec {sys.executable} -m tests.docs.units "$@"'),
            ("journalctl", f"exec cat {folder}/hourglass-*.log"),
        ):
            (programs / name).write_text(f"#!/bin/sh\n{does}\n", encoding="utf-8")
            (programs / name).chmod(0o755)
        variables = {
            **SECRETS,
            "DATABASE_URL": postgres.fresh(),
            "REDIS_URL": valkey.url,
            "HOURGLASS_BCRYPT_COST": "4",
            "HOURGLASS_DRAIN_SECONDS": "1",
            "HOURGLASS_ACCESS_LOG": "1",
            "HOST": str(folder),
            "PROGRAMS": str(programs),
        }
        for name in ("database_url", "redis_url", "migrate_database_url"):
            (folder / name).write_text(variables.get(name.upper(), variables["DATABASE_URL"]), encoding="utf-8")
        found = Host(folder, postgres, variables, (free_port(), free_port()))
        try:
            yield found
        finally:
            for unit in found.pids():
                units.stop(folder, unit)


@pytest.fixture(scope="module")
def deployed(host: Host) -> Host:
    parts = host.run("deploy.md", "secrets", "systemd", "ready")
    assert json.loads(parts["ready"])["status"] == "up"
    return host


@dataclass
class WatchingChild:
    """A child that watches."""

    account: str
    child: str
    request: str
    beat: dict[str, str]
    token: str


@pytest.fixture(scope="module")
def family(deployed: Host) -> WatchingChild:
    """A household whose child has sent a heartbeat, and an answer that had a problem."""
    parts = deployed.run("gateway.md", "token", "family", "beats", HOURGLASS_API=f"{deployed.url}/api/v1")
    assert "title_unknown" in parts["beats"]
    with httpx.Client(base_url=f"{deployed.url}/api/v1") as http:
        email = {"email": f"{uuid.uuid4().hex}@example.org", "password": "a long password"}
        home = http.post("/auth/register", json={**email, "timezone": "Europe/Oslo"}).raise_for_status().json()
        http.headers["Authorization"] = f"Bearer {home['access_token']}"
        http.post("/parental-controls/pin", json={"new_pin": "4711", "password": "a long password"}).raise_for_status()
        unlock = http.post("/parental-controls/pin/verify", json={"pin": "4711"}).json()["pin_token"]
        child = http.post("/profiles", json={"name": "Ada", "is_kids": True}, headers={"X-PIN-Token": unlock}).json()
        beat = {"profile_id": child["id"], "title_id": "moon-pirates", "device_id": "tv"}
        opened = http.post("/viewing-time/heartbeat", json=beat).raise_for_status().json()
        refused = http.get("/viewing-time/balance/nobody")
        assert refused.status_code == 403
    beat["session_id"] = opened["session_id"]
    return WatchingChild(home["account_id"], child["id"], refused.headers["X-Request-ID"], beat, home["access_token"])


def test_the_secrets_of_the_page_are_random_and_private(deployed: Host) -> None:
    secrets = {name: (deployed.folder / name).read_text(encoding="utf-8") for name in ("jwt_secret", "pin_pepper")}
    assert len(set(secrets.values())) == len(secrets)
    assert all(re.fullmatch(r"[0-9a-f]{64}\n", secret) for secret in secrets.values())
    stored = deployed.folder / "etc/hourglass/secrets/jwt_secret"
    assert stored.stat().st_mode & 0o777 == 0o600


def test_a_family_is_found_in_the_log_and_explained(deployed: Host, family: WatchingChild) -> None:
    here = {"account": family.account, "child": family.child, "request": family.request}
    parts = deployed.run("debug.md", **here, api=f"{deployed.url}/api/v1")
    lines = [json.loads(line) for line in parts["log"].splitlines() if line]
    assert {line["account_id"] for line in lines} == {family.account}
    assert family.request in {line["request_id"] for line in lines}
    assert json.loads(parts["why"])["session"]["title_id"] == "moon-pirates"
    assert "DATABASE_URL=" in parts["start"]
    assert SECRETS["HOURGLASS_JWT_SECRET"] not in parts["start"]
    assert re.search(r"\(\d+ rows?\)", parts["activity"])


def test_metrics_and_the_state_of_the_flush_are_served(deployed: Host, family: WatchingChild) -> None:
    assert family.child
    assert re.search(r"^hourglass_heartbeats_total\S* [1-9]", deployed.run("monitor.md")["metrics"], re.MULTILINE)
    assert json.loads(deployed.run("operate.md")["flush"])["dead_letters"] == 0
    assert "16,667" in deployed.run("scale.md")["size"]


def test_an_upgrade_replaces_every_process_and_a_restore_brings_all_back(deployed: Host, family: WatchingChild) -> None:
    backed_up = deployed.run("back-up.md", "backup")
    assert "written: " in backed_up["backup"]
    before = deployed.pids()
    parts = deployed.run("upgrade.md")
    assert set(parts) == {"prepare", "migrate", "restart", "worker", "look"}
    after = deployed.pids()
    assert set(after) == set(before)
    assert all(after[unit] != before[unit] for unit in before)
    api = f"{deployed.url}/api/v1/viewing-time/heartbeat"
    answer = httpx.post(api, json=family.beat, headers={"Authorization": f"Bearer {family.token}"})
    assert answer.raise_for_status().json()["session_id"] == family.beat["session_id"]
    deployed.postgres.execute("DROP DATABASE hourglass")  # ours comes with one; the page makes its own
    with running_valkey() as empty:
        access = {"PGHOST": str(deployed.postgres.folder), "PGUSER": "postgres"}
        address = deployed.postgres.url_of("hourglass")
        restored = deployed.run("back-up.md", "restore", DATABASE_URL=address, REDIS_URL=empty.url, **access)
    assert "restored" in restored["restore"]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed")
def test_the_secret_for_kubernetes_has_what_the_chart_reads(deployed: Host) -> None:
    """Without a cluster kubectl prints what it would send. Without helm the chart's own tests render it."""
    tries = 'kubectl() { command kubectl "$@" --dry-run=client --output=json; }\n'
    tries += 'helm() { type -P helm >/dev/null || return 0; command helm "${@/install/template}" >/dev/null; }\n'
    script = tries + script_of(HOWTO / "deploy.md", "kubernetes")
    secret = json.loads(run_script(script, deployed.variables, folder=deployed.folder)["kubernetes"])
    chart = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "deploy/helm/hourglass/templates").iterdir())
    assert set(secret["data"]) == {"database_url", "redis_url", "jwt_secret", "session_secret", "pin_pepper"}
    assert all(name in chart for name in secret["data"])


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed (package prometheus)")
def test_prometheus_takes_the_configuration(deployed: Host) -> None:
    (configuration,) = re.findall(r"```yaml\n(.*?)```", (HOWTO / "monitor.md").read_text(encoding="utf-8"), re.DOTALL)
    file = deployed.folder / "prometheus.yml"
    file.write_text(configuration, encoding="utf-8")
    done = subprocess.run(  # noqa: S603
        ["promtool", "check", "config", file],  # noqa: S607
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rules found" in done.stdout
