"""The OpenAPI document suits public tools: linters find nothing, and generated clients do the main job.

The tools come from their registries, once, into ``.clients`` of the checkout. Without npm or a registry these tests are
skipped and say so.
"""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
import uvicorn

from app.settings.settings import Settings
from scripts.references import openapi_text
from tests.api.viewing.conftest import prepared, settings
from tests.scenes.api import Api, running
from tests.scenes.households import PASSWORD

__all__ = ["prepared", "settings"]

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INSTALL_SECONDS = 400
STEP_SECONDS = 120
EXPECTED_WARNINGS = ["Unsupported content type application/x-ndjson"] * 3
"""NDJSON stands beside JSON; the generated client sends JSON."""


def _run(command: Sequence[str | Path], *, seconds: int = STEP_SECONDS, **options: Any) -> str:
    """The output of a command that must succeed."""
    done: subprocess.CompletedProcess[str] = subprocess.run(  # noqa: S603  our own commands
        command, capture_output=True, text=True, timeout=seconds, check=False, **options
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def tools() -> Path:
    """A folder with the generators and linters. Another version of either has another folder."""
    if shutil.which("npm") is None:
        pytest.skip("GENERATED CLIENTS ARE NOT TESTED: npm is not installed")
    wanted = (HERE / "package.json").read_bytes() + (HERE / "requirements.txt").read_bytes()
    folder = ROOT / ".clients" / sha256(wanted).hexdigest()[:16]
    if not (folder / "complete").exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        shutil.copy(HERE / "package.json", folder)
        try:
            _run(["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder, seconds=INSTALL_SECONDS)
            _run([sys.executable, "-m", "venv", folder / "venv"])
            pip = folder / "venv" / "bin" / "pip"
            _run([pip, "install", "-q", "-r", HERE / "requirements.txt"], seconds=INSTALL_SECONDS)
        except (AssertionError, subprocess.TimeoutExpired) as error:
            pytest.skip(f"GENERATED CLIENTS ARE NOT TESTED: the tools cannot be installed: {str(error)[-300:]}")
        (folder / "complete").touch()
    return folder


@pytest.fixture(scope="module")
def document(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The document as it is served now."""
    path = tmp_path_factory.mktemp("document") / "openapi.json"
    path.write_text(openapi_text(), encoding="utf-8")
    return path


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def service(prepared: Settings) -> AsyncIterator[tuple[str, Api]]:
    """The address of a real service."""
    async with running(prepared) as api:
        config = uvicorn.Config(api.front, port=0, lifespan="off", log_config=None, timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        with contextlib.suppress(asyncio.CancelledError):
            serving = asyncio.create_task(server._serve())
            while not server.started:  # noqa: ASYNC110  uvicorn offers no event to wait for
                await asyncio.sleep(0.01)
            yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}", api
            server.should_exit = True
            await serving


async def _driven(service: tuple[str, Api], *command: str | Path, cwd: Path) -> None:
    """Let a program do the main job and check what it tells."""
    address, api = service
    title = await api.add_title()
    email = f"{uuid4().hex}@example.org"
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(cwd)}  # noqa: TID251  for the tools
    process = await asyncio.create_subprocess_exec(
        *command, address, email, PASSWORD, title,
        cwd=cwd, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(STEP_SECONDS):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    assert process.returncode == 0, err.decode()
    told = json.loads(out)
    assert 74 * 60 < told.pop("remaining") <= 75 * 60
    assert told == {
        "enforcement": "allowed",
        "limit": 60,
        "granted": 15,
        "children": ["Ada"],
        "refused": "title_unknown",
    }


def test_redocly_finds_nothing(tools: Path, document: Path) -> None:
    redocly = tools / "node_modules" / ".bin" / "redocly"
    out = _run([redocly, "lint", "--config", HERE / "redocly.yaml", "--format", "json", document])
    report = json.loads(out[out.index("{") : out.rindex("}") + 1])
    assert report["totals"] == {"errors": 0, "warnings": 0, "ignored": 0}, report


def test_spectral_finds_nothing(tools: Path, document: Path) -> None:
    spectral = tools / "node_modules" / ".bin" / "spectral"
    ruleset = HERE / "spectral.yaml"
    out = _run([spectral, "lint", "--ruleset", ruleset, "--fail-severity", "hint", "-f", "json", document])
    assert json.loads(out[out.index("[") : out.rindex("]") + 1]) == []


async def test_a_generated_python_client_does_the_main_job(
    tools: Path, document: Path, service: tuple[str, Api], tmp_path: Path
) -> None:
    generator = tools / "venv" / "bin" / "openapi-python-client"
    out = await asyncio.to_thread(
        _run,
        [generator, "generate", "--path", document, "--output-path", tmp_path / "generated", "--meta", "none"],
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
    )
    warnings = [line for line in out.splitlines() if line.startswith(("Unsupported", "Cannot", "ERROR"))]
    assert warnings == EXPECTED_WARNINGS, out
    shutil.copy(HERE / "drive.py", tmp_path)
    await _driven(service, tools / "venv" / "bin" / "python", tmp_path / "drive.py", cwd=tmp_path)


async def test_a_generated_typescript_client_does_the_main_job(
    tools: Path, document: Path, service: tuple[str, Api], tmp_path: Path
) -> None:
    programs = tools / "node_modules" / ".bin"
    await asyncio.to_thread(_run, [programs / "openapi-typescript", document, "-o", tmp_path / "schema.d.ts"])
    for name in ("drive.ts", "tsconfig.json", "package.json"):
        shutil.copy(HERE / name, tmp_path)
    (tmp_path / "node_modules").symlink_to(tools / "node_modules")
    await asyncio.to_thread(_run, [programs / "tsc", "-p", tmp_path])
    await _driven(service, "node", tmp_path / "drive.js", cwd=tmp_path)
