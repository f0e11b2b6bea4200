"""How long parents wait for a report about a year of data, while their children's players beat."""

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
from app.bench import openloop, past, rows
from app.bench.client import Connection
from app.bench.crew import SERVICE, Crew
from app.bench.failures import BenchFailed
from app.bench.load import Order
from app.bench.parts.part import Figures, Part
from app.bench.past import CHILDREN_AN_ACCOUNT, Past
from app.bench.plan import TARGET_PER_SECOND
from app.bench.stage import TOKEN_LIFE_SECONDS, Stage
from app.bench.viewers import HOST
from app.clock import now_ms
from app.instants import ms_of, utc
from app.postgres_store.engine import create_engine
from app.postgres_store.reports import PostgresReports
from app.postgres_store.weekly_reports import PostgresWeeklyReports
from app.reports.weekly import WeeklyReports, last_sunday
from app.wiring import tokens_of

RIVAL = ("rival", "n_plus_one")
API = "/api/v1/parental-controls"
PER_SECOND = 20
LEAST_SECONDS = 2.0
CONNECTIONS = 4
ASKED_ABOUT = 200
STARTING_SECONDS = 1.5
OK = 200
MIDWEEK = 2
_FORGET_THE_FAMILIES = """
DELETE FROM weekly_reports w USING accounts a
 WHERE a.id = w.account_id AND a.email NOT LIKE 'viewer-%' AND w.week_ending = $1
"""


def run(stage: Stage) -> Figures:
    stage.open_sessions()
    stage.dismiss()
    began = time.monotonic()
    with stage.view.doing("making a year of the past", total=past.rows_of(stage.plan.children)) as advance:
        made = past.prepare(
            stage.folder, stage.postgres, stage.plan.children, viewers=stage.viewers.count, advance=advance
        )
    made_seconds = time.monotonic() - began
    asyncio.run(rows.note_as_prepared(made.url, at_ms=now_ms()))
    requests = _requests(stage, made)
    figures: Figures = {
        "children": made.children,
        "balances": made.balances,
        "sessions": made.sessions,
        "made_seconds": round(made_seconds, 1),
        "errors": 0,
    }
    with ExitStack() as ending:
        crew = ending.enter_context(stage.instead(SERVICE, flushes=True, database_url=made.url))
        # The rival takes no heartbeats: it is compared with a process of ours that takes none either.
        ours, rival = (ending.enter_context(stage.beside(who, database_url=made.url)) for who in (SERVICE, RIVAL))
        stage.warm(crew)
        stage.load(crew, _beats(stage, seconds=1.5 * stage.flush_age_seconds))  # until as much is flushed as beats
        asked = (
            ("history", crew, "history"),
            ("weekly", crew, "weekly"),
            ("preview", crew, "preview"),
            ("weekly_beside", ours, "weekly"),
            ("n_plus_one", rival, "weekly"),
        )
        for _, target, kind in asked:
            asyncio.run(_asked_once(target, requests[kind]))
        for name, target, kind in asked:
            found = _probed(stage, crew, target, requests[kind], f"{name} while players beat")
            figures |= {f"{name}_p50_ms": found["p50_ms"], f"{name}_p95_ms": found["p95_ms"]}
            figures["errors"] += found["errors"]
    figures["ratio_to_n_plus_one"] = round(figures["n_plus_one_p50_ms"] / figures["weekly_beside_p50_ms"], 2)
    with stage.view.doing("preparing weekly reports"):
        figures["prepared_per_second"] = asyncio.run(_prepared_per_second(made, stage.settings.weekend_days))
    return figures


def _probed(stage: Stage, crew: Crew, target: Crew, requests: Sequence[bytes], what: str) -> dict[str, Any]:
    """Latency of reports while beats come at half the rate that the service is built for."""
    seconds = max(LEAST_SECONDS, stage.plan.sample_seconds)
    with stage.view.doing(what), stage.loading(crew, _beats(stage, seconds=seconds + STARTING_SECONDS)) as load:
        figures = openloop.probe_requests(
            target, stage.folder / "reports", requests, per_second=PER_SECOND, seconds=seconds, connections=CONNECTIONS
        )
        load.result()
    return figures


def _beats(stage: Stage, *, seconds: float) -> Order:
    return Order(seconds=seconds, span=stage.plan.everybody, per_second=TARGET_PER_SECOND / 2)


async def _asked_once(target: Crew, requests: Sequence[bytes]) -> None:
    """Each request by itself, over so many connections that every process of a crew has met every statement."""
    await asyncio.gather(*(_asked(target, requests[place::CONNECTIONS]) for place in range(CONNECTIONS)))


async def _asked(target: Crew, requests: Sequence[bytes]) -> None:
    connection = await Connection.opened(target.url)
    for request in requests:
        status, answer = await connection.send(request)
        if status != OK:
            raise BenchFailed(f"{request.split(b' HTTP')[0].decode()} answers {status}: {answer[:300].decode()}")
    connection.close()


def _requests(stage: Stage, made: Past) -> dict[str, list[bytes]]:
    """What parents of some families ask for: the history of a child, the report, and what a new limit would mean."""
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


async def ids_of(made: Past, kind: str, numbers: Sequence[int]) -> list[str]:
    database = await asyncpg.connect(made.url)
    try:
        rows = await database.fetch(
            "SELECT md5($1 || number)::uuid::text FROM unnest($2::int[]) AS number", f"{kind} ", numbers
        )
    finally:
        await database.close()
    return [row[0] for row in rows]


async def _prepared_per_second(made: Past, weekend_days: Sequence[int]) -> float:
    """How many children of the families have their weekly reports prepared in a second."""
    today = utc(now_ms())
    midweek = today - timedelta(days=(today.weekday() - MIDWEEK) % 7)  # the week before has ended for everybody
    await rows.note_as_prepared(made.url, at_ms=ms_of(midweek))
    database = await asyncpg.connect(made.url)
    await database.execute(_FORGET_THE_FAMILIES, last_sunday(midweek.date()))
    await database.close()
    engine = create_engine(made.url, pool_size=1, timeout_seconds=30)
    weekly = WeeklyReports(PostgresReports(engine, weekend_days=weekend_days), PostgresWeeklyReports(engine))
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


PART = Part(name="reports", run=run, summary=summary)
