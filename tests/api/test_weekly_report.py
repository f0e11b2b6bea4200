"""The weekly report: seven whole viewing days of every child."""

import csv
import io
from datetime import date, timedelta
from typing import Any

import httpx
import pytest

from app.auth.tokens import Role
from app.postgres_store import tables
from tests.rows import DAY_MS, start_of
from tests.scenes.api import NOON, Api
from tests.statements import statements_of

pytestmark = pytest.mark.usefixtures("partitions")

MINUTE = 60_000
HOUR = 60 * MINUTE
LAST = date(2026, 3, 1)  # a Sunday, the last viewing day that ended before NOON
FIRST = date(2026, 2, 23)
PATH = "/parental-controls/weekly-report"


async def _read(parent: httpx.AsyncClient, **params: str) -> dict[str, Any]:
    answer = await parent.get(PATH, params=params)
    assert answer.status_code == 200, answer.text
    report: dict[str, Any] = answer.json()
    return report


async def test_adds_up_what_a_child_watched(api: Api) -> None:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 30 * DAY_MS, name="Ada")
    await api.rows.title("weekly-a", "Alpha")
    await api.rows.balance(
        child, FIRST, used_ms=90 * MINUTE, educational_ms=10_001, overrun_ms=5 * MINUTE, borrowed_ms=7 * MINUTE
    )
    await api.rows.balance(child, LAST, used_ms=30 * MINUTE, limit_minutes=60, owed_ms=3 * MINUTE)
    await api.rows.balance(child, FIRST - timedelta(days=1), used_ms=50 * MINUTE, limit_minutes=180)
    await api.rows.balance(child, LAST + timedelta(days=1), used_ms=7 * HOUR)
    await api.rows.balance(child, FIRST - timedelta(days=8), used_ms=7 * HOUR)
    start = start_of(FIRST, 5)
    await api.rows.session(child, FIRST, started_ms=start, title_id="weekly-a", used_ms=80 * MINUTE)
    await api.rows.session(child, FIRST, started_ms=start + 2 * HOUR, title_id="weekly-gone", used_ms=10 * MINUTE)
    await api.rows.session(child, LAST, started_ms=start_of(LAST, 5), title_id="weekly-a", used_ms=30 * MINUTE)
    await api.rows.grant(child, FIRST, 15, at_ms=start)
    await api.rows.grant(child, LAST, None, at_ms=start)
    await api.rows.grant(child, LAST, 60, at_ms=start, revoked_ms=start)
    await api.rows.grant(child, FIRST - timedelta(days=1), 60, at_ms=start)

    report = await _read(api.signed_in(account))

    assert (report["week_start"], report["week_end"]) == ("2026-02-23", "2026-03-01")
    (ada,) = report["profiles"]
    assert (ada["profile_id"], ada["profile_name"]) == (child, "Ada")
    days = [FIRST + timedelta(days=place) for place in range(7)]
    assert [day["date"] for day in ada["daily"]] == [day.isoformat() for day in days]
    assert [day["counted_seconds"] for day in ada["daily"]] == [5400, 0, 0, 0, 0, 0, 1800]
    assert [day["educational_seconds"] for day in ada["daily"]] == [10.001, 0, 0, 0, 0, 0, 0]
    assert [day["borrowed_seconds"] for day in ada["daily"]] == [420, 0, 0, 0, 0, 0, 0]
    # Nothing was watched on the second day, which owes it nevertheless.
    assert [day["owed_seconds"] for day in ada["daily"]] == [0, 420, 0, 0, 0, 0, 180]
    # The balance tells the limit of its day; the other days had the limits of the settings.
    assert [day["limit_minutes"] for day in ada["daily"]] == [120, 120, 120, 120, 120, 180, 60]
    assert ada["total_seconds"] == 7510.001
    assert ada["educational_seconds"] == 10.001
    assert ada["average_daily_seconds"] == round(7510.001 / 7, 3)
    # The last day was unlimited by a grant: neither its 30 minutes nor its limit are part of the share.
    assert ada["limit_usage_percent"] == round(100 * 90 / (5 * 120 + 180), 2)
    assert ada["change_percent"] == round(100 * (7510.001 / 3000 - 1), 2)
    assert (ada["grants"], ada["granted_minutes"], ada["unlimited_grants"]) == (2, 15, 1)
    assert ada["top_titles"] == [
        {"title_id": "weekly-a", "title_name": "Alpha", "total_seconds": 6600},
        {"title_id": "weekly-gone", "title_name": None, "total_seconds": 600},
    ]


async def test_offline_playback_is_part_of_it(api: Api) -> None:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await api.rows.child(account, at_ms=NOON - 29 * DAY_MS)  # watches nothing
    await api.rows.balance(child, LAST, used_ms=30 * MINUTE, offline_used_ms=40 * MINUTE)
    start = start_of(LAST, 5)
    await api.rows.session(child, LAST, started_ms=start, title_id="online", used_ms=30 * MINUTE)
    interval = {"profile_id": child, "title_id": "offline", "credited_ms": 20 * MINUTE}
    for ends_ms in (start, start + HOUR, start + 2 * HOUR, start + DAY_MS + 1):
        row = interval | {"starts_ms": ends_ms - 20 * MINUTE, "ends_ms": ends_ms}
        await api.rows.add(tables.offline_intervals, row)
    reported, _ = (await _read(api.signed_in(account)))["profiles"]
    assert (reported["total_seconds"], reported["daily"][-1]["counted_seconds"]) == (4200, 4200)
    assert [(title["title_id"], title["total_seconds"]) for title in reported["top_titles"]] == [
        ("offline", 2400),
        ("online", 1800),
    ]


async def test_days_whose_names_have_moved_away_from_their_dates_have_their_titles(api: Api) -> None:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 30 * DAY_MS)
    moved_hours = -9 * 24
    await api.rows.balance(child, LAST, used_ms=MINUTE, reset_utc=moved_hours)
    await api.rows.session(child, LAST, started_ms=start_of(LAST, moved_hours + 1), title_id="moved", used_ms=MINUTE)
    (reported,) = (await _read(api.signed_in(account)))["profiles"]
    assert [title["title_id"] for title in reported["top_titles"]] == ["moved"]


async def test_three_statements_whatever_the_number_of_children(api: Api) -> None:
    small, large = await api.rows.account(), await api.rows.account()
    for account, children in ((small, 1), (large, 20)):
        for number in range(children):
            child = await api.rows.child(account, at_ms=NOON - (40 - number) * DAY_MS, name=f"Child {number}")
            await api.rows.balance(child, LAST, used_ms=number * MINUTE)
            await api.rows.session(child, LAST, started_ms=start_of(LAST, 6), used_ms=number * MINUTE)
        parent = api.signed_in(account)
        with statements_of(api.services.engine) as sent:
            report = await _read(parent)
        assert len(sent) == 3
        assert [profile["profile_name"] for profile in report["profiles"]] == [f"Child {n}" for n in range(children)]
        assert [profile["total_seconds"] for profile in report["profiles"]] == [60 * n for n in range(children)]


async def test_only_children_of_the_account_are_in_it(api: Api) -> None:
    account, other = await api.rows.account(), await api.rows.account()
    await api.rows.adult(account)
    await api.rows.child(other, at_ms=NOON - DAY_MS)
    assert (await _read(api.signed_in(account)))["profiles"] == []


async def test_a_week_without_viewing_has_no_change_and_no_titles(api: Api) -> None:
    account = await api.rows.account()
    await api.rows.child(account, at_ms=NOON - 30 * DAY_MS)
    (child,) = (await _read(api.signed_in(account)))["profiles"]
    assert (child["total_seconds"], child["average_daily_seconds"], child["change_percent"]) == (0, 0, None)
    assert (child["limit_usage_percent"], child["top_titles"], child["grants"]) == (0, [], 0)


async def test_only_days_with_a_limit_make_the_share(api: Api) -> None:
    account = await api.rows.account()
    free = await api.rows.child(account, at_ms=NOON - 30 * DAY_MS, weekday=None, weekend=None)
    mixed = await api.rows.child(account, at_ms=NOON - 29 * DAY_MS, weekday=None, weekend=None)
    await api.rows.balance(free, LAST, used_ms=HOUR, limit_minutes=None)
    await api.rows.balance(mixed, LAST, used_ms=HOUR, limit_minutes=None)
    await api.rows.balance(mixed, FIRST, used_ms=30 * MINUTE, educational_ms=HOUR, overrun_ms=HOUR, limit_minutes=120)
    report = await _read(api.signed_in(account))
    assert [child["limit_usage_percent"] for child in report["profiles"]] == [None, 25]
    assert [day["limit_minutes"] for day in report["profiles"][1]["daily"]] == [120, *[None] * 6]


async def test_days_that_a_grant_made_unlimited_are_no_part_of_the_share(api: Api) -> None:
    account = await api.rows.account()
    began = LAST - timedelta(days=1)
    child = await api.rows.child(account, at_ms=start_of(began, 6), weekday=60, weekend=60)
    await api.rows.balance(child, began, used_ms=3 * HOUR, limit_minutes=60)
    await api.rows.balance(child, LAST, used_ms=30 * MINUTE, limit_minutes=60)
    await api.rows.grant(child, began, None, at_ms=start_of(began, 8), revoked_ms=start_of(LAST, 8))
    await api.rows.grant(child, LAST, None, at_ms=start_of(LAST, 8), revoked_ms=start_of(LAST, 9))
    [week] = (await _read(api.signed_in(account)))["profiles"]
    assert week["limit_usage_percent"] == 50
    assert week["unlimited_grants"] == 1, "it stood when its day ended"
    await api.rows.grant(child, LAST, None, at_ms=start_of(LAST, 10))
    [week] = (await _read(api.signed_in(account)))["profiles"]
    assert week["limit_usage_percent"] is None


async def test_days_before_there_were_settings_have_no_limit(api: Api) -> None:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=start_of(date(2026, 2, 26), 12))
    history = tables.viewing_time_config_history
    later = {"profile_id": child, "version": 2, "weekday_limit_minutes": 60, "weekend_limit_minutes": 75}
    await api.rows.add(history, later | {"valid_from": date(2026, 2, 28)})
    (reported,) = (await _read(api.signed_in(account)))["profiles"]
    limits = [day["limit_minutes"] for day in reported["daily"]]
    # Thursday 26 is the first day with settings; those of Saturday midnight UTC are in force before Friday's day ends.
    assert limits == [None, None, None, 120, 60, 75, 75]


async def test_a_week_may_be_named(api: Api) -> None:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 30 * DAY_MS)
    await api.rows.balance(child, date(2026, 2, 18), used_ms=MINUTE)
    report = await _read(api.signed_in(account), week_ending="2026-02-18")
    assert (report["week_start"], report["week_end"]) == ("2026-02-12", "2026-02-18")
    assert report["profiles"][0]["daily"][-1]["counted_seconds"] == 60
    assert (await _read(api.signed_in(account), week_ending="2000-01-01"))["profiles"][0]["total_seconds"] == 0


@pytest.mark.parametrize("day", ["2026-03-02", "2999-01-01", "0001-01-01", "1999-12-31", "soon", "2026-02-30", ""])
async def test_a_week_that_has_not_ended_is_refused(api: Api, day: str) -> None:
    account = await api.rows.account()
    await api.rows.child(account, at_ms=NOON - 30 * DAY_MS)
    answer = await api.signed_in(account).get(PATH, params={"week_ending": day})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_the_week_ends_when_it_has_ended_for_every_child(api: Api) -> None:
    """At 12:00 UTC on 2 March it is 01:00 on the 3rd in Auckland, and 02:00 on the 2nd in Honolulu."""
    account = await api.rows.account()
    await api.rows.child(account, at_ms=NOON - 30 * DAY_MS, timezone="Pacific/Auckland", reset_hour=0)
    assert (await _read(api.signed_in(account)))["week_end"] == "2026-03-02"
    await api.rows.child(account, at_ms=NOON - 30 * DAY_MS, timezone="Pacific/Honolulu", reset_hour=6)
    assert (await _read(api.signed_in(account)))["week_end"] == "2026-02-28"


async def test_comes_as_a_spreadsheet_too(api: Api) -> None:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 30 * DAY_MS, name='=1+1,"x"')
    await api.rows.balance(child, LAST, used_ms=1234, limit_minutes=None, borrowed_ms=1000, owed_ms=500)
    parent = api.signed_in(account)
    by_name = await parent.get(PATH, params={"format": "csv"})
    by_header = await parent.get(PATH, headers={"Accept": "text/csv;q=1, application/json"})
    assert by_name.text == by_header.text
    assert by_name.headers["Content-Type"] == "text/csv; charset=utf-8"
    assert by_name.headers["Content-Disposition"] == 'attachment; filename="weekly-report-2026-03-01.csv"'
    rows = list(csv.DictReader(io.StringIO(by_name.text)))
    assert len(rows) == 7
    assert rows[-1] == {
        "profile_id": child,
        "profile_name": '\'=1+1,"x"',
        "date": "2026-03-01",
        "counted_seconds": "1.234",
        "educational_seconds": "0.0",
        "overrun_seconds": "0.0",
        "total_seconds": "1.234",
        "limit_minutes": "",
        "borrowed_seconds": "1.0",
        "owed_seconds": "0.5",
    }
    for headers in ({"Accept": "application/json, text/csv"}, {"Accept": "*/*"}, {"Accept": "image/png"}):
        answer = await parent.get(PATH, headers=headers)
        assert answer.headers["Content-Type"] == "application/json"
    assert (await parent.get(PATH, params={"format": "xml"})).status_code == 422


async def test_says_up_to_when_everything_is_flushed(api: Api) -> None:
    account = await api.rows.account()
    await api.rows.child(account, at_ms=NOON - 30 * DAY_MS)
    parent = api.signed_in(account)
    assert (await _read(parent))["as_of"] == "2026-03-02T12:00:00.000Z"
    await api.rows.flushed(NOON - 20_500, bucket=0)
    await api.rows.flushed(NOON - 10_000, bucket=1)
    assert (await _read(parent))["as_of"] == "2026-03-02T11:59:39.500Z"


async def test_only_parents_may_read_it(api: Api) -> None:
    account = await api.rows.account()
    assert (await api.http.get(PATH)).status_code == 401
    for role in (Role.HOUSEHOLD, Role.SERVICE, Role.ADMIN):
        assert (await api.signed_in(account, role).get(PATH)).status_code == 403
