"""Finishing a title on real servers: what heartbeats, balance, why, history and syncs say, a loss of Redis included."""

from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.postgres_store.partitions import make_partitions
from app.timestamps import rfc3339
from app.wiring.worker import open_worker
from tests.rows import DAY_MS
from tests.scenes.api import NOON, Api

MINUTE = 60_000
HOUR = 60 * MINUTE
D = NOON - 6 * HOUR
"""Monday, 06:00 UTC: where the viewing days of these children begin."""
FILM, SHOW = "finished-film", "finished-show"


@pytest.fixture(autouse=True)
async def _ready(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON)
    for title_id in (FILM, SHOW):
        await api.rows.title_once(title_id, is_educational=False)


@dataclass
class Child:
    """A child with 60 minutes a day that may finish titles within 15 minutes, and a player that tells what is left."""

    api: Api
    id: str
    account_id: str
    http: httpx.AsyncClient
    at_ms: int = D
    session_id: str | None = None
    title: str = FILM
    ends_ms: int = 0
    told: dict[str, Any] = field(default_factory=dict)

    def is_now(self, at_ms: int) -> None:
        self.at_ms = at_ms
        self.api.set_clock(at_ms)

    async def saves(self, **settings: Any) -> None:
        path = f"/parental-controls/profiles/{self.id}/viewing-time"
        etag = (await self.http.get(path)).headers["ETag"]
        answer = await self.http.put(path, json=settings, headers={"If-Match": etag})
        assert answer.status_code == 200, answer.text

    def body(self, **fields: Any) -> dict[str, Any]:
        body = {
            "profile_id": self.id, "title_id": self.title, "device_id": "tv-1", "device_type": "tv",
            "title_remaining_seconds": max(0, self.ends_ms - self.at_ms) / 1000,
        }  # fmt: skip
        return body | ({} if self.session_id is None else {"session_id": self.session_id}) | fields

    async def beat(self, **fields: Any) -> dict[str, Any]:
        answer = await self.http.post("/viewing-time/heartbeat", json=self.body(**fields))
        assert answer.status_code == 200, answer.text
        self.told = answer.json()
        self.session_id = self.told["session_id"]
        return self.told

    async def opens(self, at_ms: int, *, lasts: int, title: str = FILM) -> None:
        self.is_now(at_ms)
        self.session_id, self.title, self.ends_ms = None, title, at_ms + lasts * MINUTE
        await self.beat()

    async def plays(self, minutes: int) -> None:
        until_ms = self.at_ms + minutes * MINUTE
        while self.at_ms < until_ms:
            self.is_now(min(until_ms, self.at_ms + 5 * MINUTE))
            await self.beat()

    async def reads(self, path: str, **params: Any) -> dict[str, Any]:
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        return found

    async def balance(self) -> dict[str, Any]:
        return await self.reads(f"/viewing-time/balance/{self.id}")

    async def minutes(self) -> tuple[float | None, float, float]:
        """Minutes that remain, that are borrowed and that are owed, by the balance."""
        found = await self.balance()
        left = found["remaining_seconds"]
        return None if left is None else left / 60, found["borrowed_seconds"] / 60, found["owed_seconds"] / 60

    async def is_flushed(self) -> None:
        async with open_worker(self.api.services.settings, clock=self.api.clock) as worker:
            await worker.flusher.cycle(age_ms=0)

    async def loses_redis(self) -> None:
        await self.api.services.redis.flushall()
        recently = self.api.services.viewing.service._policies._loader._recently_read
        recently._current, recently._previous = set(), set()  # here days pass within a second

    async def syncs(self, from_ms: int, until_ms: int) -> list[float]:
        body = {
            "profile_id": self.id, "device_id": "pad", "batch_id": uuid4().hex, "device_now": rfc3339(self.at_ms),
            "last_server_time": rfc3339(D - 10 * DAY_MS),
            "intervals": [
                {
                    "title_id": FILM, "started_at": rfc3339(from_ms), "ended_at": rfc3339(until_ms),
                    "watched_seconds": (until_ms - from_ms) / 1000,
                }
            ],
        }  # fmt: skip
        answer = await self.http.post("/viewing-time/offline-sync", json=body)
        assert answer.status_code == 200, answer.text
        credited: list[float] = answer.json()["credited_seconds"]
        return credited

    async def history(self, number: int, **params: Any) -> dict[str, Any]:
        date = rfc3339(D + number * DAY_MS)[:10]
        path = f"/parental-controls/profiles/{self.id}/history"
        [day] = (await self.reads(path, from_date=date, to_date=date, **params))["days"]
        found: dict[str, Any] = day
        return found


@pytest.fixture
async def child(api: Api) -> Child:
    api.set_clock(D - DAY_MS)
    account_id = await api.rows.account()
    profile_id = await api.rows.child(account_id, at_ms=D - 10 * DAY_MS, timezone="UTC")
    child = Child(api, profile_id, account_id, api.signed_in(account_id))
    child.is_now(D)
    await child.saves(weekday_limit_minutes=60, weekend_limit_minutes=60, finish_title_minutes=15)
    return child


async def test_a_title_is_finished_and_the_next_day_has_so_much_less(child: Child) -> None:
    await child.opens(D + HOUR, lasts=70)
    assert (child.told["remaining_seconds"], child.told["stop_at"]) == (70 * 60, rfc3339(D + HOUR + 70 * MINUTE))
    await child.plays(60)
    assert "borrowed_seconds" not in child.told
    await child.plays(5)
    assert (child.told["enforcement"], child.told["borrowed_seconds"]) == ("warning_5", 5 * 60)
    why = await child.reads(f"/viewing-time/why/{child.id}")
    assert "The title that plays may be finished until " + rfc3339(child.ends_ms) + "." in why["sentences"]
    eligible = await child.reads(f"/viewing-time/playback-eligible/{child.id}", title_id=SHOW)
    assert (eligible["eligible"], eligible["reason"]) == (False, "limit_reached")
    await child.plays(5)
    assert (child.told["enforcement"], child.told["reason"]) == ("blocked", "daily_limit")
    await child.is_flushed()
    day = await child.history(0)
    assert (day["counted_seconds"], day["borrowed_seconds"], day["overrun_seconds"]) == (70 * 60, 600, 0)
    assert day["limit_minutes"] == 60

    child.is_now(D + DAY_MS + HOUR)
    assert await child.minutes() == (50, 0, 10)
    why = await child.reads(f"/viewing-time/why/{child.id}")
    assert (why["owed_seconds"], why["remaining_seconds"]) == (600, 50 * 60)
    assert any("finished a title the day before" in sentence for sentence in why["sentences"])
    await child.opens(D + DAY_MS + HOUR, lasts=200)
    await child.plays(50)
    assert child.told["enforcement"] == "blocked"
    await child.is_flushed()
    assert (await child.history(1))["owed_seconds"] == 600
    child.is_now(D + 2 * DAY_MS + HOUR)
    assert await child.minutes() == (60, 0, 0)


async def test_a_loss_of_redis_changes_nothing_of_it(child: Child) -> None:
    await child.opens(D + HOUR, lasts=70)
    await child.plays(60)
    await child.plays(2)
    await child.is_flushed()
    await child.loses_redis()
    child.is_now(child.at_ms + 3 * MINUTE)
    assert await child.minutes() == (5, 2, 0)
    await child.beat()
    assert (child.told["remaining_seconds"], child.told["borrowed_seconds"]) == (5 * 60, 5 * 60)
    await child.plays(6)
    assert (child.told["enforcement"], child.told["borrowed_seconds"]) == ("blocked", 10 * 60)
    await child.is_flushed()
    await child.loses_redis()
    child.is_now(D + DAY_MS + HOUR)
    assert await child.minutes() == (50, 0, 10)
    await child.opens(D + DAY_MS + HOUR, lasts=1)
    await child.plays(5)
    await child.is_flushed()
    await child.loses_redis()
    assert await child.minutes() == (45, 0, 10)


async def test_a_grant_gives_its_minutes_while_a_title_is_finished_and_another_device_ends_that(child: Child) -> None:
    await child.opens(D + HOUR, lasts=70)
    await child.plays(62)
    child.is_now(child.at_ms + MINUTE)
    given = await child.http.post(f"/parental-controls/profiles/{child.id}/viewing-time/grant", json={"minutes": 15})
    assert given.status_code == 201, given.text
    assert given.json()["remaining_seconds"] == 15 * 60
    assert await child.minutes() == (15, 3, 0)
    first = child.session_id
    child.session_id = None
    await child.beat(device_id="phone", device_type="mobile")
    assert child.told["remaining_seconds"] == 15 * 60
    answer = await child.http.post("/viewing-time/heartbeat", json=child.body(session_id=first))
    assert (answer.status_code, answer.json()["code"]) == (409, "session_superseded")
    await child.plays(16)
    assert (child.told["enforcement"], child.told["borrowed_seconds"]) == ("blocked", 3 * 60)


async def test_another_device_takes_the_right_away(child: Child) -> None:
    await child.opens(D + HOUR, lasts=70)
    await child.plays(62)
    child.session_id = None
    await child.beat(device_id="phone", device_type="mobile")
    assert (child.told["enforcement"], child.told["borrowed_seconds"]) == ("blocked", 2 * 60)
    child.is_now(D + DAY_MS + HOUR)
    assert await child.minutes() == (58, 0, 2)


async def test_a_sync_is_judged_by_what_its_day_owes(child: Child) -> None:
    """On the running day, on a past day that no beat opened, and on one that beats opened."""
    await child.opens(D + HOUR, lasts=70)
    await child.plays(70)
    tuesday = D + DAY_MS
    child.is_now(tuesday + 3 * HOUR)
    assert await child.syncs(tuesday + HOUR, tuesday + 2 * HOUR) == [3600]
    assert (await child.balance())["used_seconds"] == 50 * 60, "the rest is beyond the allowance"
    assert await child.minutes() == (0, 0, 10)
    day = await child.history(1)
    assert (day["counted_seconds"], day["overrun_seconds"], day["owed_seconds"]) == (50 * 60, 10 * 60, 600)
    await child.is_flushed()
    await child.loses_redis()
    assert await child.minutes() == (0, 0, 10)
    child.is_now(D + 2 * DAY_MS + HOUR)
    assert await child.minutes() == (60, 0, 0)


async def test_a_past_day_without_a_beat_owes_too(child: Child) -> None:
    await child.opens(D + HOUR, lasts=70)
    await child.plays(70)
    await child.is_flushed()
    child.is_now(D + 2 * DAY_MS + HOUR)
    assert (await child.history(1, empty_days=True))["owed_seconds"] == 600
    assert await child.syncs(D + DAY_MS + HOUR, D + DAY_MS + 2 * HOUR) == [3600]
    day = await child.history(1)
    assert (day["counted_seconds"], day["overrun_seconds"], day["owed_seconds"]) == (50 * 60, 10 * 60, 600)


async def test_a_week_counts_what_a_day_owes_also_from_postgresql(child: Child) -> None:
    await child.saves(weekly_limit_minutes=120)
    await child.opens(D + HOUR, lasts=70)
    await child.plays(70)
    await child.opens(D + DAY_MS + HOUR, lasts=200)
    await child.plays(10)
    assert (await child.balance())["week_remaining_seconds"] == 40 * 60
    await child.is_flushed()
    for _ in range(2):
        child.is_now(D + 2 * DAY_MS + HOUR)
        assert await child.minutes() == (40, 0, 0)
        await child.loses_redis()


async def test_a_week_counts_what_a_day_without_a_beat_owes(child: Child) -> None:
    """For extra time and for a sync of the day after it, before a beat opens that."""
    await child.saves(weekly_limit_minutes=120)
    await child.opens(D + HOUR, lasts=70)
    await child.plays(70)
    child.is_now(D + 2 * DAY_MS + 3 * HOUR)
    assert await child.minutes() == (50, 0, 0)
    given = await child.http.post(f"/parental-controls/profiles/{child.id}/viewing-time/grant", json={"minutes": 15})
    assert given.json()["remaining_seconds"] == 65 * 60, given.text
    assert await child.syncs(child.at_ms - 2 * HOUR, child.at_ms - HOUR) == [3600]
    assert await child.minutes() == (5, 0, 0)
    await child.is_flushed()
    assert (await child.history(2))["overrun_seconds"] == 0


async def test_a_day_without_a_beat_is_kept_with_what_it_owes_and_without_a_session(child: Child) -> None:
    await child.opens(D + HOUR, lasts=70)
    await child.plays(70)
    await child.beat(title_remaining_seconds=0)
    await child.opens(D + 2 * DAY_MS + HOUR, lasts=10)
    await child.is_flushed()
    day = await child.history(1)
    assert (day["counted_seconds"], day["owed_seconds"], day["sessions"]) == (0, 600, [])
    assert [each["session_id"] for each in (await child.history(2))["sessions"]] == [child.session_id]


async def test_a_batch_and_co_viewers_tell_what_is_left_as_well(api: Api, child: Child) -> None:
    sibling = await api.rows.child(child.account_id, at_ms=D - 10 * DAY_MS, timezone="UTC")
    other = Child(api, sibling, child.account_id, child.http)
    await other.saves(weekday_limit_minutes=60, weekend_limit_minutes=60, finish_title_minutes=5)
    child.is_now(D + HOUR)
    child.ends_ms = child.at_ms + 64 * MINUTE
    told = await child.beat(co_viewers=[{"profile_id": sibling}])
    assert (told["stop_at"], told["co_viewers"][0]["remaining_seconds"]) == (rfc3339(child.ends_ms), 64 * 60)
    co_viewer = {"profile_id": sibling, "session_id": told["co_viewers"][0]["session_id"]}
    for _ in range(13):
        child.is_now(min(child.ends_ms, child.at_ms + 5 * MINUTE))
        told = await child.beat(co_viewers=[co_viewer])
    assert (told["borrowed_seconds"], told["co_viewers"][0]["borrowed_seconds"]) == (240, 240)
    child.is_now(D + DAY_MS + HOUR)
    child.session_id, child.ends_ms = None, child.at_ms + 61 * MINUTE
    answer = await child.http.post("/viewing-time/heartbeats", json={"beats": [child.body()]})
    assert answer.json()["results"][0]["remaining_seconds"] == 61 * 60, answer.text


@pytest.mark.parametrize("left", [-1, 86_401, "ten", True])
async def test_what_is_left_of_a_title_is_a_number_of_at_most_a_day(child: Child, left: object) -> None:
    answer = await child.http.post("/viewing-time/heartbeat", json=child.body(title_remaining_seconds=left))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/title_remaining_seconds")


async def test_an_ordinary_child_is_told_and_counted_as_ever(child: Child) -> None:
    await child.saves(finish_title_minutes=0)
    await child.opens(D + HOUR, lasts=70)
    assert child.told["remaining_seconds"] == 60 * 60
    await child.plays(70)
    assert "borrowed_seconds" not in child.told
    found = await child.balance()
    assert (found["used_seconds"], found["overrun_seconds"]) == (60 * 60, 10 * 60)
    [(_, counters)] = await child.api.services.counters.read([child.id])
    assert counters is not None
    assert (counters.borrowed_ms, counters.owed_ms, counters.finish_until_ms) == (0, 0, 0)
