"""docs/howto/identity.md is a script: a stranger runs it against the service as operators start it."""

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from app.embedded.valkey import Valkey
from tests.faults.services import ROOT, Run, free_port, started, surroundings
from tests.servers import Databases, reachable_folder

GUIDE = ROOT / "docs" / "howto" / "identity.md"
START_SECONDS = 90.0


def script() -> str:
    """All of the guide's Python, in order."""
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE))


@pytest.fixture
def folder() -> Iterator[Path]:
    with reachable_folder() as found:
        yield found


def _variables(postgres: Databases, valkey: Valkey, *, key_server: int, port: int) -> dict[str, str]:
    secrets = {f"HOURGLASS_{name}": name.ljust(32, "x") for name in ("JWT_SECRET", "SESSION_SECRET", "PIN_PEPPER")}
    return {
        **surroundings(),
        **secrets,
        "DATABASE_URL": postgres.fresh(),
        "REDIS_URL": valkey.url,
        "HOURGLASS_PORT": str(port),
        "HOURGLASS_WORKERS": "1",
        "HOURGLASS_OUTSIDE_JWKS_URL": f"http://127.0.0.1:{key_server}/jwks.json",
        "HOURGLASS_OUTSIDE_ISSUER": f"http://127.0.0.1:{key_server}",
        "HOURGLASS_OUTSIDE_AUDIENCE": "hourglass",
        "HOURGLASS_OUTSIDE_ROLE_CLAIM": "role",
        "HOURGLASS_OUTSIDE_ROLES": "guardian=parent",
    }


def _wait_until_ready(url: str, api: Run) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end:
        assert api.process.poll() is None, api.lines
        try:
            if httpx.get(f"{url}/health/ready", timeout=2, trust_env=False).status_code == httpx.codes.OK:
                return
        except httpx.HTTPError:
            pass
        time.sleep(0.1)
    raise AssertionError(api.lines)


def test_a_stranger_connects_a_platform_with_the_guide_alone(postgres: Databases, valkey: Valkey, folder: Path) -> None:
    assert "/auth/" not in script(), "nobody registers or signs in with us"
    key_server, port = free_port(), free_port()
    variables, url = _variables(postgres, valkey, key_server=key_server, port=port), f"http://127.0.0.1:{port}"
    (folder / "stranger.py").write_text(script(), encoding="utf-8")
    with started(folder, variables, "token", "--account", "provisioning", "--role", "service") as minting:
        assert minting.ended() == 0, minting.lines
    with started(folder, variables, "api") as api:
        _wait_until_ready(url, api)
        stranger = subprocess.run(
            [sys.executable, "-P", "stranger.py"],
            cwd=folder,
            env={
                **surroundings(),
                "HOURGLASS_URL": url,
                "SERVICE_TOKEN": minting.lines[-1],
                "KEY_SERVER_PORT": str(key_server),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert stranger.returncode == 0, (stranger.stdout, stranger.stderr, api.lines)
    said = stranger.stdout.splitlines()
    assert [re.sub(r"[\d.]+ s\b", "N s", line) for line in said[:2]] == [
        "10000 accounts created in N s",
        "10000 accounts unchanged in N s",
    ]
    assert "ada: 0.0 s in the week to" in said[3]
    assert re.search(r"erased at 20\S+: 1 profile", said[4])
    assert not [line for line in api.lines if "auth0" in line], "no id of the platform's people is logged"
