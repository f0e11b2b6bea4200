"""History by viewing day, newest first."""

from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.auth.tokens import Role
from app.domain.viewing_day import day_number_of
from app.observability import metrics
from app.postgres_store import tables
from app.postgres_store.partitions import make_partitions
from app.timestamps import utc
from tests.rows import DAY_MS, start_of
from tests.scenes.api import NOON, Api
from tests.statements import statements_of

MINUTE = 60_000
HOUR = 60 * MINUTE
TODAY = date(2026, 3, 2)
DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
async def _partitions(api: Api) -> None:
    await make_partitions(api.services.engine, at_ms=NOON, days_back=366)


@dataclass
class ChildHistory:
    child: str
    parent: httpx.AsyncClient

    async def page(self, **params: Any) -> dict[str, Any]:
        answer = await self.ask(**params)
        assert answer.status_code == 200, answer.text
        page: dict[str, Any] = answer.json()
        return page

    async def ask(self, **params: Any) -> httpx.Response:
        return await self.parent.get(path_of(self.child), params=params)

    async def pages(self, **params: Any) -> list[dict[str, Any]]:
        pages = [await self.page(**params)]
        while cursor := pages[-1]["next_cursor"]:
            pages.append(await self.page(**(params | {"cursor": cursor})))
        return pages


def path_of(profile_id: str) -> str:
    return f"/parental-controls/profiles/{profile_id}/history"


@pytest.fixture
async def past(api: Api) -> ChildHistory:
    account = await api.rows.account()
    return ChildHistory(await api.rows.child(account, at_ms=NOON - 300 * DAY_MS), api.signed_in(account))


async def test_shows_sessions_under_their_day(api: Api, past: ChildHistory) -> None:
    await api.rows.title("history-a", "Alpha")
    yesterday = TODAY - DAY
    await api.rows.balance(
        past.child, yesterday, used_ms=90 * MINUTE + 1, educational_ms=2000, overrun_ms=500, limit_minutes=90,
        borrowed_ms=1, owed_ms=2500,
    )  # fmt: skip
    start = start_of(yesterday, 6)
    first = await api.rows.session(past.child, yesterday, started_ms=start, title_id="history-a", used_ms=HOUR)
    second = await api.rows.session(past.child, yesterday, started_ms=start + 2 * HOUR + 250, educational_ms=2000)
    await api.rows.balance(past.child, TODAY - 2 * DAY, limit_minutes=None)

    page = await past.page()

    assert page["next_cursor"] is None
    session = {"device_id": "tv-1", "device_type": "tv", "source": "heartbeat"}
    assert page["days"] == [
        {
            "date": "2026-03-01",
            "counted_seconds": 5400.001,
            "educational_seconds": 2,
            "overrun_seconds": 0.5,
            "total_seconds": 5402.501,
            "penalty_seconds": 0,
            "tamper_hints": [],
            "limit_minutes": 90,
            "borrowed_seconds": 0.001,
            "owed_seconds": 2.5,
            "sessions": [
                session
                | {
                    "session_id": second,
                    "title_id": "film",
                    "title_name": None,
                    "is_educational": True,
                    "started_at": "2026-03-01T08:00:00.250Z",
                    "ended_at": "2026-03-01T08:00:02.250Z",
                    "counted_seconds": 0,
                    "educational_seconds": 2,
                    "overrun_seconds": 0,
                    "total_seconds": 2,
                },
                session
                | {
                    "session_id": first,
                    "title_id": "history-a",
                    "title_name": "Alpha",
                    "is_educational": False,
                    "started_at": "2026-03-01T06:00:00.000Z",
                    "ended_at": "2026-03-01T07:00:00.000Z",
                    "counted_seconds": 3600,
                    "educational_seconds": 0,
                    "overrun_seconds": 0,
                    "total_seconds": 3600,
                },
            ],
        },
        {
            "date": "2026-02-28",
            "counted_seconds": 0,
            "educational_seconds": 0,
            "overrun_seconds": 0,
            "total_seconds": 0,
            "penalty_seconds": 0,
            "tamper_hints": [],
            "limit_minutes": None,
            "borrowed_seconds": 0,
            "owed_seconds": 0,
            "sessions": [],
        },
    ]


async def test_a_session_runs_until_it_has_been_silent_too_long(api: Api, past: ChildHistory) -> None:
    await api.rows.balance(past.child, TODAY)
    as_of = NOON
    for minutes_ago, has_ended in ((20, False), (5, False), (4, False), (3, True)):
        await api.rows.session(
            past.child, TODAY, started_ms=as_of - minutes_ago * MINUTE - 1000, used_ms=1000, has_ended=has_ended
        )
    (day,) = (await past.page())["days"]
    assert [session["ended_at"] for session in day["sessions"]] == [
        "2026-03-02T11:57:00.000Z",
        None,
        None,
        "2026-03-02T11:40:00.000Z",
    ]
    api.clock.at_ms += 1  # five minutes of silence still count as watching, one millisecond more does not
    (day,) = (await past.page())["days"]
    assert day["sessions"][2]["ended_at"] == "2026-03-02T11:55:00.000Z"


async def test_a_session_across_a_reset_has_a_share_in_both_days(api: Api, past: ChildHistory) -> None:
    reset = start_of(TODAY, 5)
    yesterday, today = TODAY - DAY, TODAY
    await api.rows.balance(past.child, yesterday, used_ms=10 * MINUTE)
    await api.rows.balance(past.child, today, used_ms=5 * MINUTE)
    session = await api.rows.session(
        past.child,
        yesterday,
        started_ms=reset - 10 * MINUTE,
        used_ms=10 * MINUTE,
        lasted_ms=9 * MINUTE + 45_000,
        has_ended=False,
    )
    await api.rows.session(past.child, today, started_ms=reset, used_ms=5 * MINUTE, session_id=session)
    newer, older = (await past.page())["days"]
    assert [day["sessions"][0]["session_id"] for day in (newer, older)] == [session, session]
    assert [day["sessions"][0]["total_seconds"] for day in (newer, older)] == [300, 600]
    assert older["sessions"][0]["ended_at"] == newer["sessions"][0]["started_at"] == "2026-03-02T05:00:00.000Z"


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
async def test_pages_show_every_session_once_and_every_day(api: Api, past: ChildHistory, limit: int) -> None:
    expected: list[str] = []
    days = [TODAY - age * DAY for age in (0, 1, 2, 4, 5)]
    for count, day in zip((3, 0, 2, 1, 0), days, strict=True):
        await api.rows.balance(past.child, day, used_ms=count * 1000)
        same_instant = start_of(day, 6)
        expected += sorted(
            [await api.rows.session(past.child, day, started_ms=same_instant, used_ms=1000) for _ in range(count)],
            reverse=True,
        )
    pages = await past.pages(limit=limit)
    shown = [session["session_id"] for page in pages for day in page["days"] for session in day["sessions"]]
    assert shown == expected
    seen = [day["date"] for page in pages for day in page["days"]]
    assert list(dict.fromkeys(seen)) == [day.isoformat() for day in days]
    assert all(len(day["sessions"]) > 0 for page in pages for day in page["days"] if seen.count(day["date"]) > 1)
    assert all(sum(len(day["sessions"]) for day in page["days"]) == limit for page in pages[:-1])
    for page in pages:
        for day in page["days"]:
            assert day["counted_seconds"] == {2: 3, 1: 0, 28: 2, 26: 1, 25: 0}[date.fromisoformat(day["date"]).day]


@pytest.mark.parametrize("limit", [1, 2, 100])
async def test_shows_days_without_viewing_when_asked(api: Api, past: ChildHistory, limit: int) -> None:
    for age in (1, 3):
        day = TODAY - age * DAY
        await api.rows.balance(past.child, day, used_ms=1000, limit_minutes=60)
        await api.rows.session(past.child, day, started_ms=start_of(day, 6), used_ms=1000)
    later = {"profile_id": past.child, "version": 2, "weekday_limit_minutes": 45, "weekend_limit_minutes": 75}
    await api.rows.add(tables.viewing_time_config_history, later | {"valid_from": utc(start_of(date(2026, 2, 28), 1))})
    pages = await past.pages(empty_days=True, limit=limit, from_date="2026-02-24", to_date="2026-03-09")
    days = {day["date"]: day for page in pages for day in page["days"]}
    assert [(name, day["total_seconds"], day["limit_minutes"]) for name, day in days.items()] == [
        ("2026-03-02", 0, 45),  # Monday, the running day; those to come are not shown
        ("2026-03-01", 1, 60),
        ("2026-02-28", 0, 75),  # Saturday
        ("2026-02-27", 1, 60),
        ("2026-02-26", 0, 120),
        ("2026-02-25", 0, 120),
        ("2026-02-24", 0, 120),
    ]
    assert [len(day["sessions"]) for day in days.values()] == [0, 1, 0, 1, 0, 0, 0]
    assert len((await past.page(empty_days=True))["days"]) == 30


async def test_a_limit_saved_after_the_last_beat_is_the_limit_of_that_day(api: Api, past: ChildHistory) -> None:
    """120 minutes while the child watched until 12:00 UTC; 60 from 14:00 on; 30 two seconds after the day's end."""
    friday = TODAY - 3 * DAY
    ends_ms = start_of(friday + DAY, 5)
    for version, minutes, valid_ms in ((2, 60, start_of(friday, 14)), (3, 30, ends_ms + 2000)):
        limits = {"weekday_limit_minutes": minutes, "weekend_limit_minutes": minutes}
        row = {"profile_id": past.child, "version": version, **limits, "valid_from": utc(valid_ms)}
        await api.rows.add(tables.viewing_time_config_history, row)
    await api.rows.balance(past.child, friday, used_ms=HOUR, last_beat_ms=start_of(friday, 12))
    (day,) = (await past.page())["days"]
    assert (day["date"], day["limit_minutes"]) == ("2026-02-27", 60)
    report = (await past.parent.get("/parental-controls/weekly-report")).json()
    limits = {day["date"]: day["limit_minutes"] for day in report["profiles"][0]["daily"]}
    assert (limits["2026-02-26"], limits["2026-02-27"], limits["2026-02-28"]) == (120, 60, 30)
    assert report["profiles"][0]["limit_usage_percent"] == round(100 * 60 / (4 * 120 + 60 + 2 * 30), 2)


async def test_a_day_has_the_limit_of_its_weekday_or_of_a_holiday(api: Api, past: ChildHistory) -> None:
    """120 and 180 minutes up to Wednesday; then limits by weekday, and Friday is a holiday."""
    friday = day_number_of(TODAY - 3 * DAY)
    rules = {"daily_limits": [15, 30, 45, 60, 75, 90, None], "holidays": [[friday, friday]]}
    limits = {"weekday_limit_minutes": 120, "weekend_limit_minutes": 180, "rules": rules}
    row = {"profile_id": past.child, "version": 2, **limits, "valid_from": utc(start_of(TODAY - 4 * DAY, 6))}
    await api.rows.add(tables.viewing_time_config_history, row)
    thursday = TODAY - 4 * DAY
    await api.rows.balance(past.child, thursday, used_ms=HOUR, last_beat_ms=start_of(thursday, 5), limit_minutes=120)
    pages = await past.pages(empty_days=True, limit=10, from_date="2026-02-24", to_date="2026-03-02")
    shown = {day["date"]: day["limit_minutes"] for page in pages for day in page["days"]}
    assert list(shown.values()) == [15, None, 90, 90, 60, 120, 120], "Friday is a holiday: it has Saturday's limit"
    report = (await past.parent.get("/parental-controls/weekly-report")).json()
    daily = {day["date"]: day["limit_minutes"] for day in report["profiles"][0]["daily"]}
    assert daily == {day: limit for day, limit in shown.items() if day in daily} | {"2026-02-23": 120}


async def test_new_sessions_do_not_disturb_a_reader(api: Api, past: ChildHistory) -> None:
    await api.rows.balance(past.child, TODAY)
    old = [
        await api.rows.session(past.child, TODAY, started_ms=NOON - age * HOUR, used_ms=1000) for age in (1, 2, 3, 4)
    ]
    first = await past.page(limit=2)
    await api.rows.session(past.child, TODAY, started_ms=NOON, used_ms=1000)
    api.clock.at_ms += 2 * DAY_MS  # nor does the clock: the cursor knows its days
    second = await past.page(limit=2, cursor=first["next_cursor"])
    shown = [session["session_id"] for page in (first, second) for session in page["days"][0]["sessions"]]
    assert shown == old


async def test_thirty_days_unless_named(api: Api, past: ChildHistory) -> None:
    for age in (0, 29, 30, 60, 90):
        await api.rows.balance(past.child, TODAY - age * DAY, used_ms=1000)

    async def ages(**params: str) -> list[int]:
        days = (await past.page(**params))["days"]
        return [(TODAY - date.fromisoformat(day["date"])).days for day in days]

    assert await ages() == [0, 29]
    assert await ages(to_date=str(TODAY - DAY)) == [29, 30]
    assert await ages(from_date=str(TODAY - 60 * DAY)) == [0, 29, 30, 60]
    assert await ages(from_date=str(TODAY - 90 * DAY), to_date=str(TODAY)) == [0, 29, 30, 60, 90]
    assert await ages(from_date=str(TODAY + DAY)) == []


@pytest.mark.parametrize(
    "params",
    [
        {"from_date": "2026-03-02", "to_date": "2026-03-01"},
        {"from_date": "2025-12-01", "to_date": "2026-03-02"},
        {"from_date": "2016-01-01", "to_date": "2026-01-01"},
        {"from_date": "2020-01-01"},
        {"from_date": "0001-01-01"},
        {"to_date": "0001-01-01"},
        {"to_date": "9999-12-31"},
        {"from_date": "10000-01-01"},
        {"from_date": "yesterday"},
        {"from_date": "2026-02-29"},
        {"limit": 0},
        {"limit": 501},
        {"limit": 2**63},
        {"limit": "many"},
        {"cursor": ""},
        {"cursor": "!"},
        {"cursor": "AAAA"},
        {"cursor": "A" * 299},
        {"cursor": "A" * 301},
        {"cursor": "ÅÅÅÅ"},
        {"cursor": "\0"},
    ],
)
async def test_refuses_what_makes_no_sense(past: ChildHistory, params: dict[str, Any]) -> None:
    answer = await past.ask(**params)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_a_cursor_belongs_to_its_profile_and_dates(api: Api, past: ChildHistory) -> None:
    account = await api.rows.account()
    other = ChildHistory(await api.rows.child(account, at_ms=NOON - DAY_MS), api.signed_in(account))
    for someone in (past, other):
        await api.rows.balance(someone.child, TODAY)
        for age in (1, 2):
            await api.rows.session(someone.child, TODAY, started_ms=NOON - age * HOUR, used_ms=1000)
    cursor = (await past.page(limit=1))["next_cursor"]
    assert (await past.ask(cursor=cursor, to_date=str(TODAY))).status_code == 200
    assert (await past.ask(cursor=cursor, to_date=str(TODAY - DAY))).status_code == 422
    assert (await other.ask(cursor=cursor)).status_code == 422
    for place in range(len(cursor)):
        forged = cursor[:place] + ("A" if cursor[place] != "A" else "B") + cursor[place + 1 :]
        if place < len(cursor) - 1:  # the last letter may carry bits that decode to nothing
            assert (await past.ask(cursor=forged)).status_code == 422


async def test_three_statements_whose_profile_it_is_included(api: Api, past: ChildHistory) -> None:
    for age in range(30):
        await api.rows.balance(past.child, TODAY - age * DAY, used_ms=1000)
        await api.rows.session(past.child, TODAY - age * DAY, started_ms=start_of(TODAY - age * DAY, 6), used_ms=1000)
    with statements_of(api.services.engine) as sent:
        page = await past.page()
    assert len(page["days"]) == 30
    assert len(sent) == 3


@pytest.mark.parametrize("moved_days", [-20, 10])
async def test_days_whose_names_have_moved_away_from_their_dates_have_their_sessions(
    past: ChildHistory, api: Api, moved_days: int
) -> None:
    day = TODAY - 40 * DAY
    reset_utc = 24 * moved_days
    await api.rows.balance(past.child, day, used_ms=MINUTE, reset_utc=reset_utc)
    await api.rows.session(past.child, day, started_ms=start_of(day, reset_utc + 1), used_ms=MINUTE)
    (shown,) = (await past.page(from_date=str(day), to_date=str(day)))["days"]
    assert [part["total_seconds"] for part in shown["sessions"]] == [60]


async def test_days_after_the_running_one_take_no_place_on_a_page(past: ChildHistory, api: Api) -> None:
    for day in (TODAY, TODAY + DAY):
        await api.rows.balance(past.child, day, used_ms=MINUTE)
        for hour in (6, 7):
            await api.rows.session(past.child, day, started_ms=start_of(day, hour), used_ms=MINUTE)
    page = await past.page(limit=2)
    assert [(day["date"], len(day["sessions"])) for day in page["days"]] == [(str(TODAY), 2)]
    assert page["next_cursor"] is None


async def test_an_adult_has_a_history_without_days(api: Api) -> None:
    account = await api.rows.account()
    adult = await api.rows.adult(account)
    answer = await api.signed_in(account).get(path_of(adult))
    assert answer.json() == {"days": [], "next_cursor": None, "as_of": "2026-03-02T12:00:00.000Z"}


async def test_only_the_parents_of_a_child_may_read_it(api: Api, past: ChildHistory) -> None:
    account = await api.rows.account()
    stranger = api.signed_in(account)
    errors = metrics.SQL_ERRORS._value.get()
    for profile_id in (past.child, str(uuid4()), "x", "%00"):
        answer = await stranger.get(path_of(profile_id))
        assert (answer.status_code, answer.json()["code"]) == (403, "profile_access_denied")
    assert metrics.SQL_ERRORS._value.get() == errors, "what is no id is not asked for"
    assert (await api.signed_in(account, Role.HOUSEHOLD).get(path_of(past.child))).status_code == 403
    assert (await api.http.get(path_of(past.child))).status_code == 401


async def test_an_offline_stretch_of_which_nothing_was_credited_is_no_session(api: Api, past: ChildHistory) -> None:
    start = start_of(TODAY, 6)
    await api.rows.balance(past.child, TODAY, used_ms=MINUTE)
    stretch = {"profile_id": past.child, "title_id": "film", "device_id": "tablet", "day": TODAY}
    credited = str(uuid4())
    for place, (session_id, credited_ms) in enumerate([(None, 0), (credited, MINUTE), (None, 0)]):
        starts_ms = start + place * HOUR
        row = stretch | {"session_id": session_id, "credited_ms": credited_ms, "is_settled": session_id is None}
        await api.rows.add(tables.offline_intervals, row | {"starts_ms": starts_ms, "ends_ms": starts_ms + MINUTE})
    pages = await past.pages(limit=1)
    shown = [session["session_id"] for page in pages for day in page["days"] for session in day["sessions"]]
    assert shown == [credited]
