"""deploy/nginx.conf in a real nginx: its own refusals are problems, and limits go by token.

That rolling restarts behind it lose nothing is tried with new secrets at the same time, in test_rotation.py.
"""

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.deployed import Deployed, free_port

NGINX = shutil.which("nginx") or ("/usr/sbin/nginx" if Path("/usr/sbin/nginx").exists() else None)
CONFIGURATION = Path(__file__).parents[2] / "deploy" / "nginx.conf"
PAGE = "https://tv.example.org"
pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed")


def configured(folder: Path, *, port: int, apis: Sequence[int], slower: int) -> Path:
    """Our configuration for this machine: other ports, no certificate, lower rates, the rest as it is."""
    text = CONFIGURATION.read_text(encoding="utf-8")
    text = re.sub(r"    server \{\n        listen 80;.*?\n    \}\n", "", text, flags=re.DOTALL)
    text = re.sub(r"\n        (ssl_|add_header Strict).*", "", text)
    text = text.replace("listen 443 ssl http2;", f"listen 127.0.0.1:{port};")
    text = text.replace(
        "server 127.0.0.1:8000 max_fails=1 fail_timeout=2s;",
        "\n".join(f"server 127.0.0.1:{api} max_fails=1 fail_timeout=2s;" for api in apis),
    )
    head = f"daemon off;\npid {folder}/nginx.pid;\nerror_log {folder}/error.log;\n"
    places = "".join(
        f"    {name}_temp_path {folder}/{name};\n" for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    text = head + text.replace("http {\n", "http {\n" + places, 1).replace(
        "worker_processes auto;", "worker_processes 1;"
    )
    text = text.replace("worker_rlimit_nofile 262144;", "").replace(
        "worker_connections 65536;", "worker_connections 1024;"
    )
    text = re.sub(r"rate=(\d+)r/s", lambda rate: f"rate={int(rate[1]) // slower}r/s", text)
    file = folder / "nginx.conf"
    file.write_text(text, encoding="utf-8")
    return file


@contextmanager
def proxied(deployed: Deployed, apis: Sequence[int], *, slower: int = 1) -> Iterator[str]:
    port = free_port()
    folder = deployed.folder / f"nginx-{port}"
    folder.mkdir()
    file = configured(folder, port=port, apis=apis, slower=slower)
    deployed.start(f"nginx-{port}", str(NGINX), "-p", folder, "-c", file)
    url = f"http://127.0.0.1:{port}"
    deployed.until(lambda: _answers(url), "nginx answers")
    yield url
    deployed.stop(f"nginx-{port}")


def _answers(url: str) -> bool:
    try:
        httpx.get(f"{url}/health/live", timeout=2)
    except httpx.HTTPError:
        return False
    return True


def test_what_nginx_refuses_is_a_problem_that_a_page_may_read(tmp_path: Path) -> None:
    """The rates are so low that a slow machine exceeds them, too."""
    with Deployed(tmp_path, {}) as deployed, proxied(deployed, [free_port()], slower=20) as url:
        away = httpx.get(f"{url}/api/v1/profiles", headers={"Origin": PAGE})
        large = httpx.post(f"{url}/api/v1/profiles", content=b"x" * 70_000, headers={"Origin": PAGE})
        headers = {"Origin": PAGE, "Cookie": "x" * 40_000}
        head = httpx.get(f"{url}/api/v1/profiles", headers=headers)
        same = {"Authorization": f"Bearer a.b.{'s' * 43}", "Origin": PAGE}
        with httpx.Client() as client:
            flood = [client.get(f"{url}/api/v1/profiles", headers=same) for _ in range(300)]
            other = client.get(f"{url}/api/v1/profiles", headers={"Authorization": f"Bearer a.b.{'t' * 43}"})
        refused = [answer for answer in flood if answer.status_code == 429]
        assert refused
        assert other.status_code == 503, "another token from the same address is not limited"
        expected = {503: "service_unavailable", 413: "body_too_large", 431: "head_too_large", 429: "too_many_requests"}
        for answer, status in ((away, 503), (large, 413), (head, 431), (refused[0], 429)):
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.headers["access-control-allow-origin"] == PAGE
            problem = json.loads(answer.text)
            assert (problem["status"], problem["code"]) == (status, expected[status])
            assert problem["request_id"]
        assert refused[0].headers["retry-after"]
        stranger = httpx.get(f"{url}/api/v1/profiles", headers={"Origin": "https://elsewhere.example"})
        assert "access-control-allow-origin" not in stranger.headers
