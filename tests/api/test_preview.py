"""The effect of other settings on the last 28 days."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx
import pytest
from sqlalchemy import text

from app.auth.tokens import Role
from tests.rows import DAY_MS, start_of
from tests.scenes.api import NOON, Api
from tests.statements import statements_of

pytestmark = pytest.mark.usefixtures("partitions")

MINUTE = 60_000
HOUR = 60 * MINUTE
FRIDAY = date(2026, 2, 27)
SATURDAY = date(2026, 2, 28)
SUNDAY = date(2026, 3, 1)  # the last viewing day that ended before NOON


@dataclass
class Scene:
    api: Api
    child: str
    parent: httpx.AsyncClient

    @property
    def path(self) -> str:
        return f"/parental-controls/profiles/{self.child}/viewing-time/preview"

    async def preview(self, **change: Any) -> dict[str, Any]:
        answer = await self.parent.post(self.path, json=change)
        assert answer.status_code == 200, answer.text
        preview: dict[str, Any] = answer.json()
        return preview

    async def blocked(self, **change: Any) -> list[tuple[str, str | None]]:
        return [(day["date"], day["blocked_at"]) for day in (await self.preview(**change))["blocked_days"]]


@pytest.fixture
async def family(api: Api) -> Scene:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 60 * DAY_MS)
    return Scene(api, child, api.signed_in(account))


async def test_tells_the_moment_at_which_the_limit_was_reached(api: Api, family: Scene) -> None:
    await api.rows.balance(family.child, FRIDAY, used_ms=50 * MINUTE)
    for hour, minutes in ((8, 20), (16, 20), (18, 10)):
        started_ms = start_of(FRIDAY, hour)
        await api.rows.session(family.child, FRIDAY, started_ms=started_ms, used_ms=minutes * MINUTE)
    preview = await family.preview(weekday_limit_minutes=30)
    assert preview == {
        "first_date": "2026-02-02",
        "last_date": "2026-03-01",
        "blocked_days": [
            {
                "date": "2026-02-27",
                "blocked_at": "2026-02-27T16:10:00.000Z",
                "blocked_from": "2026-02-27T16:10:00.000Z",
                "blocked_until": "2026-02-27T16:10:00.000Z",
                "limit_minutes": 30,
                "granted_minutes": 0,
                "counted_seconds": 3000,
                "reason": "daily_limit",
            }
        ],
    }
    assert await family.blocked(weekday_limit_minutes=45) == [("2026-02-27", "2026-02-27T18:05:00.000Z")]
    assert await family.blocked(weekday_limit_minutes=60) == []


async def test_weekends_have_their_own_limit(api: Api, family: Scene) -> None:
    for day in (FRIDAY, SATURDAY, SUNDAY):
        await api.rows.balance(family.child, day, used_ms=HOUR)
        await api.rows.session(family.child, day, started_ms=start_of(day, 8), used_ms=HOUR)
    assert await family.blocked(weekday_limit_minutes=60, weekend_limit_minutes=75) == [
        ("2026-02-27", "2026-02-27T09:00:00.000Z")
    ]
    assert [day for day, _ in await family.blocked(weekend_limit_minutes=45)] == ["2026-03-01", "2026-02-28"]


async def test_time_beyond_the_old_limit_counts_and_educational_time_if_not_exempt(api: Api, family: Scene) -> None:
    start = start_of(FRIDAY, 8)
    await api.rows.balance(
        family.child, FRIDAY, used_ms=30 * MINUTE, overrun_ms=20 * MINUTE, educational_ms=40 * MINUTE
    )
    await api.rows.session(family.child, FRIDAY, started_ms=start, educational_ms=40 * MINUTE)
    await api.rows.session(family.child, FRIDAY, started_ms=start + HOUR, used_ms=30 * MINUTE, overrun_ms=20 * MINUTE)
    assert await family.blocked(weekday_limit_minutes=45) == [("2026-02-27", "2026-02-27T09:45:00.000Z")]
    assert await family.blocked(weekday_limit_minutes=45, educational_exempt=False) == [
        ("2026-02-27", "2026-02-27T09:05:00.000Z")
    ]
    assert await family.blocked(weekday_limit_minutes=60) == []
    assert [day for day, _ in await family.blocked(weekday_limit_minutes=90, educational_exempt=False)] == [
        "2026-02-27"
    ]


async def test_only_days_that_have_ended_and_are_not_too_long_ago(api: Api, family: Scene) -> None:
    days = [SUNDAY + timedelta(days=1), SUNDAY, date(2026, 2, 2), date(2026, 2, 1)]
    for day in days:
        await api.rows.balance(family.child, day, used_ms=5 * HOUR)
    blocked = await family.blocked(weekday_limit_minutes=15, weekend_limit_minutes=15)
    assert blocked == [("2026-03-01", None), ("2026-02-02", None)]  # their sessions are not known


async def test_a_pause_inside_a_session_puts_the_moment_off(api: Api, family: Scene) -> None:
    """Forty minutes of pause from 10:20 on, of which the first five count."""
    started_ms = start_of(FRIDAY, 10)
    await api.rows.balance(family.child, FRIDAY, used_ms=65 * MINUTE)
    session_id = await api.rows.session(
        family.child, FRIDAY, started_ms=started_ms, used_ms=65 * MINUTE, lasted_ms=100 * MINUTE
    )
    # What is not known lies in an interval.
    [day] = (await family.preview(weekday_limit_minutes=45))["blocked_days"]
    assert (day["blocked_at"], day["blocked_from"], day["blocked_until"]) == (
        None,
        "2026-02-27T10:45:00.000Z",
        "2026-02-27T11:20:00.000Z",
    )
    await _note_uncounted(api, session_id, started_ms + 25 * MINUTE, started_ms + 60 * MINUTE)
    assert await family.blocked(weekday_limit_minutes=45) == [("2026-02-27", "2026-02-27T11:20:00.000Z")]
    assert await family.blocked(weekday_limit_minutes=15) == [("2026-02-27", "2026-02-27T10:15:00.000Z")]


async def _note_uncounted(api: Api, session_id: str, from_ms: int, until_ms: int) -> None:
    async with api.services.engine.begin() as database:
        await database.execute(
            text("UPDATE viewing_sessions SET uncounted_ms = ARRAY[:from_ms, :until_ms]::bigint[] WHERE id = :id"),
            {"from_ms": from_ms, "until_ms": until_ms, "id": session_id},
        )


async def test_educational_titles_are_known_as_such_whatever_was_exempt_then(api: Api, family: Scene) -> None:
    started_ms = start_of(FRIDAY, 10)
    await api.rows.balance(family.child, FRIDAY, used_ms=2 * HOUR)
    await api.rows.session(family.child, FRIDAY, started_ms=started_ms, used_ms=90 * MINUTE, is_educational=True)
    await api.rows.session(family.child, FRIDAY, started_ms=started_ms + 3 * HOUR, used_ms=30 * MINUTE)
    assert await family.blocked(weekday_limit_minutes=60, educational_exempt=True) == []
    assert await family.blocked(weekday_limit_minutes=60, educational_exempt=False) == [
        ("2026-02-27", "2026-02-27T11:00:00.000Z")
    ]
    assert await family.blocked(weekday_limit_minutes=30, educational_exempt=True) == [
        ("2026-02-27", "2026-02-27T13:30:00.000Z")
    ]


async def test_the_grants_of_a_day_count_as_they_stood_when_it_ended(api: Api, family: Scene) -> None:
    for day, hours in ((FRIDAY, 2), (SATURDAY, 2)):
        await api.rows.balance(family.child, day, used_ms=hours * HOUR)
        await api.rows.session(family.child, day, started_ms=start_of(day, 8), used_ms=hours * HOUR)
    await api.rows.grant(family.child, FRIDAY, 30, at_ms=start_of(FRIDAY, 9))
    await api.rows.grant(family.child, FRIDAY, 15, at_ms=start_of(FRIDAY, 9), revoked_ms=start_of(FRIDAY, 10))
    await api.rows.grant(family.child, FRIDAY, 15, at_ms=start_of(FRIDAY, 9), revoked_ms=start_of(FRIDAY, 40))
    await api.rows.grant(family.child, SATURDAY, None, at_ms=start_of(SATURDAY, 9))
    [day] = (await family.preview(weekday_limit_minutes=60, weekend_limit_minutes=60))["blocked_days"]
    assert (day["date"], day["blocked_at"]) == ("2026-02-27", "2026-02-27T09:45:00.000Z")
    assert (day["limit_minutes"], day["granted_minutes"]) == (60, 45)


async def test_offline_playback_of_a_day_counts(api: Api, family: Scene) -> None:
    child, at_ms = family.child, start_of(FRIDAY, 20)
    await api.rows.balance(child, FRIDAY, used_ms=20 * MINUTE)
    await api.rows.session(child, FRIDAY, started_ms=start_of(FRIDAY, 8), used_ms=20 * MINUTE)
    api.set_clock(at_ms)
    time_range = {
        "title_id": "film",
        "started_at": "2026-02-27T10:00:00.000Z",
        "ended_at": "2026-02-27T10:40:00.000Z",
        "watched_seconds": 2400,
    }
    body = {
        "profile_id": child,
        "device_id": "pad",
        "batch_id": "friday",
        "device_now": "2026-02-27T20:00:00.000Z",
        "last_server_time": "2026-02-27T09:00:00.000Z",
        "intervals": [time_range],
    }
    try:
        answer = await family.parent.post("/viewing-time/offline-sync", json=body)
        assert answer.status_code == 200, answer.text
    finally:
        api.set_clock(NOON)
    assert await family.blocked(weekday_limit_minutes=45) == [("2026-02-27", "2026-02-27T10:25:00.000Z")]


async def test_no_limit_blocks_nothing(api: Api, family: Scene) -> None:
    await api.rows.balance(family.child, FRIDAY, used_ms=10 * HOUR)
    assert await family.blocked(weekday_limit_minutes=None, weekend_limit_minutes=None) == []


async def test_what_is_not_named_stays_and_nothing_is_saved(api: Api, family: Scene) -> None:
    await api.rows.balance(family.child, FRIDAY, used_ms=2 * HOUR)
    assert [day for day, _ in await family.blocked()] == ["2026-02-27"]
    path = family.path.removesuffix("/preview")
    await family.preview(weekday_limit_minutes=15, timezone="Asia/Tokyo", reset_hour=0)
    settings = (await family.parent.get(path)).json()
    assert (settings["version"], settings["weekday_limit_minutes"], settings["limits_reviewed"]) == (1, 120, False)


async def test_a_month_takes_three_statements(api: Api, family: Scene) -> None:
    for age in range(28):
        day = SUNDAY - timedelta(days=age)
        await api.rows.balance(family.child, day, used_ms=HOUR)
        for hour in range(6, 18):
            await api.rows.session(family.child, day, started_ms=start_of(day, hour), used_ms=5 * MINUTE)
    with statements_of(api.services.engine) as sent:
        blocked = await family.blocked(weekday_limit_minutes=30, weekend_limit_minutes=30)
    assert len(sent) == 3
    assert len(blocked) == 28
    assert all(at is not None and at.endswith("T11:05:00.000Z") for _, at in blocked)


async def test_refuses_what_could_not_be_saved(api: Api, family: Scene) -> None:
    for change in ({"weekday_limit_minutes": 20}, {"weekday_limit_minutes": None}, {"timezone": "x"}, {"x": 1}):
        assert (await family.parent.post(family.path, json=change)).status_code == 422
    stranger = api.signed_in(await api.rows.account())
    assert (await stranger.post(family.path, json={})).status_code == 403
    account = await api.rows.account()
    adult = f"/parental-controls/profiles/{await api.rows.adult(account)}/viewing-time/preview"
    assert (await api.signed_in(account).post(adult, json={})).status_code == 404
    assert (await api.signed_in(account, Role.HOUSEHOLD).post(adult, json={})).status_code == 403


async def test_tries_a_limit_for_each_day_of_the_week(api: Api, family: Scene) -> None:
    for day in (FRIDAY, FRIDAY + timedelta(days=1)):
        await api.rows.balance(family.child, day, used_ms=50 * MINUTE)
        await api.rows.session(family.child, day, started_ms=start_of(day, 8), used_ms=50 * MINUTE)
    week = {"mon": None, "tue": None, "wed": None, "thu": None, "fri": 45, "sat": 30, "sun": None}
    assert await family.blocked(daily_limits=week) == [
        ("2026-02-28", "2026-02-28T08:30:00.000Z"),
        ("2026-02-27", "2026-02-27T08:45:00.000Z"),
    ]
    holidays = [{"first_date": "2026-02-26", "last_date": "2026-02-27"}]
    assert await family.blocked(daily_limits=week, holidays=holidays) == [
        ("2026-02-28", "2026-02-28T08:30:00.000Z"),
        ("2026-02-27", "2026-02-27T08:30:00.000Z"),
    ]
    assert await family.blocked(weekday_limit_minutes=45, holidays=holidays) == []


async def test_tries_windows(api: Api, family: Scene) -> None:
    """The child watched from 9:00 to 9:50 and from 17:00 to 17:30 in Oslo, an exempt title in the evening."""
    await api.rows.balance(family.child, FRIDAY, used_ms=50 * MINUTE, educational_ms=30 * MINUTE)
    await api.rows.session(family.child, FRIDAY, started_ms=start_of(FRIDAY, 8), used_ms=50 * MINUTE)
    await api.rows.session(family.child, FRIDAY, started_ms=start_of(FRIDAY, 16), educational_ms=30 * MINUTE)
    free = {"weekday_limit_minutes": None, "weekend_limit_minutes": None}

    async def first(*windows: tuple[str, str], **change: Any) -> list[tuple[Any, ...]]:
        opened = [{"days": ["fri"], "from": opens, "until": closes} for opens, closes in windows]
        blocked = (await family.preview(windows=opened, **change))["blocked_days"]
        return [(day["blocked_at"], day["reason"], day["limit_minutes"]) for day in blocked]

    assert await first(("09:00", "18:00"), **free) == []
    assert await first(("09:00", "17:10"), **free) == [("2026-02-27T16:10:00.000Z", "window", None)]
    assert await first(("09:00", "09:30"), ("16:00", "20:00")) == [("2026-02-27T08:30:00.000Z", "window", 120)]
    assert await first(("16:00", "20:00"), weekday_limit_minutes=15) == [("2026-02-27T08:00:00.000Z", "window", 15)]
    assert await first(("09:00", "09:30"), weekday_limit_minutes=15) == [
        ("2026-02-27T08:15:00.000Z", "daily_limit", 15)
    ]


async def test_tries_breaks(api: Api, family: Scene) -> None:
    """An hour from 8:00 UTC with a pause of ten minutes at 8:30, of which five counted, and half an hour from 9:05."""
    starts_ms = start_of(FRIDAY, 8)
    await api.rows.balance(family.child, FRIDAY, used_ms=85 * MINUTE)
    session_id = await api.rows.session(
        family.child, FRIDAY, started_ms=starts_ms, used_ms=55 * MINUTE, lasted_ms=60 * MINUTE
    )
    await _note_uncounted(api, session_id, starts_ms + 35 * MINUTE, starts_ms + 40 * MINUTE)
    await api.rows.session(family.child, FRIDAY, started_ms=starts_ms + 65 * MINUTE, used_ms=30 * MINUTE)

    async def due(after: int, length: int, **change: Any) -> list[tuple[str, str, int]]:
        blocked = (await family.preview(break_after_minutes=after, break_minutes=length, **change))["blocked_days"]
        return [(day["blocked_at"][11:16], day["reason"], day["limit_minutes"]) for day in blocked]

    assert await due(30, 20) == [("08:30", "break", 120)]
    assert await due(35, 20) == [("08:45", "break", 120)]
    assert await due(35, 10) == [("09:20", "break", 120)]
    assert await due(60, 10) == []
    assert await due(40, 10, weekday_limit_minutes=60) == [("09:10", "daily_limit", 60)]
    assert await due(45, 30, weekday_limit_minutes=60) == [("08:55", "break", 60)]


async def test_tries_a_weekly_limit(api: Api, family: Scene) -> None:
    """50 minutes on Thursday, Friday and Saturday of a week that begins on Monday; 15 extra on Saturday."""
    for age in (1, 0, -1):
        day = FRIDAY - timedelta(days=age)
        await api.rows.balance(family.child, day, used_ms=50 * MINUTE)
        await api.rows.session(family.child, day, started_ms=start_of(day, 8), used_ms=50 * MINUTE)
    await api.rows.grant(family.child, FRIDAY + timedelta(days=1), 15, at_ms=start_of(FRIDAY, 8))

    async def hits(**change: Any) -> list[tuple[str, str, str, int]]:
        blocked = (await family.preview(**change))["blocked_days"]
        return [(day["date"], day["blocked_at"][11:16], day["reason"], day["limit_minutes"]) for day in blocked]

    assert await hits(weekly_limit_minutes=90) == [
        ("2026-02-28", "08:15", "weekly_limit", 0),
        ("2026-02-27", "08:40", "weekly_limit", 40),
    ]
    assert await hits(weekly_limit_minutes=90, weekday_limit_minutes=30) == [
        ("2026-02-28", "08:45", "weekly_limit", 30),
        ("2026-02-27", "08:30", "daily_limit", 30),
        ("2026-02-26", "08:30", "daily_limit", 30),
    ]
    assert await hits(weekly_limit_minutes=165) == []
