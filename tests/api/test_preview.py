"""What settings would have meant for the last 28 days."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from app.auth.tokens import Role
from app.postgres_store.partitions import make_partitions
from tests.api.conftest import NOON, Api
from tests.rows import DAY_MS, start_of
from tests.statements import statements_of

MINUTE = 60_000
HOUR = 60 * MINUTE
FRIDAY = date(2026, 2, 27)
SATURDAY = date(2026, 2, 28)
SUNDAY = date(2026, 3, 1)  # the last viewing day that ended before NOON


@pytest.fixture(autouse=True)
async def _partitions(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON)


@dataclass
class Family:
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
async def family(api: Api) -> Family:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 60 * DAY_MS)
    return Family(api, child, api.signed_in(account))


async def test_tells_the_moment_at_which_the_limit_was_reached(api: Api, family: Family) -> None:
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
                "blocked_at": "2026-02-27T16:10:00Z",
                "limit_minutes": 30,
                "counted_seconds": 3000,
            }
        ],
    }
    assert await family.blocked(weekday_limit_minutes=45) == [("2026-02-27", "2026-02-27T18:05:00Z")]
    assert await family.blocked(weekday_limit_minutes=60) == []


async def test_weekends_have_their_own_limit(api: Api, family: Family) -> None:
    for day in (FRIDAY, SATURDAY, SUNDAY):
        await api.rows.balance(family.child, day, used_ms=HOUR)
        await api.rows.session(family.child, day, started_ms=start_of(day, 8), used_ms=HOUR)
    assert await family.blocked(weekday_limit_minutes=60, weekend_limit_minutes=75) == [
        ("2026-02-27", "2026-02-27T09:00:00Z")
    ]
    assert [day for day, _ in await family.blocked(weekend_limit_minutes=45)] == ["2026-03-01", "2026-02-28"]


async def test_time_beyond_the_old_limit_counts_and_educational_time_if_not_exempt(api: Api, family: Family) -> None:
    start = start_of(FRIDAY, 8)
    await api.rows.balance(
        family.child, FRIDAY, used_ms=30 * MINUTE, overrun_ms=20 * MINUTE, educational_ms=40 * MINUTE
    )
    await api.rows.session(family.child, FRIDAY, started_ms=start, educational_ms=40 * MINUTE)
    await api.rows.session(family.child, FRIDAY, started_ms=start + HOUR, used_ms=30 * MINUTE, overrun_ms=20 * MINUTE)
    assert await family.blocked(weekday_limit_minutes=45) == [("2026-02-27", "2026-02-27T09:45:00Z")]
    assert await family.blocked(weekday_limit_minutes=45, educational_exempt=False) == [
        ("2026-02-27", "2026-02-27T09:05:00Z")
    ]
    assert await family.blocked(weekday_limit_minutes=60) == []
    assert [day for day, _ in await family.blocked(weekday_limit_minutes=90, educational_exempt=False)] == [
        "2026-02-27"
    ]


async def test_only_days_that_have_ended_and_are_not_too_long_ago(api: Api, family: Family) -> None:
    days = [SUNDAY + timedelta(days=1), SUNDAY, date(2026, 2, 2), date(2026, 2, 1)]
    for day in days:
        await api.rows.balance(family.child, day, used_ms=5 * HOUR)
    blocked = await family.blocked(weekday_limit_minutes=15, weekend_limit_minutes=15)
    assert blocked == [("2026-03-01", None), ("2026-02-02", None)]  # their sessions are not known


async def test_no_limit_blocks_nothing(api: Api, family: Family) -> None:
    await api.rows.balance(family.child, FRIDAY, used_ms=10 * HOUR)
    assert await family.blocked(weekday_limit_minutes=None, weekend_limit_minutes=None) == []


async def test_what_is_not_named_stays_and_nothing_is_saved(api: Api, family: Family) -> None:
    await api.rows.balance(family.child, FRIDAY, used_ms=2 * HOUR)
    assert [day for day, _ in await family.blocked()] == ["2026-02-27"]
    path = family.path.removesuffix("/preview")
    await family.preview(weekday_limit_minutes=15, timezone="Asia/Tokyo", reset_hour=0)
    settings = (await family.parent.get(path)).json()
    assert (settings["version"], settings["weekday_limit_minutes"], settings["limits_reviewed"]) == (1, 120, False)


async def test_a_month_takes_three_statements(api: Api, family: Family) -> None:
    for age in range(28):
        day = SUNDAY - timedelta(days=age)
        await api.rows.balance(family.child, day, used_ms=HOUR)
        for hour in range(6, 18):
            await api.rows.session(family.child, day, started_ms=start_of(day, hour), used_ms=5 * MINUTE)
    with statements_of(api.services.engine) as sent:
        blocked = await family.blocked(weekday_limit_minutes=30, weekend_limit_minutes=30)
    assert len(sent) == 3
    assert len(blocked) == 28
    assert all(at is not None and at.endswith("T11:05:00Z") for _, at in blocked)


async def test_refuses_what_could_not_be_saved(api: Api, family: Family) -> None:
    for change in ({"weekday_limit_minutes": 20}, {"weekday_limit_minutes": None}, {"timezone": "x"}, {"x": 1}):
        assert (await family.parent.post(family.path, json=change)).status_code == 422
    stranger = api.signed_in(await api.rows.account())
    assert (await stranger.post(family.path, json={})).status_code == 403
    account = await api.rows.account()
    adult = f"/parental-controls/profiles/{await api.rows.adult(account)}/viewing-time/preview"
    assert (await api.signed_in(account).post(adult, json={})).status_code == 404
    assert (await api.signed_in(account, Role.HOUSEHOLD).post(adult, json={})).status_code == 403
