"""The export of a child is complete, streamed and only for parents."""

from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import insert

from app.auth.tokens import Role
from app.postgres_store import tables
from app.postgres_store.partitions import make_partitions
from app.postgres_store.profile_tables import KINDS
from app.timestamps import utc
from tests.rows import DAY_MS, start_of
from tests.scenes.api import NOON, Api
from tests.scenes.households import Household, registered
from tests.statements import statements_of

TODAY = date(2026, 3, 2)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def _partitions(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON, days_back=366)


async def _export(family: Household, child: str) -> dict[str, Any]:
    answer = await family.parent.get(f"/parental-controls/profiles/{child}/export")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert "attachment" in answer.headers["content-disposition"]
    exported: dict[str, Any] = answer.json()
    return exported


async def test_it_holds_every_row_of_every_table(api: Api) -> None:
    family = await registered(api)
    child, sister = await family.child(name="Ada"), await family.child(name="Bo")
    rows = api.rows
    title = await rows.title(f"film-{uuid4()}", "The Film")
    for age in range(3):
        await rows.balance(child, TODAY - age * DAY, used_ms=60_000 * age)
        started_ms = start_of(TODAY - age * DAY, 8)
        await rows.session(child, TODAY - age * DAY, started_ms=started_ms, used_ms=60_000, title_id=title)
    await rows.session(sister, TODAY, started_ms=start_of(TODAY, 8), used_ms=1)
    await rows.grant(child, TODAY, 15, at_ms=NOON)
    at = utc(NOON)
    request = {"id": str(uuid4()), "profile_id": child, "day": TODAY, "minutes": 15, "note": "please"}
    await rows.add(tables.extra_time_requests, request | {"requested_at": at, "expires_at": at})
    batch = {"profile_id": child, "batch_id": "b", "device_id": "pad", "is_tampered": False, "credited_ms": [1]}
    await rows.add(tables.offline_batches, batch | {"synced_at": at})
    hint = {"profile_id": child, "day": TODAY, "session_id": str(uuid4()), "kind": "clock_moved", "device_id": "pad"}
    await rows.add(tables.tamper_hints, hint | {"noted_at": at})
    interval = {"profile_id": child, "title_id": title, "starts_ms": 1, "ends_ms": 2, "credited_ms": 1}
    await rows.add(tables.offline_intervals, interval)
    parked = {"profile_id": child, "source": child, "counters": {"used": 1}, "error": "-", "parked_at": at}
    await rows.add(tables.parked_rows, parked)
    key = {"account_id": family.id, "profile_id": child, "key": "k", "request_digest": b"\xff", "created_at": at}
    await rows.add(tables.idempotency_keys, key)
    told = {"id": str(uuid4()), "kind": "grant.given", "account_id": family.id, "profile_id": child, "facts": {}}
    await rows.add(tables.feed_events, told | {"occurred_at": at, "written_at": at})
    running = {"session_id": str(uuid4()), "profile_id": child, "day": TODAY, "started_at": at}
    await rows.add(tables.feed_open_sessions, running)
    await rows.add(tables.feed_open_days, {"profile_id": child, "day": TODAY, "ends_ms": NOON})
    week = {"children": [{"profile_id": sister}, {"profile_id": child, "profile_name": "Ada"}]}
    report = {"account_id": family.id, "week_ending": TODAY, "report": week, "as_of": at, "changes": 0}
    await rows.add(tables.weekly_reports, report)

    exported = await _export(family, child)

    assert set(exported) == {"exported_at", "profile", "counters", "weekly_reports", *KINDS}
    assert exported["profile"]["name"] == "Ada"
    assert {kind: len(exported[kind]) for kind in KINDS} == dict.fromkeys(KINDS, 1) | {"sessions": 3, "balances": 3}
    assert [balance["used_ms"] for balance in exported["balances"]] == [120_000, 60_000, 0]
    assert {session["title_name"] for session in exported["sessions"]} == {"The Film"}
    assert exported["offline_intervals"][0]["title_name"] == "The Film"
    assert exported["requests"][0]["note"] == "please"
    assert [row["report"]["profile_name"] for row in exported["weekly_reports"]] == ["Ada"]
    assert exported["settings"][0]["weekday_limit_minutes"] == 120
    for name, kind in KINDS.items():
        columns = {column.name for column in kind.table.c} - {"profile_id"}
        assert columns <= set(exported[name][0]), f"{name} lacks columns"
    assert sister not in str(exported)


async def test_what_is_not_flushed_yet_is_in_it(api: Api) -> None:
    family = await registered(api)
    child = await family.child()
    title = [{"id": "moon-pirates", "name": "Moon Pirates", "is_educational": False}]
    await api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=title)
    for device in ("tv", "phone"):
        beat = {"profile_id": child, "title_id": "moon-pirates", "device_id": device}
        assert (await family.player.post("/viewing-time/heartbeat", json=beat)).status_code == 200
    exported = await _export(family, child)
    assert sorted(counters["device_id"] for counters in exported["counters"]) == ["phone", "tv"]


async def test_only_its_parents_get_it(api: Api) -> None:
    family, stranger = await registered(api), await registered(api)
    child = await family.child()
    path = f"/parental-controls/profiles/{child}/export"
    assert (await family.player.get(path)).json()["code"] == "pin_required"
    assert (await stranger.parent.get(path)).json()["code"] == "profile_access_denied"
    assert (await family.parent.get("/parental-controls/profiles/x/export")).status_code == 403


async def test_it_is_read_and_sent_page_by_page(api: Api) -> None:
    family = await registered(api)
    child = await family.child()
    sessions = await _many_sessions(api, child, 2000)
    with statements_of(api.services.engine) as sent:
        pieces = [
            (len(piece), len([s for s in sent if "viewing_sessions" in s]))
            async for piece in await api.services.privacy.export.of_profile(family.id, child)
        ]
    whole = sum(size for size, _ in pieces)
    assert whole > 500_000
    assert max(size for size, _ in pieces) < whole / 5
    assert {read for _, read in pieces} == set(range(10)), "no page is read before the one before it was taken"
    exported = await _export(family, child)
    found = [session["id"] for session in exported["sessions"]]
    assert len(found) == 2000
    assert set(found) == sessions


async def _many_sessions(api: Api, child: str, count: int) -> set[str]:
    """Sessions of 90 days, ten of them always at the same instant."""
    at_ms = [NOON - (place // 10) * (90 * DAY_MS * 10 // count) for place in range(count)]
    part = {
        "profile_id": child, "title_id": "film", "is_educational": False, "device_id": "tv-1", "device_type": "tv",
        "has_ended": True, "paused_since_ms": 0, "watched_ms": -1, "used_ms": 60_000, "educational_ms": 0,
        "overrun_ms": 0, "earlier_ms": 0, "version": 1,
    }  # fmt: skip
    rows = [
        {"id": str(uuid4()), "day": utc(ms).date(), "started_at": utc(ms), "session_started_ms": ms, "last_beat_ms": ms}
        for ms in at_ms
    ]
    async with api.services.engine.begin() as database:
        await database.execute(insert(tables.viewing_sessions), [part | row for row in rows])
    return {str(row["id"]) for row in rows}
