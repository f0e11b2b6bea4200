"""The event feed: what parents and children do is told once, in order, and without names."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Any

import httpx
import msgspec
import pytest
from sqlalchemy import func, select

from app.auth.tokens import Role
from app.domain.feed import FeedEvent, ReportReady
from app.domain.retention import RetentionPolicy
from app.embedded.valkey import Valkey
from app.feed.schemas import FeedAnswer
from app.postgres_store import tables
from app.postgres_store.engine import create_engine
from app.postgres_store.feed import FeedWriter, PostgresFeed
from app.postgres_store.partitions import make_partitions
from app.postgres_store.retention import PostgresRetention
from app.privacy.retention import retain
from tests.builders import settings_for
from tests.rows import DAY_MS
from tests.scenes.api import NOON, Api, SetClock, opened
from tests.scenes.households import PASSWORD, Household, registered

NAME = "Zerubbabel"
FEED = FeedWriter(is_on=True)


@pytest.fixture
async def fed(database_url: str, valkey: Valkey, clock: SetClock) -> AsyncIterator[Api]:
    """The API with the feed on, and nothing in it yet."""
    settings = settings_for(database_url=database_url, redis_url=valkey.url, event_feed=True)
    async with opened(settings, clock) as api:
        await make_partitions(api.services.engine, at_ms=NOON)
        yield api


@pytest.fixture
async def start(fed: Api) -> str:
    """The cursor behind everything that was written before."""
    return (await _pull(fed))[1]


async def _get(api: Api, **params: Any) -> httpx.Response:
    return await api.signed_in("platform", Role.SERVICE).get("/platform/events", params=params)


async def _pull(api: Api, after: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """All events after a cursor, and the last cursor."""
    events: list[dict[str, Any]] = []
    while True:
        answer = await _get(api, limit=50, **({} if after is None else {"after": after}))
        assert answer.status_code == 200, answer.text
        msgspec.json.decode(answer.content, type=FeedAnswer)
        after = answer.json()["next"]
        if not answer.json()["events"]:
            assert after is not None
            return events, after
        events += answer.json()["events"]


async def _told(api: Api, after: str) -> list[tuple[str, dict[str, Any]]]:
    """The events after a cursor: type without prefix, and data without its owner."""
    events, _ = await _pull(api, after)
    owner = {"account_id", "profile_id", "external_account_id", "external_profile_id"}
    return [
        (event["type"].removeprefix("hourglass."), {k: v for k, v in event["data"].items() if k not in owner})
        for event in events
    ]


async def test_extra_time_is_told_in_order(fed: Api, start: str) -> None:
    family = await registered(fed)
    child = await family.child(name=NAME)
    controls = f"/parental-controls/profiles/{child}"
    asked = await family.player.post(f"{controls}/requests", json={"minutes": 30, "note": f"{NAME} asks"})
    request_id = asked.json()["request_id"]
    approved = await family.parent.post(f"{controls}/requests/{request_id}/approve")
    assert approved.status_code == 200, approved.text
    grant_id = approved.json()["grant_id"]
    await family.parent.delete(f"{controls}/grants/{grant_id}")
    given = await family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": None})
    assert await _told(fed, start) == [
        (
            "request.created",
            {"request_id": request_id, "day": "2026-03-02", "minutes": 30, "expires_at": "2026-03-03T05:00:00Z"},
        ),
        ("grant.given", {"grant_id": grant_id, "day": "2026-03-02", "minutes": 30, "is_remote": True}),
        ("request.answered", {"request_id": request_id, "status": "approved", "grant_id": grant_id}),
        ("grant.revoked", {"grant_id": grant_id, "day": "2026-03-02"}),
        (
            "grant.given",
            {"grant_id": given.json()["grant_id"], "day": "2026-03-02", "minutes": None, "is_remote": True},
        ),
    ]
    events, _ = await _pull(fed, start)
    assert {event["subject"] for event in events} == {child}
    assert [event["sequence"] for event in events] == sorted(event["sequence"] for event in events)
    assert events[0]["time"] == "2026-03-02T12:00:00.000Z"
    assert events[0]["data"]["account_id"] == family.id
    assert NAME not in str(events)


async def test_pauses_are_told_when_they_begin_move_and_are_lifted(fed: Api, start: str) -> None:
    family = await registered(fed)
    path = f"/parental-controls/profiles/{await family.child()}/viewing-time/pause"
    for minutes in (30, None, None):
        assert (await family.parent.post(path, json={"minutes": minutes})).status_code == 200
    for _ in range(2):
        assert (await family.parent.delete(path)).status_code == 200
    assert await _told(fed, start) == [
        ("pause.begun", {"paused_until": "2026-03-02T12:30:00Z"}),
        ("pause.begun", {"paused_until": "2026-03-03T05:00:00Z"}),
        ("pause.lifted", {}),
    ], "what changes nothing is not told"


async def test_what_is_repeated_is_told_once(fed: Api, start: str) -> None:
    family = await registered(fed)
    controls = f"/parental-controls/profiles/{await family.child()}"
    key = {"Idempotency-Key": "once"}
    for _ in range(2):
        await family.player.post(f"{controls}/requests", json={"minutes": 15})  # a double tap
        await family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15}, headers=key)
    request_id = (await family.parent.get(f"{controls}/requests")).json()["requests"][0]["request_id"]
    for _ in range(2):
        await family.parent.post(f"{controls}/requests/{request_id}/deny")
    grant_id = (await family.parent.get(f"{controls}/grants")).json()["grants"][0]["grant_id"]
    for _ in range(2):
        await family.parent.delete(f"{controls}/grants/{grant_id}")
    kinds = [kind for kind, _ in await _told(fed, start)]
    assert kinds == ["request.created", "grant.given", "request.answered", "grant.revoked"]


async def test_a_refused_call_tells_nothing(fed: Api, start: str) -> None:
    family = await registered(fed)
    child = await family.child()
    controls = f"/parental-controls/profiles/{child}"
    assert (await family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 7})).status_code == 422
    stale = await family.parent.put(f"{controls}/viewing-time", json={"reset_hour": 7}, headers={"If-Match": '"9"'})
    assert stale.status_code == 412
    assert await _told(fed, start) == []


async def test_changed_settings_are_named(fed: Api, start: str) -> None:
    family = await registered(fed)
    child = await family.child()
    path, version = f"/parental-controls/profiles/{child}/viewing-time", {"If-Match": '"1"'}
    saved = await family.parent.put(path, json={"reset_hour": 7, "weekly_limit_minutes": 600}, headers=version)
    assert saved.status_code == 200, saved.text
    await family.parent.patch(f"/profiles/{child}", json={"timezone": "Europe/Lisbon"})
    assert await _told(fed, start) == [
        ("config.changed", {"version": 2, "changed": ["reset_hour", "limits_reviewed", "weekly_limit_minutes"]}),
        ("config.changed", {"version": 3, "changed": ["timezone"]}),
    ]


async def test_an_erasure_removes_the_events_and_tells_of_itself(fed: Api, start: str) -> None:
    family = await registered(fed)
    child, sister = await family.child(name=NAME), await family.child()
    for profile in (child, sister):
        controls = f"/parental-controls/profiles/{profile}"
        await family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15})
    await family.parent.delete(f"/profiles/{child}")
    events, _ = await _pull(fed, start)
    assert [(event["type"], event["subject"]) for event in events] == [
        ("hourglass.grant.given", sister),
        ("hourglass.profile.erased", child),
    ]
    ready = FeedEvent(facts=ReportReady(week_ending=date(2026, 3, 1)), cause=("x",), at_ms=NOON, account_id=family.id)
    async with fed.services.engine.begin() as database:
        await FEED.write(database, ready, at_ms=NOON)
    answer = await family.parent.request("DELETE", "/account", json={"password": PASSWORD})
    assert answer.status_code == 200, answer.text
    events, _ = await _pull(fed, start)
    assert [(event["type"], event["subject"]) for event in events] == [
        ("hourglass.profile.erased", child),
        ("hourglass.profile.erased", sister),
    ]


async def test_an_event_of_an_erased_profile_is_not_written(fed: Api, start: str) -> None:
    family = await registered(fed)
    child = await family.child()
    await family.parent.delete(f"/profiles/{child}")
    late = FeedEvent(facts=ReportReady(week_ending=date(2026, 3, 1)), cause=("l",), at_ms=NOON, profile_id=child)
    async with fed.services.engine.begin() as database:
        await FEED.write(database, late, at_ms=NOON)
    assert [kind for kind, _ in await _told(fed, start)] == ["profile.erased"]


async def test_the_platform_finds_its_own_ids(fed: Api, start: str) -> None:
    service = fed.signed_in("platform", Role.SERVICE)
    account, profile = f'"quoted"\\{start}', "kid/ü"
    address = f"/platform/accounts/{httpx.URL('', params={'a': account}).query.decode()[2:].replace('+', '%20')}"
    assert (await service.put(address, json={"timezone": "Europe/Oslo"})).status_code == 201
    made = await service.put(f"{address}/profiles/kid%2F%C3%BC", json={"name": NAME, "is_kids": True})
    assert made.status_code == 201, made.text
    await service.delete(f"{address}/profiles/kid%2F%C3%BC")
    (event,), _ = await _pull(fed, start)
    assert event["data"] == {
        "account_id": event["data"]["account_id"],
        "profile_id": made.json()["profile_id"],
        "external_account_id": account,
        "external_profile_id": profile,
    }


async def test_a_wrong_device_clock_is_told(fed: Api, start: str) -> None:
    family = await registered(fed)
    child = await family.child()
    title = [{"id": "film", "name": "A film", "is_educational": False}]
    await fed.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=title)
    batch = {
        "profile_id": child,
        "device_id": "pad",
        "batch_id": "b1",
        "device_now": "2026-03-02T12:00:00Z",
        "last_server_time": "2026-03-02T14:00:00Z",
        "intervals": [
            {
                "title_id": "film",
                "started_at": "2026-03-02T10:00:00Z",
                "ended_at": "2026-03-02T10:30:00Z",
                "watched_seconds": 1800,
            }
        ],
    }
    for _ in range(2):
        answer = await family.player.post("/viewing-time/offline-sync", json=batch)
        assert answer.status_code == 200, answer.text
        assert answer.json()["tampered"]
    told = await _told(fed, start)
    assert [kind for kind, _ in told] == ["tampering.suspected"]
    assert told[0][1]["reason"] == "clock_moved"


async def test_only_services_may_pull(fed: Api) -> None:
    for role in (Role.HOUSEHOLD, Role.PARENT, Role.ADMIN):
        assert (await fed.signed_in("x", role).get("/platform/events")).status_code == 403


async def test_the_feed_is_off_by_default(api: Api) -> None:
    family: Household = await registered(api)
    controls = f"/parental-controls/profiles/{await family.child()}"
    before = await _count(api)
    assert (await family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15})).status_code == 201
    assert await _count(api) == before
    answer = await _get(api)
    assert (answer.status_code, answer.json()["code"]) == (409, "event_feed_off")


async def _count(api: Api) -> int:
    async with api.services.engine.connect() as database:
        return int((await database.execute(select(func.count()).select_from(tables.feed_events))).scalar_one())


@pytest.mark.parametrize("cursor", ["x", "-1", "1.5", "٣", str(2**63), ""])
async def test_an_invented_cursor_is_refused(fed: Api, cursor: str) -> None:
    answer = await _get(fed, after=cursor)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_a_cursor_that_is_too_old_or_ahead_has_expired(fed: Api, start: str) -> None:
    family = await registered(fed)
    controls = f"/parental-controls/profiles/{await family.child()}"
    for _ in range(3):
        await family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15})
    _, end = await _pull(fed, start)
    week = RetentionPolicy(feed_days=7)
    await retain(PostgresRetention(fed.services.engine), retention_policy=week, at_ms=NOON + 7 * DAY_MS)
    assert len(await _told(fed, start)) == 3
    await retain(PostgresRetention(fed.services.engine), retention_policy=week, at_ms=NOON + 7 * DAY_MS + 1)
    for cursor in (start, str(int(end) - 1), str(int(end) + 1)):
        answer = await _get(fed, after=cursor)
        assert (answer.status_code, answer.json()["code"]) == (410, "cursor_expired")
    assert await _pull(fed, end) == ([], end)
    assert await _pull(fed) == ([], end)


async def test_a_consumer_waits_for_the_next_event(fed: Api, start: str) -> None:
    family = await registered(fed)
    controls = f"/parental-controls/profiles/{await family.child()}"
    empty = await _get(fed, after=start, wait_seconds=0.3)
    assert empty.json() == {"events": [], "next": start}
    waiting = asyncio.create_task(_get(fed, after=start, wait_seconds=10))
    await asyncio.sleep(0.1)
    assert not waiting.done()
    await family.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15})
    answer = await asyncio.wait_for(waiting, 5)
    assert [event["type"] for event in answer.json()["events"]] == ["hourglass.grant.given"]


async def test_no_event_is_passed_by_a_reader_while_transactions_commit_late(
    fed: Api, start: str, database_url: str
) -> None:
    """Writers hold their transactions for different times, and a reader pulls all the while."""
    family = await registered(fed)
    engine = create_engine(database_url, pool_size=10, timeout_seconds=60)
    written: list[str] = []

    async def write(number: int) -> None:
        facts = ReportReady(week_ending=date(2026, 3, 1))
        event = FeedEvent(facts=facts, cause=("late", start, number), at_ms=NOON, account_id=family.id)
        async with engine.begin() as database:
            await FEED.write(database, event, at_ms=NOON)
            await asyncio.sleep(number * 37 % 50 / 1000)
        written.append(event.event_id)

    seen: list[str] = []

    async def read(writers: "asyncio.Future[Any]") -> None:
        cursor, count = start, 0
        while not writers.done() or count < len(written):  # an empty page may only say that another reader numbers
            answer = (await _get(fed, after=cursor, limit=7)).json()
            cursor = answer["next"]
            count += len(answer["events"])
            seen.extend(event["id"] for event in answer["events"])

    writers = asyncio.gather(*(write(number) for number in range(100)))
    async with asyncio.timeout(60):
        await asyncio.gather(read(writers), read(writers))
    await engine.dispose()
    assert sorted(seen) == sorted(written * 2)


async def test_two_numbering_processes_give_each_position_once(fed: Api, start: str) -> None:
    family = await registered(fed)
    events = [
        FeedEvent(
            facts=ReportReady(week_ending=date(2026, 3, 1)), cause=("n", start, n), at_ms=NOON, account_id=family.id
        )
        for n in range(300)
    ]
    async with fed.services.engine.begin() as database:
        await FEED.write(database, *events, at_ms=NOON)
    feed = PostgresFeed(fed.services.engine)
    assert sum(await asyncio.gather(*(feed.number() for _ in range(3)))) == 300
    page = await feed.after(int(start), most=1000)
    assert [event.event_id for event in page.events] == [event.event_id for event in events]
    assert [event.position for event in page.events] == list(range(int(start) + 1, int(start) + 301))
