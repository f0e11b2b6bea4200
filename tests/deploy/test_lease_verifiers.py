"""The verifiers of docs/examples/leases: in a real nginx with njs, and as a CDN worker in Node."""

import asyncio
import json
import re
import shutil
import subprocess
import threading
import time
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key

from app.auth.lease_keys import LeaseKeys, new_lease_key
from app.domain.enforcement import ALLOWED, Decision
from app.viewing.leases import PlaybackLeases
from tests.deploy.test_nginx import NGINX
from tests.deployed import Deployed, free_port

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples" / "leases"
NODE = shutil.which("node")
_MODULE = None if NGINX is None else Path(NGINX).parents[1] / "lib" / "nginx" / "modules" / "ngx_http_js_module.so"
MEDIA = "the film"

Verify = Callable[[str | None], int]
"""The status of the answer to a request for media with a lease."""


@dataclass
class Service:
    """Publishes a key set as the service does, and counts how often it is asked."""

    url: str
    keys: LeaseKeys = field(default_factory=lambda: LeaseKeys.read(new_lease_key()))
    asked: int = 0

    def lease(
        self,
        *,
        keys: LeaseKeys | None = None,
        life_ms: int = 300_000,
        issuer: str = "hourglass",
        audience: str = "playback",
    ) -> str:
        leases = PlaybackLeases(keys or self.keys, issuer=issuer, audience=audience)
        decision = Decision(ALLOWED, None, None, 30_000, abs(life_ms))
        at_ms = time.time_ns() // 1_000_000 - (600_000 if life_ms < 0 else 0)
        text = asyncio.run(leases.lease("child", "session", decision, at_ms=at_ms))
        leases.close()
        assert text is not None
        return text


@pytest.fixture
def service() -> Iterator[Service]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path != "/.well-known/jwks.json":
                self.send_error(404)
                return
            found.asked += 1
            body = msgspec.json.encode(found.keys.published)
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Cache-Control", "public, max-age=300")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Service(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield found
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def nginx(service: Service, tmp_path: Path) -> Iterator[Verify]:
    if NGINX is None or _MODULE is None or not _MODULE.exists():
        pytest.skip("nginx with njs is not installed")
    port, media = free_port(), tmp_path / "srv" / "media"
    media.mkdir(parents=True)
    (media / "film.mp4").write_text(MEDIA, encoding="utf-8")
    shutil.copy(EXAMPLES / "nginx.js", tmp_path)
    text = (EXAMPLES / "nginx.conf").read_text(encoding="utf-8")
    places = "".join(f"    {name}_temp_path {tmp_path}/{name};\n" for name in ("client_body", "proxy", "fastcgi"))
    places += "".join(f"    {name}_temp_path {tmp_path}/{name};\n" for name in ("uwsgi", "scgi"))
    for told, ours in (
        ("modules/ngx_http_js_module.so", str(_MODULE)),
        ("http {\n", f"http {{\n    access_log off;\n{places}"),
        ("/var/cache/nginx/hourglass", str(tmp_path / "keys")),
        ("listen 8080", f"listen 127.0.0.1:{port}"),
        ("root /srv", f"root {tmp_path}/srv"),
        ("https://viewing.example/", f"{service.url}/"),
    ):
        assert told in text
        text = text.replace(told, ours)
    file = tmp_path / "nginx.conf"
    file.write_text(f"daemon off;\nuser root;\npid {tmp_path}/nginx.pid;\n{text}", encoding="utf-8")
    url = f"http://127.0.0.1:{port}/media/film.mp4"

    def ask(lease: str | None) -> int:
        answer = httpx.get(url, params={} if lease is None else {"lease": lease}, timeout=10)
        assert (answer.text == MEDIA) is (answer.status_code == 200)
        return answer.status_code

    def answers() -> bool:
        try:
            return ask(None) > 0
        except httpx.HTTPError:
            return False

    with Deployed(tmp_path, {}) as deployed:
        deployed.start("nginx", str(NGINX), "-e", "stderr", "-p", tmp_path, "-c", file)
        deployed.until(answers, "nginx answers")
        yield ask


_WORKER_HOST = """
import worker from {worker};
import {{ createInterface }} from "node:readline";
const env = {{ HOURGLASS_URL: {url}, MEDIA: {{ fetch: async () => new Response({media}) }} }};
for await (const line of createInterface({{ input: process.stdin }})) {{
  const answer = await worker.fetch(new Request("https://cdn.example/film.mp4" + line.trim()), env);
  console.log(answer.status, await answer.text());
}}
"""


@pytest.fixture
def worker(service: Service, tmp_path: Path) -> Iterator[Verify]:
    if NODE is None:
        pytest.skip("node is not installed")
    host = tmp_path / "host.mjs"
    values = {"worker": str(EXAMPLES / "worker.mjs"), "url": service.url, "media": MEDIA}
    host.write_text(_WORKER_HOST.format(**{name: json.dumps(value) for name, value in values.items()}))
    with subprocess.Popen(  # noqa: S603
        [NODE, str(host)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        stdin, stdout = process.stdin, process.stdout

        def ask(lease: str | None) -> int:
            stdin.write(("" if lease is None else f"?lease={lease}") + "\n")
            status, _, text = stdout.readline().strip().partition(" ")
            assert (text == MEDIA) is (status == "200")
            return int(status)

        yield ask
        stdin.close()


@pytest.fixture(params=["nginx", "worker"])
def verify(request: pytest.FixtureRequest) -> Verify:
    found: Verify = request.getfixturevalue(request.param)
    return found


def _with_head(lease: str, **changes: str) -> str:
    head, rest = lease.split(".", 1)
    claims = json.loads(urlsafe_b64decode(head + "==")) | changes
    return urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=") + "." + rest


def _forged(service: Service) -> str:
    """Signed by a key of a stranger that bears the name of ours."""
    stranger = LeaseKeys(generate_private_key(SECP256R1()))
    stranger._head = service.keys._head
    return service.lease(keys=stranger)


def test_media_goes_to_who_has_a_lease_and_to_nobody_else(service: Service, verify: Verify) -> None:
    good = service.lease()
    longer = service.lease(life_ms=3_600_000)
    assert verify(good) == 200
    refused = {
        "none": None,
        "empty": "",
        "no JWS": "abc",
        "not JSON": "YWJj.YWJj.YWJj",
        "another claim": ".".join([good.split(".")[0], longer.split(".")[1], good.split(".")[2]]),
        "no signature": good.rpartition(".")[0] + ".",
        "cut signature": good[:-8],
        "algorithm none": _with_head(good, alg="none"),
        "another type": _with_head(good, typ="JWT"),
        "unknown key": service.lease(keys=LeaseKeys.read(new_lease_key())),
        "forged": _forged(service),
        "ended": service.lease(life_ms=-300_000),
        "for others": service.lease(audience="others"),
        "by others": service.lease(issuer="others"),
    }
    assert {name: verify(lease) for name, lease in refused.items()} == dict.fromkeys(refused, 403)
    assert verify(good) == 200


def test_a_key_set_is_kept_and_the_next_key_is_in_it_before_it_signs(service: Service, verify: Verify) -> None:
    old, new = generate_private_key(SECP256R1()), generate_private_key(SECP256R1())
    service.keys = LeaseKeys(old, [new.public_key()])
    assert verify(service.lease()) == 200
    asked = service.asked
    service.keys = LeaseKeys(new, [old.public_key()])
    assert verify(service.lease()) == 200
    assert verify(service.lease(keys=LeaseKeys(old))) == 200
    assert service.asked == asked


def test_the_part_that_verifies_is_short() -> None:
    whole = (("worker.mjs", "export async function claimsOf", "}"), ("nginx.js", "  try {", "  } catch"))
    for name, first, last in whole:
        text = (EXAMPLES / name).read_text(encoding="utf-8")
        body = re.search(rf"^{re.escape(first)}.*?^{re.escape(last)}", text, re.MULTILINE | re.DOTALL)
        assert body is not None
        assert body[0].count("\n") <= 13
