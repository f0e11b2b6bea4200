"""Latency of reports on a year of data, while players send heartbeats."""

import asyncio
import json
import time
from collections.abc import Sequence
from contextlib import ExitStack
from datetime import timedelta
from random import Random
from typing import Any

import asyncpg

from app.auth.tokens import Role
from app.clock import now_ms
from app.domain.markets import Market, Markets
from app.lab.bench import dataset as past
from app.lab.bench import openloop, rows
from app.lab.bench.client import LoadConnection
from app.lab.bench.dataset import CHILDREN_AN_ACCOUNT, Dataset
from app.lab.bench.environment import TOKEN_LIFE_SECONDS, BenchEnvironment
from app.lab.bench.failures import BenchFailed
from app.lab.bench.load import Order
from app.lab.bench.parts.part import BenchPart, Figures
from app.lab.bench.plan import TARGET_PER_SECOND
from app.lab.bench.service_processes import SERVICE, ServiceProcesses, baseline
from app.lab.bench.viewers import HOST
from app.postgres_store.engine import create_engine
from app.postgres_store.reports import PostgresReports
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.reports.weekly import WeeklyReports, last_sunday
from app.timestamps import ms_of, utc
from app.wiring.external_identity import tokens_of

N_PLUS_ONE = baseline("n_plus_one")
API = "/api/v1/parental-controls"
PER_SECOND = 20
MIN_SECONDS = 2.0
CONNECTIONS = 4
ASKED_ABOUT = 200
STARTING_SECONDS = 1.5
OK = 200
MIDWEEK = 2
_FORGET_THE_FAMILIES = """
DELETE FROM weekly_reports w USING accounts a
 WHERE a.id = w.account_id AND a.email NOT LIKE 'viewer-%' AND w.week_ending = $1
"""


def run(stage: BenchEnvironment) -> Figures:
    stage.open_sessions()
    stage.stop_service()
    began = time.monotonic()
    with stage.view.doing("making a year of the past", total=past.rows_of(stage.plan.children)) as advance:
        made = past.prepare(
            stage.folder, stage.postgres, stage.plan.children, viewers=stage.viewers.count, advance=advance
        )
    made_seconds = time.monotonic() - began
    asyncio.run(rows.mark_reports_prepared(made.url, at_ms=now_ms()))
    requests = _requests(stage, made)
    figures: Figures = {
        "children": made.children,
        "balances": made.balances,
        "sessions": made.sessions,
        "made_seconds": round(made_seconds, 1),
        "errors": 0,
    }
    with ExitStack() as ending:
        crew = ending.enter_context(stage.replace_service(SERVICE, flushes=True, database_url=made.url))
        # The baseline receives no heartbeats, so it is compared with a separate process of the service without
        # heartbeats.
        ours, theirs = (
            ending.enter_context(stage.start_beside(who, database_url=made.url)) for who in (SERVICE, N_PLUS_ONE)
        )
        stage.warm(crew)
        stage.load(crew, _beats(stage, seconds=1.5 * stage.flush_age_seconds))  # until flushes keep up
        asked = (
            ("history", crew, "history"),
            ("weekly", crew, "weekly"),
            ("preview", crew, "preview"),
            ("weekly_beside", ours, "weekly"),
            ("n_plus_one", theirs, "weekly"),
        )
        for _, target, kind in asked:
            asyncio.run(_send_once_each(target, requests[kind]))
        for name, target, kind in asked:
            found = _measured(stage, crew, target, requests[kind], f"{name} while players beat")
            figures |= {f"{name}_p50_ms": found["p50_ms"], f"{name}_p95_ms": found["p95_ms"]}
            figures["errors"] += found["errors"]
    figures["ratio_to_n_plus_one"] = round(figures["n_plus_one_p50_ms"] / figures["weekly_beside_p50_ms"], 2)
    with stage.view.doing("preparing weekly reports"):
        figures["prepared_per_second"] = asyncio.run(_prepared_per_second(made, stage.settings.weekend_days))
    return figures


def _measured(
    stage: BenchEnvironment, crew: ServiceProcesses, target: ServiceProcesses, requests: Sequence[bytes], what: str
) -> dict[str, Any]:
    """Latency of reports while heartbeats arrive at half the target rate."""
    seconds = max(MIN_SECONDS, stage.plan.sample_seconds)
    with stage.view.doing(what), stage.loading(crew, _beats(stage, seconds=seconds + STARTING_SECONDS)) as load:
        figures = openloop.probe_requests(
            target, stage.folder / "reports", requests, per_second=PER_SECOND, seconds=seconds, connections=CONNECTIONS
        )
        load.result()
    return figures


def _beats(stage: BenchEnvironment, *, seconds: float) -> Order:
    return Order(seconds=seconds, span=stage.plan.everybody, per_second=TARGET_PER_SECOND / 2)


async def _send_once_each(target: ServiceProcesses, requests: Sequence[bytes]) -> None:
    """Send each request over enough connections that every process has prepared every statement."""
    await asyncio.gather(*(_asked(target, requests[place::CONNECTIONS]) for place in range(CONNECTIONS)))


async def _asked(target: ServiceProcesses, requests: Sequence[bytes]) -> None:
    connection = await LoadConnection.opened(target.url)
    for request in requests:
        status, answer = await connection.send(request)
        if status != OK:
            raise BenchFailed(f"{request.split(b' HTTP')[0].decode()} answers {status}: {answer[:300].decode()}")
    connection.close()


def _requests(stage: BenchEnvironment, made: Dataset) -> dict[str, list[bytes]]:
    """The requests of some families: history of a child, weekly report, preview of a new limit."""
    tokens = tokens_of(stage.settings)
    asked = Random(4711).sample(range(made.accounts), min(ASKED_ABOUT, made.accounts))  # noqa: S311  a choice
    accounts = asyncio.run(ids_of(made, "family", asked))
    children = asyncio.run(ids_of(made, "child", [account * CHILDREN_AN_ACCOUNT + account % 10 for account in asked]))
    limits = json.dumps({"weekday_limit_minutes": 45, "weekend_limit_minutes": 45}).encode()
    requests: dict[str, list[bytes]] = {"history": [], "weekly": [], "preview": []}
    for account_id, profile_id in zip(accounts, children, strict=True):
        token = tokens.issue(
            account_id=account_id, role=Role.PARENT, at_s=now_ms() // 1000, life_seconds=TOKEN_LIFE_SECONDS
        )
        requests["history"].append(_request("GET", f"{API}/profiles/{profile_id}/history", token))
        requests["weekly"].append(_request("GET", f"{API}/weekly-report", token))
        requests["preview"].append(_request("POST", f"{API}/profiles/{profile_id}/viewing-time/preview", token, limits))
    return requests


def _request(method: str, path: str, token: str, body: bytes = b"") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: {HOST}\r\nAuthorization: Bearer {token}\r\n"
    content = f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n" if body else ""
    return f"{head}{content}\r\n".encode() + body


async def ids_of(made: Dataset, kind: str, numbers: Sequence[int]) -> list[str]:
    database = await asyncpg.connect(made.url)
    try:
        rows = await database.fetch(
            "SELECT md5($1 || number)::uuid::text FROM unnest($2::int[]) AS number", f"{kind} ", numbers
        )
    finally:
        await database.close()
    return [row[0] for row in rows]


async def _prepared_per_second(made: Dataset, weekend_days: Sequence[int]) -> float:
    """Children per second whose weekly reports are prepared."""
    today = utc(now_ms())
    midweek = today - timedelta(days=(today.weekday() - MIDWEEK) % 7)  # the week before has ended for all children
    await rows.mark_reports_prepared(made.url, at_ms=ms_of(midweek))
    database = await asyncpg.connect(made.url)
    await database.execute(_FORGET_THE_FAMILIES, last_sunday(midweek.date()))
    await database.close()
    engine = create_engine(made.url, pool_size=1, timeout_seconds=30)
    weekly = WeeklyReports(
        PostgresReports(engine, markets=Markets(Market(weekend_days=tuple(weekend_days)))),
        PostgresWeeklyReports(engine),
    )
    began = time.monotonic()
    accounts = await weekly.prepare(at_ms=ms_of(midweek))
    seconds = time.monotonic() - began
    await engine.dispose()
    return round(accounts * CHILDREN_AN_ACCOUNT / seconds, 1)


def summary(figures: Figures) -> str:
    errors = f", {figures['errors']} errors" if figures["errors"] else ""
    return (
        f"p95 history {figures['history_p95_ms']:.1f} ms, week of {CHILDREN_AN_ACCOUNT} children "
        f"{figures['weekly_p95_ms']:.1f} ms, preview {figures['preview_p95_ms']:.1f} ms; "
        f"{figures['ratio_to_n_plus_one']:.1f} times as quick as 2n+1 queries{errors}"
    )


PART = BenchPart(name="reports", run=run, summary=summary)
