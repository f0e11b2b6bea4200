"""Latency of heartbeats while many PINs are verified."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import asyncpg

from app.auth.hashing import Hasher
from app.lab.bench import openloop
from app.lab.bench.client import LoadConnection
from app.lab.bench.environment import BenchEnvironment
from app.lab.bench.failures import BenchFailed, Skipped
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Figures
from app.lab.bench.plan import TARGET_PER_SECOND
from app.lab.bench.service_processes import ServiceProcesses
from app.lab.bench.viewers import HOST, account_id

PATH = "/api/v1/parental-controls/pin/verify"
PIN = "4711"
PARALLEL = 50
NOT_FOUND = 404
OK = 200
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
    calm = _measured(stage, crew, players, "heartbeats while nobody enters a PIN")
    stormy, verified = asyncio.run(_measured_in_storm(stage, crew, players, requests))
    return {
        "parallel": PARALLEL,
        "verified": verified,
        "p99_ms": stormy["p99_ms"],
        "calm_p99_ms": calm["p99_ms"],
        "added_p99_ms": round(stormy["p99_ms"] - calm["p99_ms"], 3),
        "errors": calm["errors"] + stormy["errors"],
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
) -> tuple[dict[str, Any], int]:
    """The same while PINs are verified, this many at a time; with the number of verified PINs."""
    verified = 0

    async def verify(request: bytes) -> None:
        nonlocal verified
        connection = await LoadConnection.opened(crew.url)
        while True:
            status, answer = await connection.send(request)
            if status != OK:
                raise BenchFailed(f"{PATH} answers {status}: {answer.decode(errors='replace')}")
            verified += 1

    raging = [asyncio.create_task(verify(request)) for request in requests]
    what = f"heartbeats while {PARALLEL} PINs are verified"
    figures = await asyncio.to_thread(_measured, stage, crew, players, what)
    for task in raging:
        task.cancel()
    for ended in await asyncio.gather(*raging, return_exceptions=True):
        if isinstance(ended, BenchFailed):
            raise ended
    return figures, verified


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
        workers=1,
        queue=1,
    )
    hashed = await hasher.hash(PIN)
    hasher.close()
    database = await asyncpg.connect(stage.settings.database_url.get_secret_value())
    try:
        accounts = [account_id(parent) for parent in parents]
        statement = "UPDATE accounts SET pin_hash = $1, pin_changed_at = now() WHERE id = ANY($2::uuid[])"
        await database.execute(statement, hashed, accounts)
    finally:
        await database.close()


def summary(figures: Figures) -> str:
    return (
        f"beats' p99 {figures['calm_p99_ms']:.1f} ms, {figures['p99_ms']:.1f} ms in the storm "
        f"({figures['added_p99_ms']:+.1f} ms)"
    )


PART = BenchPart(name="pin_storm", run=run, summary=summary)
