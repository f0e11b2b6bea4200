"""Schemathesis against a running test API: `python -m tests.fuzz.api --requests 100000`.

Requests made from the OpenAPI document, sound and broken ones, one by one and in chains.
Nothing may be answered with 5xx, and nothing otherwise than documented.
"""

import argparse
import asyncio
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

from app.auth.tokens import Role
from app.clock import now_ms
from app.deployment.listening import base_url, is_ready, reserve
from app.http.requests import API_PREFIX
from app.postgres_store.engine import create_engine
from app.postgres_store.partitions import make_partitions
from app.settings.settings import Settings
from app.wiring.external_identity import tokens_of
from tests.builders import settings_for
from tests.scenes.households import PASSWORD
from tests.servers import ending_with_us, running_postgres, running_valkey

ROOT = Path(__file__).parents[2]
PIN = "4711"
TITLE = "moon-pirates"
_START_SECONDS = 60.0
_CHECKS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
    "ignored_auth",
)
_GENERATED = re.compile(r"^\s*([\d,]+) generated", re.MULTILINE)


@dataclass(frozen=True, kw_only=True)
class Target:
    """A service that may be hurt. ``log`` is what its process writes."""

    url: str
    log: Path
    family: httpx.Client
    tokens: dict[Role, str]
    profiles: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Run:
    """What came of a run of Schemathesis."""

    requests: int
    is_good: bool
    report: str


@contextmanager
def running_api(
    *, database_url: str, redis_url: str, children: int = 10, descriptors: int | None = None, **more: str
) -> Iterator[Target]:
    """`hourglass api` as a process of its own, and a family of some children.

    Args:
        database_url: a migrated database.
        redis_url: counters.
        children: profiles of the family.
        descriptors: how many files and connections the process may have open.
        more: further settings by their names without prefix, e.g. ``log_level="DEBUG"``.
    """
    settings = settings_for(database_url=database_url, redis_url=redis_url)
    holder, port = reserve("127.0.0.1", 0)
    limit = [] if descriptors is None else ["prlimit", f"--nofile={descriptors}"]
    variables = {**os.environ, **_variables(settings, port=str(port), **more)}  # noqa: TID251  handed on
    with tempfile.TemporaryDirectory() as folder, (log := Path(folder) / "log").open("w") as output:
        process = subprocess.Popen(  # noqa: S603  ourselves
            ending_with_us([*limit, sys.executable, "-m", "app.cli", "api", "--workers", "1"], "TERM"),
            cwd=ROOT,
            env=variables,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            with ThreadPoolExecutor(1) as thread:  # an event loop of its own, for a caller may have one
                thread.submit(asyncio.run, _make_partitions(settings)).result()
            _wait_until_ready(process, port, log)
            with httpx.Client(base_url=base_url("127.0.0.1", port) + API_PREFIX, timeout=30) as family:
                yield _with_family(settings, family, log, children)
        finally:
            process.terminate()
            process.wait(30)
            holder.close()


async def _make_partitions(settings: Settings) -> None:
    """What the worker makes; without them no day can be counted."""
    engine = create_engine(settings.database_url.get_secret_value(), pool_size=1, timeout_seconds=30, pgbouncer=False)
    await make_partitions(engine, at_ms=now_ms())
    await engine.dispose()


def _variables(settings: Settings, **more: str) -> dict[str, str]:
    secret = {"jwt_secret", "session_secret", "pin_pepper"}
    values = {name: getattr(settings, name).get_secret_value() for name in secret}
    values |= {"bcrypt_cost": "4", "max_beats_per_second": "0", "log_level": "INFO"}
    values |= {"account_requests_per_minute": "0", "token_requests_per_minute": "0"} | more
    urls = {"DATABASE_URL": settings.database_url, "REDIS_URL": settings.redis_url}
    named = {f"HOURGLASS_{name.upper()}": value for name, value in values.items()}
    return named | {name: url.get_secret_value() for name, url in urls.items()}


def _wait_until_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not is_ready("127.0.0.1", port):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"the API did not start:\n{log.read_text()}")
        time.sleep(0.1)


def _with_family(settings: Settings, family: httpx.Client, log: Path, children: int) -> Target:
    account = {"email": f"{uuid4().hex}@example.org", "password": PASSWORD, "timezone": "Europe/Oslo"}
    account_id = _done(family.post("/auth/register", json=account))["account_id"]
    at_s, issue = now_ms() // 1000, tokens_of(settings).issue
    tokens = {role: issue(account_id=account_id, role=role, at_s=at_s, life_seconds=86_400) for role in Role}
    family.headers["Authorization"] = f"Bearer {tokens[Role.PARENT]}"
    _done(family.post("/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD}))
    titles = [{"id": TITLE, "name": "Moon Pirates", "is_educational": False}]
    catalogue = {"Authorization": f"Bearer {tokens[Role.SERVICE]}"}
    _done(family.put("/catalog/titles", json=titles, headers=catalogue))
    made = [_done(family.post("/profiles", json={"name": "Ada", "is_kids": True})) for _ in range(children)]
    profiles = tuple(profile["id"] for profile in made)
    return Target(url=str(family.base_url), log=log, family=family, tokens=tokens, profiles=profiles)


def _done(answer: httpx.Response) -> dict[str, str]:
    assert answer.is_success, answer.text
    values: dict[str, str] = answer.json()
    return values


def fuzz(target: Target, *, seed: int, examples: int, options: Sequence[str] = ()) -> Run:
    """Run Schemathesis with all its phases: examples, coverage, fuzzing, chains of calls."""
    known = {"profiles": target.profiles, "title": TITLE, "service": target.tokens[Role.SERVICE]}
    hooks = {"SCHEMATHESIS_HOOKS": "tests.fuzz.hooks", "HOURGLASS_FUZZ_TARGET": json.dumps(known)}
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "run", f"{target.url.rstrip('/')}/openapi.json"),
        *("--header", f"Authorization: Bearer {target.tokens[Role.PARENT]}", "--header", "If-Match: *"),
        *("--checks", ",".join(_CHECKS), "--seed", str(seed), "--max-examples", str(examples)),
        # A stream has no end to wait for, and without its account a family could try nothing more.
        *("--exclude-path-regex", "/events/|/account$", "--request-timeout", "30", "--continue-on-failure"),
        *("--suppress-health-check", "all", "--warnings", "off", *options),
    ]
    with tempfile.TemporaryDirectory() as folder:
        ended = subprocess.run(  # noqa: S603  ourselves
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), **hooks},  # noqa: TID251  handed on
            capture_output=True,
            text=True,
            check=False,
        )
    report = ended.stdout + ended.stderr
    generated = _GENERATED.search(report)
    requests = int(generated[1].replace(",", "")) if generated else 0
    return Run(requests=requests, is_good=ended.returncode == 0, report=report)


def main() -> int:
    """Go on, seed after seed, until enough requests were made; stop at the first defect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=now_ms() // 1000)
    parser.add_argument("--examples", type=int, default=100, help="for each operation and seed")
    wanted = parser.parse_args()
    made, seed = 0, wanted.seed
    with running_postgres() as postgres, running_valkey() as valkey:
        while made < wanted.requests:
            # Patient: a machine that is busy with other things is no defect of the service.
            with running_api(
                database_url=postgres.fresh(),
                redis_url=valkey.url,
                redis_timeout_seconds="10",
                database_timeout_seconds="60",
            ) as target:
                run = fuzz(target, seed=seed, examples=wanted.examples)
            made += run.requests
            verdict = "good" if run.is_good else "BAD"
            print(f"seed {seed}: {run.requests} requests, {verdict}; {made} so far", flush=True)  # noqa: T201
            if not run.is_good:
                print(run.report)  # noqa: T201
                return 1
            seed += 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
