"""Latency of heartbeats while many PINs are verified, and how long the PINs take."""

import asyncio
import json
import time
from collections.abc import Sequence
from typing import Any

import asyncpg

from app.auth.hashing import Hasher
from app.auth.hashing_queue import HashingKind
from app.lab.bench import openloop
from app.lab.bench.client import LoadConnection
from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.failures import BenchFailed, Skipped
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Figures
from app.lab.bench.plan import TARGET_PER_SECOND
from app.lab.bench.service_processes import ServiceProcesses
from app.lab.bench.spread import Spread, shown
from app.lab.bench.viewers import HOST, account_id

PATH = "/api/v1/parental-controls/pin/verify"
PIN = "4711"
PARALLEL = 50
NOT_FOUND = 404
OK = 200
REFUSED_FOR_NOW = {429, 503}
RETRY_SECONDS = 1.0
"""What a client is told to wait where too many secrets wait already, or one waited for too long."""
RUNS = 7
MAX_ADDED_MS = 10.0
MAX_STORM_SECONDS = 25.0
"""The goals, for every run."""
HOPELESS_SECONDS = 120.0
PROBE_PER_SECOND = 500
CONNECTIONS = 16
STARTING_SECONDS = 1.5


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    parents, players = stage.plan.probe_viewers[:PARALLEL], stage.plan.probe_viewers[PARALLEL:]
    requests = _requests(stage, parents)
    if asyncio.run(_status(crew, requests[0])) == NOT_FOUND:
        raise Skipped(f"{PATH} does not exist")
    asyncio.run(_set_pins(stage, parents))
    stage.warm(crew)
    stage.warm_probes(crew)
    runs = [_run(stage, crew, players, requests, number) for number in range(1 if stage.plan.quick else RUNS)]
    return {
        "parallel": PARALLEL,
        "added_p99_ms": Spread.of([run["added_p99_ms"] for run in runs]).figures(),
        "storm_seconds": Spread.of([run["storm_seconds"] for run in runs]).figures(1),
        "reached": sum(
            run["added_p99_ms"] <= MAX_ADDED_MS and run["storm_seconds"] <= MAX_STORM_SECONDS for run in runs
        ),
        "runs": runs,
        "errors": sum(run["errors"] for run in runs),
    }


def _run(
    stage: BenchEnvironment, crew: ServiceProcesses, players: range, requests: Sequence[bytes], number: int
) -> Figures:
    """A calm and a storm, every other time in reverse order."""

    def calm() -> dict[str, Any]:
        return _measured(stage, crew, players, "heartbeats while nobody enters a PIN")

    before = calm() if number % 2 == 0 else None
    stormy, seconds = asyncio.run(_measured_in_storm(stage, crew, players, requests))
    quiet = before or calm()
    return {
        "calm_p99_ms": quiet["p99_ms"],
        "p99_ms": stormy["p99_ms"],
        "added_p99_ms": round(stormy["p99_ms"] - quiet["p99_ms"], 3),
        "storm_seconds": round(seconds, 1),
        "errors": quiet["errors"] + stormy["errors"],
    }


def _measured(stage: BenchEnvironment, crew: ServiceProcesses, players: range, what: str) -> dict[str, Any]:
    """Latency of sampled heartbeats at half the target rate."""
    seconds = stage.plan.sample_seconds
    order = Order(seconds=seconds + STARTING_SECONDS, span=stage.plan.everybody, per_second=TARGET_PER_SECOND / 2)
    with stage.view.doing(what), stage.loading(crew, order) as load:
        figures = openloop.probe(
            crew, stage.viewers, players, per_second=PROBE_PER_SECOND, seconds=seconds, connections=CONNECTIONS
        )
        figures["errors"] += load.result().errors
    return figures


async def _measured_in_storm(
    stage: BenchEnvironment, crew: ServiceProcesses, players: range, requests: Sequence[bytes]
) -> tuple[dict[str, Any], float]:
    """The same while PINs are verified: all at once, and when all are answered, each again after its answer.

    It ends with the last answer, so that nothing of it waits in the service when the next storm begins.

    Returns:
        The figures of the heartbeats, and the seconds until all PINs were verified for the first time.
    """
    is_over = asyncio.Event()

    async def verify(connection: LoadConnection, request: bytes) -> None:
        while True:
            status, answer = await connection.send(request)
            if status == OK:
                return
            if status not in REFUSED_FOR_NOW:
                raise BenchFailed(f"{PATH} answers {status}: {answer.decode(errors='replace')}")
            await asyncio.sleep(RETRY_SECONDS)

    async def verify_again(connection: LoadConnection, request: bytes) -> None:
        while not is_over.is_set():
            await verify(connection, request)

    async def rage() -> float:
        connections = [await LoadConnection.opened(crew.url) for _ in requests]
        began = time.monotonic()
        try:
            await asyncio.gather(*map(verify, connections, requests))
            seconds = time.monotonic() - began
            await asyncio.gather(*map(verify_again, connections, requests))
        finally:
            for connection in connections:
                connection.close()
        return seconds

    raging = asyncio.create_task(rage())
    what = f"heartbeats while {PARALLEL} PINs are verified"
    figures = await asyncio.to_thread(_measured, stage, crew, players, what)
    is_over.set()
    try:
        return figures, await asyncio.wait_for(raging, HOPELESS_SECONDS)
    except TimeoutError as error:
        raise BenchFailed(f"{PARALLEL} PINs at once were not answered after {HOPELESS_SECONDS:.0f} s") from error


def _requests(stage: BenchEnvironment, parents: range) -> list[bytes]:
    body = json.dumps({"pin": PIN}).encode()
    layout = stage.viewers.layout
    requests = []
    with stage.viewers.mapped() as mapped:
        for parent in parents:
            token = mapped.request(parent)[layout.token_at :][: layout.token_length].decode()
            head = (
                f"POST {PATH} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            requests.append(head.encode() + body)
    return requests


async def _status(crew: ServiceProcesses, request: bytes) -> int:
    connection = await LoadConnection.opened(crew.url)
    status, _ = await connection.send(request)
    connection.close()
    return status


async def _set_pins(stage: BenchEnvironment, parents: range) -> None:
    """Set one PIN for all accounts: a hash is valid for any account, and each new one takes a quarter of a second."""
    hasher = Hasher(
        pepper=stage.settings.pin_pepper.get_secret_value().encode(),
        cost=stage.settings.bcrypt_cost,
        queue=1,
    )
    hashed = await hasher.hash(PIN, HashingKind.PIN, account_id(parents[0]))
    await hasher.close()
    database = await asyncpg.connect(stage.settings.database_url.get_secret_value())
    try:
        accounts = [account_id(parent) for parent in parents]
        statement = "UPDATE accounts SET pin_hash = $1, pin_changed_at = now() WHERE id = ANY($2::uuid[])"
        await database.execute(statement, hashed, accounts)
    finally:
        await database.close()


def summary(figures: Figures) -> str:
    most = max(run["added_p99_ms"] for run in figures["runs"])
    slowest = max(run["storm_seconds"] for run in figures["runs"])
    return (
        f"beats' p99 + {shown(figures['added_p99_ms'], '.1f')} ms in the storm, at most + {most:.1f} ms; "
        f"{figures['parallel']} PINs at once answered after {shown(figures['storm_seconds'], '.1f')} s, "
        f"at most {slowest:.1f} s; goals reached in {figures['reached']} of {len(figures['runs'])} runs"
    )


PART = BenchPart(name="pin_storm", run=run, summary=summary)
