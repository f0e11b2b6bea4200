"""Offline sync over HTTP: counted once, visible everywhere, and charged when the clock was wrong."""

import asyncio
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import httpx
import msgspec
from sqlalchemy import text

from app.clock import now_ms
from app.domain.counters import cold
from app.domain.policy import DayTerms
from app.postgres_store.usage import PostgresUsage
from app.timestamps import ms_of, rfc3339
from tests.scenes.api import Api
from tests.scenes.households import Household, registered_at_noon

MINUTE_MS, HOUR_MS, DAY_MS = 60_000, 3_600_000, 86_400_000


def batch(child: str, title: str, *ranges: tuple[int, int], at_ms: int | None = None, **fields: Any) -> dict[str, Any]:
    """A batch of time ranges given in minutes before now, or before another instant."""
    at_ms = at_ms or now_ms()
    intervals = [
        {
            "title_id": title,
            "started_at": rfc3339(at_ms - begin * MINUTE_MS),
            "ended_at": rfc3339(at_ms - end * MINUTE_MS),
            "watched_seconds": (begin - end) * 60,
        }
        for begin, end in ranges
    ]
    return {
        "profile_id": child,
        "device_id": "pad",
        "batch_id": uuid4().hex,
        "device_now": rfc3339(at_ms),
        "last_server_time": rfc3339(at_ms - 40 * MINUTE_MS),
        "intervals": intervals,
    } | fields


async def sync(api: Api, home: Household, body: dict[str, Any]) -> httpx.Response:
    return await api.http.post("/viewing-time/offline-sync", json=body, headers=home.as_player)


async def day_total(api: Api, home: Household, child: str) -> float:
    """Everything counted in the running day and the one before, as the history tells."""
    answer = await api.http.get(f"/parental-controls/profiles/{child}/history", headers=home.as_parent)
    assert answer.status_code == 200, answer.text
    return float(sum(day["total_seconds"] for day in answer.json()["days"]))


async def test_a_batch_is_credited_once_and_seen_by_the_other_process(api: Api, other_api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    await home.beat(child, title, on=other_api)
    body = batch(child, title, (30, 20), (25, 15))
    first = await sync(api, home, body)
    assert first.status_code == 200, first.text
    assert first.json()["credited_seconds"] == [600.0, 300.0]
    assert first.json()["tampered"] is False
    again = await sync(other_api, home, body)
    assert again.json()["credited_seconds"] == [600.0, 300.0]
    assert await day_total(api, home, child) == 900
    overlapping = await sync(api, home, batch(child, title, (35, 15)))
    assert overlapping.json()["credited_seconds"] == [300.0]
    assert await day_total(api, home, child) == 1200


async def test_twenty_copies_at_once_count_once(api: Api, other_api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    body = batch(child, title, (30, 20))
    answers = await asyncio.gather(*(sync(where, home, body) for where in (api, other_api) * 10))
    assert {tuple(answer.json()["credited_seconds"]) for answer in answers} == {(600.0,)}
    assert await day_total(api, home, child) == 600


async def test_a_moved_clock_counts_today(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    moved = batch(child, title, (30, 29), device_now=rfc3339(now_ms() - 3_600_000))
    answer = (await sync(api, home, moved)).json()
    assert answer["tampered"] is True
    assert answer["balance"]["used_seconds"] == sum(answer["credited_seconds"]) == 60


async def test_an_adults_batch_counts_nothing(api: Api) -> None:
    home = await registered_at_noon(api)
    adult, title = await home.adult(), await api.add_title()
    assert (await sync(api, home, batch(adult, title, (30, 20)))).json()["credited_seconds"] == [0.0]


async def test_what_does_not_fit_is_refused(api: Api) -> None:
    home, others = await registered_at_noon(api), await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    assert (await sync(api, others, batch(child, title, (30, 20)))).status_code == 403
    for broken in (
        batch(child, title, (20, 30)),
        batch(child, title, batch_id=""),
        batch(child, title, intervals=[{}]),
        batch(child, title, device_now="yesterday"),
        batch(child, title, device_now="2026-01-01T00:00:00"),
        batch(child, title, unknown=1),
        batch(child, title, *[(30, 20)] * 501),
    ):
        answer = await sync(api, home, broken)
        assert answer.status_code == 422, answer.text
        assert answer.json()["errors"]


async def test_what_the_next_beat_of_a_running_session_counts_is_not_counted_before(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    counters = api.services.counters
    counters.at_ms = now_ms() - 6 * MINUTE_MS
    session_id = (await home.beat(child, title)).json()["session_id"]
    counters.at_ms += 2 * MINUTE_MS
    await home.beat(child, title, session_id=session_id)
    counters.at_ms = 0
    synced = (await sync(api, home, batch(child, title, (3, 0)))).json()
    assert synced["credited_seconds"] == [0.0]
    moved = batch(child, title, (600, 0), device_now=rfc3339(now_ms() - 3_600_000), last_server_time=rfc3339(0))
    assert (await sync(api, home, moved)).json()["tampered"] is True
    await home.beat(child, title, session_id=session_id)
    balance = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)).json()
    day_began = datetime.fromisoformat(balance["next_reset_at"]) - timedelta(days=1)
    assert balance["used_seconds"] + balance["overrun_seconds"] <= now_ms() / 1000 - day_began.timestamp()


async def test_what_was_synced_is_not_claimed_again_by_a_session_that_was_silent_meanwhile(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    began_ms = now_ms() - 40 * MINUTE_MS
    counters = api.services.counters
    try:
        counters.at_ms = began_ms
        session_id = (await home.beat(child, title)).json()["session_id"]
        counters.at_ms = began_ms + 40 * MINUTE_MS
        synced = (await sync(api, home, batch(child, title, (35, 10), at_ms=counters.at_ms))).json()
        assert synced["credited_seconds"] == [1500.0]
        answer = (await home.beat(child, title, session_id=session_id, watched_seconds=2400)).json()
        assert answer["used_seconds"] == 2400
    finally:
        counters.at_ms = 0


async def test_a_session_that_no_beat_has_brought_over_the_reset_yet_is_not_counted_again(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    before = (await api.http.get(f"/viewing-time/balance/{child}", headers=home.as_player)).json()
    reset_ms = ms_of(datetime.fromisoformat(before["next_reset_at"]))
    counters = api.services.counters
    try:
        counters.at_ms = reset_ms - 5 * MINUTE_MS
        session_id = (await home.beat(child, title)).json()["session_id"]
        counters.at_ms = reset_ms - MINUTE_MS
        await home.beat(child, title, session_id=session_id)
        counters.at_ms = reset_ms + MINUTE_MS
        why = (await api.http.get(f"/viewing-time/why/{child}", headers=home.as_parent)).json()
        assert (why["used_seconds"], why["session"]["credited_seconds"]) == (0, 240)
        synced = (await sync(api, home, batch(child, title, (5, 0), at_ms=counters.at_ms))).json()
        assert (synced["tampered"], synced["credited_seconds"]) == (False, [0.0])
        balance = (await home.beat(child, title, session_id=session_id)).json()
        assert balance["used_seconds"] == 60
    finally:
        counters.at_ms = 0


async def test_a_session_that_ended_just_now_is_not_counted_again(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    began_ms = now_ms() - 20 * MINUTE_MS
    counters = api.services.counters
    counters.at_ms = began_ms
    session_id = (await home.beat(child, title)).json()["session_id"]
    for _ in range(2):
        counters.at_ms += 5 * MINUTE_MS
        await home.beat(child, title, session_id=session_id)
    await home.beat(child, title, device_id="another")  # takes over: the first waits to be flushed
    counters.at_ms = 0
    body = batch(child, title, (20, 5))
    answer = await sync(api, home, body)
    assert answer.json()["tampered"] is False
    assert abs(answer.json()["credited_seconds"][0] - 300) < 5  # of 15 minutes, 10 were counted by beats


async def test_what_a_flushed_session_did_not_count_is_credited(api: Api) -> None:
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    at_ms = now_ms()
    day = DayTerms(at_ms // DAY_MS, at_ms - 12 * HOUR_MS, at_ms + 12 * HOUR_MS, -1, -1)
    blank = cold(terms=day, policy_version=1, at_ms=at_ms)
    paused = msgspec.structs.replace(
        blank,
        session_id=str(uuid4()),
        session_started_ms=at_ms - 60 * MINUTE_MS,
        last_beat_ms=at_ms - 10 * MINUTE_MS,
        uncounted=(at_ms - 50 * MINUTE_MS, at_ms - 30 * MINUTE_MS, at_ms - 20 * MINUTE_MS, at_ms - 15 * MINUTE_MS),
        has_ended=1,
    )
    later = msgspec.structs.replace(
        blank, session_id=str(uuid4()), session_started_ms=at_ms - 5000, last_beat_ms=at_ms - 5000, has_ended=1
    )
    await PostgresUsage(api.services.engine, now_ms).upsert([(child, paused), (child, later)])
    answer = await sync(api, home, batch(child, title, (55, 12), at_ms=at_ms, last_server_time=rfc3339(at_ms - DAY_MS)))
    assert answer.json()["credited_seconds"] == [25 * 60], answer.text


async def test_a_batch_of_days_without_partitions_is_credited(api: Api) -> None:
    """The worker was away for weeks, or a clock leapt: nobody made them in time."""
    home = await registered_at_noon(api)
    child, title = await home.child(), await api.add_title()
    async with api.services.engine.begin() as database:
        found = await database.execute(
            text("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'viewing_time_balances'::regclass")
        )
        for name in found.scalars().all():
            await database.execute(text(f"DROP TABLE {name}"))
    body = batch(child, title, (30, 20))
    first = await sync(api, home, body)
    assert first.status_code == 200, first.text
    assert first.json()["credited_seconds"] == [600.0]
    assert (await sync(api, home, body)).json()["credited_seconds"] == [600.0]
    assert await day_total(api, home, child) == 600
