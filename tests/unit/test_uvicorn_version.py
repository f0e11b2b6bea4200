"""The inner parts of uvicorn that we extend: named once, and looked at before an API process starts."""

import subprocess
import sys
import textwrap
from types import ModuleType

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from app.server.uvicorn_version import missing


def test_the_installed_uvicorn_has_what_we_extend() -> None:
    assert missing() == []


def test_what_another_uvicorn_lacks_is_named() -> None:
    other = ModuleType("httptools_impl")
    other.__dict__["HttpToolsProtocol"] = type("HttpToolsProtocol", (), {"on_body": HttpToolsProtocol.on_body})
    found = missing(other, type("Server", (), dict(vars(uvicorn.Server), on_tick=None)))
    assert "STATUS_LINE" in found
    assert "HttpToolsProtocol.on_headers_complete" in found
    assert "HttpToolsProtocol.on_body" not in found
    assert "Server.serve" not in found


def test_an_api_process_refuses_it_in_one_line() -> None:
    program = """
        from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
        del HttpToolsProtocol.on_response_complete
        from app.cli import main
        main(["api"])
    """
    done = subprocess.run(  # noqa: S603  ourselves
        [sys.executable, "-c", textwrap.dedent(program)],
        env={
            "DATABASE_URL": "postgresql://kim@127.0.0.1:9/hourglass",
            "REDIS_URL": "redis://127.0.0.1:9",
            "HOURGLASS_WORKERS": "1",
            "HOURGLASS_LOG_FORMAT": "console",
            **{f"HOURGLASS_{name}": "0123456789abcdef" * 2 for name in ("JWT_SECRET", "SESSION_SECRET", "PIN_PEPPER")},
        },
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("hourglass: uvicorn ")
    assert "HttpToolsProtocol.on_response_complete" in line
