"""A key server as a process of its own, which can be told to stall, to lie and to lead elsewhere.

``GET /jwks`` answers in the way that ``POST /behave`` has set last; ``GET /seen`` says how often it was asked.
"""

import gzip
import json
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import httpx

_HUGE_BYTES = 100 * 1024 * 1024


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    behaviour: ClassVar[dict[str, Any]] = {"mode": "keys", "keys": []}
    seen: ClassVar[dict[str, int]] = {"asked": 0, "sent_bytes": 0}

    def do_POST(self) -> None:
        type(self).behaviour = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self._answer(b"{}")

    def do_GET(self) -> None:
        if self.path == "/seen":
            self._answer(json.dumps(self.seen).encode())
            return
        self.seen["asked"] += 1
        keys = json.dumps({"keys": self.behaviour.get("keys", [])}).encode()
        with suppress(OSError):
            getattr(self, f"_{self.behaviour['mode']}")(keys)

    def _keys(self, keys: bytes) -> None:
        self._answer(keys)

    def _html(self, _: bytes) -> None:
        self._answer(b"<html>Sign in first</html>", media_type="text/html")

    def _error(self, keys: bytes) -> None:
        self._answer(keys, status=500)

    def _compressed(self, keys: bytes) -> None:
        self._answer(gzip.compress(keys), headers={"Content-Encoding": "gzip"})

    def _huge(self, _: bytes) -> None:
        """No length is told, and it does not end by itself."""
        self.send_response(200)
        self.send_header("Connection", "close")
        self.end_headers()
        for _chunk in range(_HUGE_BYTES // 65_536):
            self.wfile.write(b" " * 65_536)
            self.seen["sent_bytes"] += 65_536

    def _silent(self, _: bytes) -> None:
        time.sleep(30)

    def _slow(self, keys: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(keys)))
        self.end_headers()
        for at in range(len(keys)):
            self.wfile.write(keys[at : at + 1])
            time.sleep(0.1)

    def _elsewhere(self, _: bytes) -> None:
        self._answer(b"", status=302, headers={"Location": self.behaviour["location"]})

    def _nearby(self, keys: bytes) -> None:
        if self.path == "/moved":
            self._answer(keys)
        else:
            self._answer(b"", status=302, headers={"Location": "/moved"})

    def _circle(self, _: bytes) -> None:
        self._answer(b"", status=302, headers={"Location": self.path})

    def _answer(
        self,
        body: bytes,
        *,
        status: int = 200,
        media_type: str = "application/json",
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": media_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the library's name
        return


class KeyServer:
    """The process, as tests steer it."""

    def __init__(self, *, certificate: Path | None = None, ca: Path | None = None, port: int = 0) -> None:
        arguments = [str(port), *([str(certificate)] if certificate else [])]
        self._process = subprocess.Popen(  # noqa: S603  ourselves
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        scheme = "https" if certificate else "http"
        self.origin = f"{scheme}://localhost:{self.port}"
        self.url = f"{self.origin}/jwks"
        context: Any = ssl.create_default_context(cafile=str(ca)) if ca else True
        self._http = httpx.Client(base_url=self.origin, verify=context, trust_env=False)

    def behave(self, mode: str, *keys: object, **more: object) -> None:
        self._http.post("/behave", json={"mode": mode, "keys": keys, **more})

    def seen(self) -> dict[str, int]:
        found: dict[str, int] = self._http.get("/seen").json()
        return found

    def die(self) -> None:
        self._http.close()
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


@contextmanager
def running_key_server(**options: Any) -> Iterator[KeyServer]:
    server = KeyServer(**options)
    try:
        yield server
    finally:
        server.die()


def _serve(port: int, certificate: str | None) -> None:
    server = ThreadingHTTPServer(("localhost", port), _Handler)
    server.daemon_threads = True
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    sys.stdout.write(f"{server.server_address[1]}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    _serve(int(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None)
