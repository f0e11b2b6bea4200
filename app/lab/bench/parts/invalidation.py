"""Time until every process applies a parent's change under load."""

import asyncio
import json
import time
from collections.abc import Mapping

from app.auth.tokens import Role
from app.clock import now_ms
from app.lab.bench.client import LoadConnection
from app.lab.bench.environment import TOKEN_LIFE_SECONDS, BenchEnvironment
from app.lab.bench.failures import BenchFailed
from app.lab.bench.load import Order
from app.lab.bench.openloop import centile_ms
from app.lab.bench.parts.part import BenchPart, Figures
from app.lab.bench.service_processes import ServiceProcesses
from app.lab.bench.viewers import HOST, account_id, profile_id
from app.wiring.external_identity import tokens_of

OK = 200
MAX_CHANGES = 500
QUICK_CHANGES = 30
MAX_ATTEMPTS = 200
MAX_SECONDS = 5.0
WEEKDAY_LIMITS = (75, 105)
WEEKEND_LIMITS = (135, 165)


def run(stage: BenchEnvironment) -> Figures:
    crew = stage.open_sessions()
    stage.warm(crew)
    changes = stage.plan.probe_viewers[: QUICK_CHANGES if stage.plan.quick else MAX_CHANGES]
    order = Order(seconds=stage.plan.sample_seconds + 1, span=stage.plan.everybody)
    with stage.view.doing("settings change under load"), stage.loading(crew, order) as load:
        found = asyncio.run(_watched(stage, crew, changes, seconds=stage.plan.sample_seconds))
        loaded = load.result()
    if not found:
        raise BenchFailed("no change of settings was seen in time")
    seen = sorted(delay for _, delays in found for delay in delays.values())
    saved = sorted(seconds for seconds, _ in found)
    return {
        "changes": len(found),
        "processes": len(crew.api),
        "p50_ms": centile_ms(seen, 0.5),
        "p99_ms": centile_ms(seen, 0.99),
        "max_ms": centile_ms(seen, 1.0),
        "save_p50_ms": centile_ms(saved, 0.5),
        "save_p99_ms": centile_ms(saved, 0.99),
        "beats_per_second": round(loaded.per_second, 1),
        "errors": loaded.errors,
    }


async def _watched(
    stage: BenchEnvironment, crew: ServiceProcesses, changes: range, *, seconds: float
) -> list[tuple[float, Mapping[int, float]]]:
    """For each change: the seconds of saving, and the seconds until each process applied it, by process id."""
    parent = await LoadConnection.opened(crew.url)
    players = await _one_to_each(crew)
    found: list[tuple[float, Mapping[int, float]]] = []
    ends_at = time.monotonic() + seconds
    with stage.viewers.mapped() as mapped:
        for number, viewer in enumerate(changes):
            if time.monotonic() > ends_at:
                break
            began = time.monotonic()
            version = await _save(stage, parent, viewer, number)
            saved = time.monotonic()
            request = mapped.request(viewer)
            delays = await asyncio.gather(*(_until(player, request, version) for player in players.values()))
            found.append((saved - began, {pid: at - saved for pid, at in zip(players, delays, strict=True)}))
    for connection in (parent, *players.values()):
        connection.close()
    return found


async def _one_to_each(crew: ServiceProcesses) -> dict[int, LoadConnection]:
    """A connection to each API process.

    The kernel chooses the process, so connections are opened until all processes are reached.
    """
    met: dict[int, LoadConnection] = {}
    for _ in range(MAX_ATTEMPTS):
        connection = await LoadConnection.opened(crew.url)
        await connection.send(f"GET /health/live HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode())
        pid = crew.holder_of(connection.local_port)
        if pid is None or pid in met:
            connection.close()
        else:
            met[pid] = connection
        if len(met) == len(crew.api):
            return met
    raise BenchFailed("cannot reach every API process")


async def _save(stage: BenchEnvironment, parent: LoadConnection, viewer: int, number: int) -> int:
    """Change the limits of a child and return the new version of its settings."""
    token = tokens_of(stage.settings).issue(
        account_id=account_id(viewer), role=Role.PARENT, at_s=now_ms() // 1000, life_seconds=TOKEN_LIFE_SECONDS
    )
    limits = {"weekday_limit_minutes": WEEKDAY_LIMITS, "weekend_limit_minutes": WEEKEND_LIMITS}
    body = json.dumps({name: minutes[number % len(minutes)] for name, minutes in limits.items()}).encode()
    head = (
        f"PUT /api/v1/parental-controls/profiles/{profile_id(viewer)}/viewing-time HTTP/1.1\r\nHost: {HOST}\r\n"
        f"Authorization: Bearer {token}\r\nIf-Match: *\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    status, answer = await parent.send(head.encode() + body)
    if status != OK:
        raise BenchFailed(f"saving settings answers {status}: {answer.decode(errors='replace')}")
    return int(json.loads(answer)["version"])


async def _until(player: LoadConnection, request: bytes, version: int) -> float:
    """Send heartbeats until an answer uses this version of the settings; return its time."""
    ends_at = time.monotonic() + MAX_SECONDS
    while time.monotonic() < ends_at:
        status, answer = await player.send(request)
        if status != OK:
            raise BenchFailed(f"a beat is answered {status}: {answer.decode(errors='replace')}")
        if int(json.loads(answer)["config_version"]) >= version:
            return time.monotonic()
    raise BenchFailed(f"a change was not applied within {MAX_SECONDS:.0f} s")


def summary(figures: Figures) -> str:
    return (
        f"p50 {figures['p50_ms']:.1f} ms, p99 {figures['p99_ms']:.1f} ms after the parent's answer "
        f"({figures['changes']} changes, {figures['beats_per_second']:,.0f} beats/s meanwhile)"
    )


PART = BenchPart(name="invalidation", run=run, summary=summary)
