"""Past days are judged by the terms in force on them, whenever their playback becomes known."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
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
FILM, LESSON = "past-film", "past-lesson"


@pytest.fixture(autouse=True)
async def _ready(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON)
    for title_id, is_educational in ((FILM, False), (LESSON, True)):
        await api.rows.title_once(title_id, is_educational=is_educational)


@dataclass
class Child:
    """A child whose days begin at 06:00 UTC, with everything that happens to it at instants of the test's choice."""

    api: Api
    id: str
    account_id: str
    http: httpx.AsyncClient

    def is_now(self, at_ms: int) -> None:
        self.api.set_clock(at_ms)

    async def saves(self, at_ms: int, **settings: Any) -> None:
        self.is_now(at_ms)
        path = f"/parental-controls/profiles/{self.id}/viewing-time"
        etag = (await self.http.get(path)).headers["ETag"]
        answer = await self.http.put(path, json=settings, headers={"If-Match": etag})
        assert answer.status_code == 200, answer.text

    async def limits(self, at_ms: int, minutes: int | None) -> None:
        await self.saves(at_ms, weekday_limit_minutes=minutes, weekend_limit_minutes=minutes)

    async def is_given(self, at_ms: int, minutes: int | None) -> str:
        self.is_now(at_ms)
        path = f"/parental-controls/profiles/{self.id}/viewing-time/grant"
        answer = await self.http.post(path, json={"minutes": minutes})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["grant_id"])

    async def loses(self, at_ms: int, grant_id: str) -> None:
        self.is_now(at_ms)
        answer = await self.http.delete(f"/parental-controls/profiles/{self.id}/grants/{grant_id}")
        assert answer.status_code == 200, answer.text

    async def beats(self, *at_ms: int, title: str = FILM, **fields: Any) -> None:
        """One session, opened at the first instant, ended at the last, and flushed."""
        await self.plays(*at_ms, title=title, **fields)
        await self.is_flushed()

    async def plays(self, *at_ms: int, title: str = FILM, **fields: Any) -> None:
        """As ``beats``, and nothing is flushed yet."""
        session_id = None
        for instant_ms in at_ms:
            self.is_now(instant_ms)
            body = {"profile_id": self.id, "title_id": title, "device_id": "tv-1", "device_type": "tv", **fields}
            body |= {"session_id": session_id} if session_id else {}
            answer = await self.http.post("/viewing-time/heartbeat", json=body)
            assert answer.status_code == 200, answer.text
            session_id = answer.json()["session_id"]
        answer = await self.http.post(f"/viewing-time/session/{session_id}/end", json={})
        assert answer.status_code == 200, answer.text

    async def is_flushed(self) -> None:
        async with open_worker(self.api.services.settings, clock=self.api.clock) as worker:
            await worker.flusher.cycle(age_ms=0)

    async def syncs(
        self, at_ms: int, *ranges: tuple[int, int], title: str = FILM, device_off_ms: int = 0, **fields: Any
    ) -> dict[str, Any]:
        """A batch of time ranges, wholly watched, by a device whose clock is off by so much."""
        self.is_now(at_ms)
        intervals = [
            {
                "title_id": title,
                "started_at": rfc3339(starts_ms + device_off_ms),
                "ended_at": rfc3339(ends_ms + device_off_ms),
                "watched_seconds": (ends_ms - starts_ms) / 1000,
            }
            for starts_ms, ends_ms in ranges
        ]
        body = {
            "profile_id": self.id,
            "device_id": "pad",
            "batch_id": uuid4().hex,
            "device_now": rfc3339(at_ms + device_off_ms),
            "last_server_time": rfc3339(D - 10 * DAY_MS),
            "intervals": intervals,
        }
        answer = await self.http.post("/viewing-time/offline-sync", json=body | fields)
        assert answer.status_code == 200, answer.text
        synced: dict[str, Any] = answer.json()
        return synced

    async def day(self, number: int = 0) -> dict[str, Any]:
        """A day of the history, ``number`` days after Monday."""
        date = rfc3339(D + number * DAY_MS)[:10]
        path = f"/parental-controls/profiles/{self.id}/history"
        answer = await self.http.get(path, params={"from_date": date, "to_date": date})
        assert answer.status_code == 200, answer.text
        [day] = answer.json()["days"]
        found: dict[str, Any] = day
        return found

    async def counted(self, number: int = 0) -> tuple[float, float]:
        day = await self.day(number)
        return day["counted_seconds"], day["overrun_seconds"]

    async def balance(self) -> dict[str, Any]:
        answer = await self.http.get(f"/viewing-time/balance/{self.id}")
        assert answer.status_code == 200, answer.text
        balance: dict[str, Any] = answer.json()
        return balance


@pytest.fixture
def _clocks(api: Api) -> Iterator[None]:
    yield
    api.services.counters.at_ms = api.services.shared_policies.at_ms = 0


@pytest.fixture
async def child(api: Api, _clocks: None) -> Child:
    api.clock.at_ms = D - 5 * DAY_MS
    account = await api.rows.account()
    profile_id = await api.rows.child(
        account, at_ms=D - 5 * DAY_MS, timezone="Etc/UTC", reset_hour=6, weekday=60, weekend=60
    )
    return Child(api, profile_id, account, api.signed_in(account))


# --- the week


async def test_offline_playback_keeps_to_what_the_week_leaves(child: Child) -> None:
    """On the running day and on a past one, with and without a beat of its own."""
    await child.saves(D - DAY_MS, weekly_limit_minutes=105)
    await child.beats(*(D + HOUR + minute * MINUTE for minute in range(0, 61, 5)))
    tuesday, wednesday = D + DAY_MS, D + 2 * DAY_MS
    await child.syncs(tuesday + 3 * HOUR, (tuesday + HOUR, tuesday + HOUR + 30 * MINUTE))
    assert (await child.balance())["week_remaining_seconds"] == 15 * 60
    await child.syncs(tuesday + 4 * HOUR, (tuesday + 3 * HOUR, tuesday + 4 * HOUR))
    assert await child.counted(1) == (45 * 60, 45 * 60)
    await child.syncs(wednesday + 3 * HOUR, (tuesday + 5 * HOUR, tuesday + 6 * HOUR))
    await child.syncs(wednesday + 3 * HOUR, (wednesday + HOUR, wednesday + 2 * HOUR))
    assert await child.counted(1) == (45 * 60, 105 * 60)
    assert await child.counted(2) == (0, 60 * 60)


# --- the limit


async def test_a_day_without_a_balance_has_the_limit_of_then(child: Child) -> None:
    await child.limits(D + DAY_MS + HOUR, 180)
    await child.syncs(D + DAY_MS + 2 * HOUR, (D + 3 * HOUR, D + 5 * HOUR))
    assert await child.counted() == (3600, 3600)
    assert (await child.day())["limit_minutes"] == 60


async def test_a_limit_lowered_later_does_not_reach_back(child: Child) -> None:
    await child.limits(D + HOUR, 120)
    await child.limits(D + DAY_MS + HOUR, 60)
    await child.syncs(D + 2 * DAY_MS + HOUR, (D + 3 * HOUR, D + 3 * HOUR + 110 * MINUTE))
    assert await child.counted() == (6600, 0)


async def test_a_limit_saved_after_the_last_beat_of_a_day_is_that_days(child: Child) -> None:
    await child.beats(D + HOUR, D + HOUR + 4 * MINUTE)
    await child.limits(D + 5 * HOUR, 120)
    await child.syncs(D + DAY_MS + HOUR, (D + 3 * HOUR, D + 4 * HOUR + 30 * MINUTE))
    assert await child.counted() == (94 * 60, 0)


async def test_a_time_range_over_a_reset_is_judged_by_both_days(child: Child) -> None:
    await child.limits(D + DAY_MS + 5 * HOUR, 180)
    reset_ms = D + DAY_MS
    await child.syncs(D + 2 * DAY_MS + HOUR, (reset_ms - 2 * HOUR, reset_ms + 2 * HOUR))
    assert await child.counted(0) == (3600, 3600)
    assert await child.counted(1) == (7200, 0)


# --- grants


@pytest.mark.parametrize("minutes", [60, None])
async def test_a_grant_of_that_day_counts_however_late_it_is_synced(child: Child, minutes: int | None) -> None:
    await child.is_given(D + HOUR, minutes)
    await child.syncs(D + 5 * DAY_MS + HOUR, (D + 3 * HOUR, D + 3 * HOUR + 110 * MINUTE))
    assert await child.counted() == (6600, 0)


async def test_grants_count_as_they_stood_when_the_day_ended(child: Child) -> None:
    taken_back = await child.is_given(D + HOUR, 60)
    await child.loses(D + 2 * HOUR, taken_back)
    taken_back_too_late = await child.is_given(D + 3 * HOUR, 15)
    await child.loses(D + DAY_MS + HOUR, taken_back_too_late)
    await child.syncs(D + DAY_MS + 2 * HOUR, (D + 3 * HOUR, D + 5 * HOUR))
    assert await child.counted() == (75 * 60, 45 * 60)


async def test_what_a_grant_covered_is_part_of_the_allowance_of_its_day(child: Child) -> None:
    await child.beats(*range(D + HOUR, D + HOUR + 41 * MINUTE, 4 * MINUTE))
    await child.limits(D + 2 * HOUR, 15)
    await child.is_given(D + 3 * HOUR, 15)
    await child.syncs(D + DAY_MS + HOUR, (D + 4 * HOUR, D + 4 * HOUR + 20 * MINUTE))
    assert await child.counted() == (55 * 60, 5 * 60)


async def test_a_grant_gives_its_minutes_after_a_penalty_too(child: Child) -> None:
    await child.syncs(D + 5 * MINUTE, (D - 3 * HOUR, D - HOUR), device_off_ms=HOUR)
    assert (await child.balance())["remaining_seconds"] == 0
    await child.is_given(D + HOUR, 15)
    assert (await child.balance())["remaining_seconds"] == 900


# --- the exemption


async def test_the_exemption_is_that_of_the_instant_of_playback(child: Child) -> None:
    await child.saves(D + 4 * HOUR, educational_exempt=False)
    await child.syncs(D + DAY_MS + HOUR, (D + 3 * HOUR, D + 4 * HOUR + 30 * MINUTE), title=LESSON)
    day = await child.day()
    assert (day["educational_seconds"], day["counted_seconds"]) == (3600, 1800)
    assert [
        (part["is_educational"], part["educational_seconds"], part["counted_seconds"]) for part in day["sessions"]
    ] == [(True, 0, 1800), (True, 3600, 0)]
    await child.saves(D + DAY_MS + 2 * HOUR, educational_exempt=True)
    await child.syncs(D + DAY_MS + 3 * HOUR, (D + 5 * HOUR, D + 5 * HOUR + 15 * MINUTE), title=LESSON)
    assert (await child.day())["educational_seconds"] == 3600


# --- what was used already


async def test_offline_use_is_deducted_once(child: Child) -> None:
    await child.limits(D + MINUTE, 120)
    await child.beats(D + HOUR, D + HOUR + 5 * MINUTE, D + HOUR + 10 * MINUTE)
    await child.syncs(D + 3 * HOUR, (D + 2 * HOUR, D + 2 * HOUR + 30 * MINUTE))
    await child.beats(D + 4 * HOUR, D + 4 * HOUR + 5 * MINUTE)
    await child.syncs(D + DAY_MS + HOUR, (D + 6 * HOUR, D + 7 * HOUR), device_id="other pad")
    assert await child.counted() == (6300, 0)


async def test_offline_use_synced_after_the_last_beat_is_deducted_too(child: Child) -> None:
    await child.beats(D + HOUR, D + HOUR + 5 * MINUTE)
    await child.syncs(D + 3 * HOUR, (D + 2 * HOUR, D + 2 * HOUR + 30 * MINUTE))
    await child.syncs(D + DAY_MS + HOUR, (D + 6 * HOUR, D + 7 * HOUR))
    assert await child.counted() == (3600, 35 * 60)


async def test_two_syncs_at_once_cannot_both_use_the_last_minutes_up(child: Child) -> None:
    ranges = [(D + hour * HOUR, D + hour * HOUR + 40 * MINUTE) for hour in (1, 2, 3, 4)]
    await asyncio.gather(*(child.syncs(D + 6 * HOUR, time_range) for time_range in ranges))
    assert await child.counted() == (3600, 100 * 60)


async def test_what_is_kept_of_a_day_outlasts_its_settings(child: Child) -> None:
    """The bounds and the limit of a day stay those of the balance, whatever reset hour and zone came since."""
    await child.beats(D + HOUR, D + HOUR + MINUTE)
    await child.saves(D + 2 * HOUR, reset_hour=12, timezone="Asia/Tokyo")
    await child.saves(D + 3 * DAY_MS, reset_hour=3, timezone="America/New_York")
    await child.syncs(D + 5 * DAY_MS, (D + DAY_MS - 2 * MINUTE, D + DAY_MS + 3 * MINUTE))
    assert await child.counted(0) == (180, 0)
    assert await child.counted(1) == (180, 0)


# --- a wrong clock


async def test_a_wrong_clock_pays_today_for_what_it_names(child: Child) -> None:
    at_ms = D + DAY_MS + 5 * MINUTE
    yesterday = (D + 10 * HOUR, D + 12 * HOUR)
    ahead_ms = 20 * MINUTE
    tampered = await child.syncs(at_ms, yesterday, device_off_ms=ahead_ms)
    assert tampered["tampered"] is True
    assert (tampered["credited_seconds"], tampered["penalty_seconds"]) == ([300], 6900)
    balance = tampered["balance"]
    assert (balance["used_seconds"], balance["penalty_seconds"], balance["remaining_seconds"]) == (300, 6900, 0)
    why = (await child.http.get(f"/viewing-time/why/{child.id}")).json()
    assert (why["used_seconds"], why["penalty_seconds"]) == (300, 6900)
    assert any("wrong clock" in sentence for sentence in why["sentences"])
    today = await child.day(1)
    assert (today["counted_seconds"], today["penalty_seconds"], today["total_seconds"]) == (300, 6900, 300)
    # By either clock, none of it counts again.
    for off_ms in (0, ahead_ms):
        again = await child.syncs(at_ms + HOUR, (yesterday[0] + off_ms, yesterday[1] + off_ms))
        assert (again["tampered"], again["credited_seconds"]) == (False, [0])


async def test_a_repeated_batch_of_a_wrong_clock_is_charged_once(child: Child) -> None:
    at_ms, played = D + 5 * MINUTE, (D - 3 * HOUR, D - 2 * HOUR)
    first = await child.syncs(at_ms, played, device_off_ms=HOUR, batch_id="one")
    again = await child.syncs(at_ms, played, device_off_ms=HOUR, batch_id="one")
    assert first == again
    assert again["balance"]["penalty_seconds"] == 3300


async def test_a_penalty_leaves_the_next_day_alone(child: Child) -> None:
    await child.limits(D, 120)
    await child.syncs(D + 10 * MINUTE, (D - 2 * HOUR, D - HOUR), device_off_ms=HOUR)
    assert (await child.balance())["remaining_seconds"] == 3600
    child.is_now(D + DAY_MS + MINUTE)
    balance = await child.balance()
    assert (balance["remaining_seconds"], balance["penalty_seconds"]) == (7200, 0)


async def test_no_beat_claims_what_a_wrong_clock_named(child: Child) -> None:
    """A television that nobody heard for an hour claims it after the pad has paid for its half."""
    child.is_now(D + HOUR)
    body = {"profile_id": child.id, "title_id": FILM, "device_id": "tv-1", "device_type": "tv"}
    session_id = (await child.http.post("/viewing-time/heartbeat", json=body)).json()["session_id"]
    await child.limits(D + HOUR + MINUTE, 480)
    tampered = await child.syncs(
        D + 2 * HOUR, (D + HOUR + 20 * MINUTE, D + HOUR + 50 * MINUTE), device_off_ms=-2 * HOUR
    )
    assert (tampered["credited_seconds"], tampered["penalty_seconds"]) == ([1800], 0)
    used = tampered["balance"]["used_seconds"]
    child.is_now(D + 2 * HOUR)
    beat = {"session_id": session_id, "watched_seconds": 3600}
    answer = (await child.http.post("/viewing-time/heartbeat", json=body | beat)).json()
    assert answer["used_seconds"] == used + 1800


# --- history


async def test_sessions_of_a_day_add_up_to_its_sums(child: Child) -> None:
    await child.beats(D + HOUR, D + HOUR + 5 * MINUTE)
    await child.syncs(D + 3 * HOUR, (D + 2 * HOUR, D + 2 * HOUR + 30 * MINUTE), (D + HOUR, D + HOUR + 10 * MINUTE))
    await child.syncs(D + 4 * HOUR, (D + 3 * HOUR, D + 4 * HOUR), title=LESSON)
    await child.syncs(D + DAY_MS + HOUR, (D + DAY_MS - HOUR, D + DAY_MS + HOUR))
    for number in (0, 1):
        day = await child.day(number)
        for sum_of in ("counted_seconds", "educational_seconds", "overrun_seconds", "total_seconds"):
            of_sessions = sum(part[sum_of] for part in day["sessions"])
            assert of_sessions == pytest.approx(day[sum_of]), (number, sum_of)
    day = await child.day()
    started = [part["started_at"] for part in day["sessions"]]
    assert started == sorted(started, reverse=True)
    assert [(part["source"], part["device_id"], part["device_type"]) for part in day["sessions"]] == [
        ("offline", "pad", None),
        ("offline", "pad", None),
        ("offline", "pad", None),
        ("offline", "pad", None),
        ("heartbeat", "tv-1", "tv"),
    ]
    lesson = day["sessions"][1]
    assert (lesson["title_id"], lesson["title_name"], lesson["is_educational"]) == (LESSON, LESSON, True)
    assert (lesson["started_at"], lesson["ended_at"]) == ("2026-03-02T09:00:00.000Z", "2026-03-02T10:00:00.000Z")


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
async def test_pages_show_beats_and_offline_playback_once(child: Child, limit: int) -> None:
    await child.limits(D, None)
    ranges = [(D + hour * HOUR, D + hour * HOUR + 20 * MINUTE) for hour in (1, 3, 5, 7, 25, 27)]
    await child.beats(D + 2 * HOUR, D + 2 * HOUR + MINUTE)
    await child.beats(D + 6 * HOUR, D + 6 * HOUR + MINUTE)
    await child.syncs(D + DAY_MS + 4 * HOUR, *ranges)
    path, seen, cursor = f"/parental-controls/profiles/{child.id}/history", [], None
    while True:
        params = {"limit": limit} | ({"cursor": cursor} if cursor else {})
        page = (await child.http.get(path, params=params)).json()
        seen += [part["session_id"] for day in page["days"] for part in day["sessions"]]
        cursor = page["next_cursor"]
        if not cursor:
            break
    assert len(seen) == len(set(seen)) == len(ranges) + 2


async def test_a_late_sync_is_judged_by_the_limit_of_its_weekday(child: Child) -> None:
    week = dict.fromkeys(("mon", "tue", "wed", "thu", "fri", "sat", "sun"), 60)
    await child.saves(D - 2 * DAY_MS, daily_limits=week)
    await child.saves(
        D + HOUR, daily_limits={"mon": 15, "tue": 30, "wed": 60, "thu": 60, "fri": 60, "sat": 60, "sun": 60}
    )
    await child.saves(D + 3 * DAY_MS, daily_limits=None)
    await child.syncs(
        D + 3 * DAY_MS + HOUR,
        (D - 12 * HOUR, D - 11 * HOUR - 10 * MINUTE),
        (D + 2 * HOUR, D + 2 * HOUR + 50 * MINUTE),
        (D + DAY_MS, D + DAY_MS + 50 * MINUTE),
    )
    assert [await child.counted(number) for number in (-1, 0, 1)] == [
        (50 * 60, 0),
        (15 * 60, 35 * 60),
        (30 * 60, 20 * 60),
    ]


def _forget_reads(api: Api) -> None:
    """A policy that was read within a second is not read again; here days pass within a second."""
    recently = api.services.viewing.service._policies._loader._recently_read
    recently._current, recently._previous = set(), set()


async def test_a_weekly_limit_that_begins_now_counts_days_that_wait_to_be_flushed(api: Api, child: Child) -> None:
    """60 minutes on Monday and 10 on Tuesday, in counters that keep no week yet; then 90 minutes a week."""
    await child.plays(*range(D + HOUR, D + HOUR + 40 * MINUTE, 5 * MINUTE))
    await child.plays(*range(D + 3 * HOUR, D + 3 * HOUR + 30 * MINUTE, 5 * MINUTE))
    tuesday, wednesday = D + DAY_MS, D + 2 * DAY_MS
    await child.plays(tuesday + HOUR, tuesday + HOUR + 5 * MINUTE, tuesday + HOUR + 10 * MINUTE)
    await child.saves(tuesday + 2 * HOUR, weekly_limit_minutes=90)
    assert (await child.balance())["week_remaining_seconds"] == 20 * 60
    assert await api.services.redis.delete(api.services.shared_policies._keys.policy(child.id)) == 1
    api.services.viewing.service._policies.forget(child.id)
    _forget_reads(api)
    assert (await child.balance())["week_remaining_seconds"] == 20 * 60, "the counters have kept Monday"
    await child.plays(tuesday + 3 * HOUR, tuesday + 3 * HOUR + 5 * MINUTE)
    await child.is_flushed()
    child.is_now(wednesday + HOUR)
    assert (await child.balance())["week_remaining_seconds"] == 15 * 60


async def test_the_week_leaves_less_of_a_day_whatever_redis_forgets(api: Api, child: Child) -> None:
    """90 minutes a week and 60 a day: 60 on Monday, so 30 on Tuesday; Redis is lost twice."""
    await child.saves(D, weekday_limit_minutes=60, weekend_limit_minutes=60, weekly_limit_minutes=90)
    await child.beats(*range(D + HOUR, D + HOUR + 70 * MINUTE, 5 * MINUTE))
    assert await child.counted() == (60 * 60, 5 * 60)
    tuesday = D + DAY_MS
    for _ in range(2):
        child.is_now(tuesday + HOUR)
        await api.services.redis.flushall()
        _forget_reads(api)
        balance = await child.balance()
        assert (balance["limit_minutes"], balance["remaining_seconds"]) == (30, 30 * 60)
        assert (balance["reason"], balance["week_remaining_seconds"]) == ("weekly_limit", 30 * 60)
    await child.beats(*range(tuesday + HOUR, tuesday + HOUR + 50 * MINUTE, 5 * MINUTE))
    _forget_reads(api)
    balance = await child.balance()
    assert (balance["enforcement"], balance["reason"]) == ("blocked", "weekly_limit")
    assert balance["available_again_at"] == rfc3339(D + 7 * DAY_MS)
    assert await child.counted(1) == (30 * 60, 15 * 60)
    assert (await child.day(1))["limit_minutes"] == 30
    await child.is_given(tuesday + 3 * HOUR, 15)
    balance = await child.balance()
    assert (balance["enforcement"], balance["remaining_seconds"]) == ("warning_15", 15 * 60), "extra time wins"
    child.is_now(D + 6 * DAY_MS)
    assert (await child.balance())["limit_minutes"] == 0
    child.is_now(D + 7 * DAY_MS)
    balance = await child.balance()
    assert (balance["limit_minutes"], balance["week_remaining_seconds"]) == (60, 90 * 60)


async def test_a_sync_of_an_earlier_day_counts_for_the_week(child: Child) -> None:
    await child.saves(D, weekday_limit_minutes=60, weekend_limit_minutes=60, weekly_limit_minutes=90)
    await child.beats(*range(D + HOUR, D + HOUR + 35 * MINUTE, 5 * MINUTE))
    child.is_now(D + DAY_MS + HOUR)
    assert (await child.balance())["week_remaining_seconds"] == 60 * 60
    await child.syncs(D + DAY_MS + 2 * HOUR, (D + 5 * HOUR, D + 5 * HOUR + 45 * MINUTE))
    assert await child.counted() == (60 * 60, 15 * 60)
    balance = await child.balance()
    assert (balance["week_remaining_seconds"], balance["remaining_seconds"]) == (30 * 60, 30 * 60)
    await child.saves(D + DAY_MS + 3 * HOUR, weekly_limit_minutes=60)
    assert (await child.balance())["enforcement"] == "blocked"
    await child.saves(D + DAY_MS + 3 * HOUR, weekly_limit_minutes=None)
    balance = await child.balance()
    assert (balance["week_remaining_seconds"], balance["remaining_seconds"]) == (None, 60 * 60)
