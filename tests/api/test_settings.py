"""GET and PUT of a child's viewing-time settings."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.auth.tokens import Role
from tests.scenes.api import NOON, Api

HOUR = 3_600_000
WEEK = {"mon": 30, "tue": 45, "wed": 60, "thu": 75, "fri": 90, "sat": 180, "sun": 120}
EVENING = {"days": ["mon", "sat"], "from": "17:30", "until": "20:00"}
CHRISTMAS = {"first_date": "2026-12-24", "last_date": "2026-12-26"}


@dataclass
class Scene:
    account: str
    child: str
    adult: str
    parent: httpx.AsyncClient

    @property
    def path(self) -> str:
        return path_of(self.child)

    async def put(self, *, version: int = 1, **change: Any) -> httpx.Response:
        return await self.parent.put(self.path, json=change, headers={"If-Match": f'"{version}"'})


def path_of(profile_id: str) -> str:
    return f"/parental-controls/profiles/{profile_id}/viewing-time"


@pytest.fixture
async def family(api: Api) -> AsyncIterator[Scene]:
    account = await api.rows.account()
    child = await api.rows.child(account, at_ms=NOON - 24 * HOUR)
    api.services.counters.at_ms = api.services.shared_policies.at_ms = NOON
    yield Scene(account, child, await api.rows.adult(account), api.signed_in(account))
    api.services.counters.at_ms = api.services.shared_policies.at_ms = 0


async def test_reads_what_a_new_child_begins_with(family: Scene) -> None:
    answer = await family.parent.get(family.path)
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"1"'
    assert answer.json() == {
        "profile_id": family.child,
        "weekday_limit_minutes": 120,
        "weekend_limit_minutes": 180,
        "reset_hour": 6,
        "timezone": "Europe/Oslo",
        "educational_exempt": True,
        "warning_minutes": [15, 5],
        "daily_limits": None,
        "holidays": [],
        "windows": [],
        "weekly_limit_minutes": None,
        "break_after_minutes": None,
        "break_minutes": None,
        "finish_title_minutes": None,
        "version": 1,
        "limits_reviewed": False,
        "pending_change": None,
        "market": "default",
        "server_time": "2026-03-02T12:00:00.000Z",
    }


async def test_a_saved_change_is_announced_and_kept(api: Api, family: Scene) -> None:
    answer = await family.put(weekday_limit_minutes=60, warning_minutes=[1, 10], educational_exempt=False)
    assert answer.status_code == 200
    assert answer.headers["ETag"] == '"2"'
    saved = answer.json()
    assert (saved["weekday_limit_minutes"], saved["weekend_limit_minutes"]) == (60, 180)
    assert saved["warning_minutes"] == [10, 1]
    assert saved["limits_reviewed"] is True
    assert (await family.parent.get(family.path)).json() == saved
    (shared,) = await api.services.shared_policies.load([family.child])
    assert shared is not None
    assert (shared.version, shared.config_version, shared.weekday_limit_minutes) == (2, 2, 60)
    assert (shared.educational_exempt, shared.warning_minutes) == (False, (10, 1))


async def test_an_empty_change_confirms_the_limits(family: Scene) -> None:
    confirmed = (await family.put()).json()
    assert (confirmed["limits_reviewed"], confirmed["version"], confirmed["weekday_limit_minutes"]) == (True, 2, 120)


async def test_null_lifts_both_limits(family: Scene) -> None:
    lifted = (await family.put(weekday_limit_minutes=None, weekend_limit_minutes=None)).json()
    assert (lifted["weekday_limit_minutes"], lifted["weekend_limit_minutes"]) == (None, None)
    refused = await family.put(version=2, weekday_limit_minutes=60)
    assert refused.status_code == 422
    assert (await family.put(version=2, weekday_limit_minutes=15, weekend_limit_minutes=480)).status_code == 200


async def test_a_new_reset_waits_for_the_running_day(api: Api, family: Scene) -> None:
    saved = (await family.put(reset_hour=9, timezone="Europe/London")).json()
    pending = {"timezone": "Europe/London", "reset_hour": 9, "effective_at": "2026-03-03T05:00:00.000Z"}
    assert saved["pending_change"] == pending
    assert (await family.parent.get(family.path)).json()["pending_change"] == pending
    api.clock.at_ms += 17 * HOUR
    assert (await family.parent.get(family.path)).json()["pending_change"] is None


async def test_each_day_of_the_week_may_have_a_limit_of_its_own(api: Api, family: Scene) -> None:
    saved = (await family.put(daily_limits=WEEK, holidays=[CHRISTMAS])).json()
    assert (saved["daily_limits"], saved["holidays"]) == (WEEK, [CHRISTMAS])
    assert (await family.parent.get(family.path)).json() == saved
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert (balance["day"], balance["limit_minutes"], balance["has_limits"]) == ("2026-03-02", 30, True)
    why = (await family.parent.get(f"/viewing-time/why/{family.child}")).json()
    assert (why["limit_seconds"], why["day"]["is_weekend"], why["day"]["is_holiday"]) == (1800, False, False)
    answer = await family.put(version=2, holidays=[{"first_date": "2026-03-01", "last_date": "2026-03-02"}])
    assert answer.status_code == 200
    why = (await family.parent.get(f"/viewing-time/why/{family.child}")).json()
    assert (why["limit_seconds"], why["day"]["is_holiday"]) == (10_800, True), "the limit of Saturday"
    assert "2026-03-02 is a holiday" in why["sentences"][0]
    await family.put(version=3, daily_limits=None)
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert balance["limit_minutes"] == 180, "the limit of the weekend"
    await family.put(version=4, holidays=None)
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert balance["limit_minutes"] == 120
    (shared,) = await api.services.shared_policies.load([family.child])
    assert shared is not None
    assert shared.rules is None


async def test_a_client_that_knows_the_old_fields_only_keeps_the_new_ones(family: Scene) -> None:
    await family.put(daily_limits=WEEK, holidays=[CHRISTMAS])
    old = {"weekday_limit_minutes": 60, "weekend_limit_minutes": 90, "reset_hour": 6, "timezone": "Europe/Oslo"}
    saved = (await family.put(version=2, **old, educational_exempt=True, warning_minutes=[10])).json()
    assert (saved["daily_limits"], saved["holidays"]) == (WEEK, [CHRISTMAS])
    assert (saved["weekday_limit_minutes"], saved["weekend_limit_minutes"]) == (60, 90)
    await family.parent.patch(f"/profiles/{family.child}", json={"timezone": "Asia/Tokyo"})
    kept = (await family.parent.get(family.path)).json()
    assert (kept["timezone"], kept["daily_limits"], kept["holidays"]) == ("Asia/Tokyo", WEEK, [CHRISTMAS])


async def test_outside_of_its_windows_nothing_plays(family: Scene) -> None:
    """It is Monday, 13:00 in Oslo."""
    night = {"days": ["sun"], "from": "21:00", "until": "01:00"}
    saved = (await family.put(windows=[EVENING, night])).json()
    assert saved["windows"] == [EVENING, night]
    assert (await family.parent.get(family.path)).json() == saved
    closed = {"reason": "window", "available_again_at": "2026-03-02T16:30:00.000Z"}
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert {name: balance[name] for name in closed} == closed
    assert (balance["enforcement"], balance["remaining_seconds"], balance["limit_minutes"]) == ("blocked", 0, 120)
    eligible = (await family.parent.get(f"/viewing-time/playback-eligible/{family.child}")).json()
    assert (eligible["eligible"], {name: eligible[name] for name in closed}) == (False, closed)
    why = (await family.parent.get(f"/viewing-time/why/{family.child}")).json()
    assert {name: why[name] for name in closed} == closed
    assert "It is outside of the windows in which playback is open." in why["sentences"]
    given = await family.parent.post(f"{family.path}/grant", json={"minutes": 15})
    assert given.status_code == 201
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert (balance["enforcement"], balance["remaining_seconds"]) == ("warning_15", 900), "it wins for its minutes"
    assert balance["reason"] == "window"
    await family.parent.delete(f"/parental-controls/profiles/{family.child}/grants/{given.json()['grant_id']}")
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert balance["enforcement"] == "blocked"
    assert (await family.put(version=2, weekday_limit_minutes=60)).json()["windows"] == [EVENING, night]
    await family.put(version=3, windows=None)
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert (balance["enforcement"], balance["reason"]) == ("allowed", "daily_limit")


async def test_a_day_without_a_limit_is_unlimited_among_limited_ones(family: Scene) -> None:
    await family.put(daily_limits=WEEK | {"mon": None})
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert (balance["limit_minutes"], balance["has_limits"], balance["remaining_seconds"]) == (None, True, None)
    await family.put(version=2, daily_limits=dict.fromkeys(WEEK))
    balance = (await family.parent.get(f"/viewing-time/balance/{family.child}")).json()
    assert (balance["limit_minutes"], balance["has_limits"]) == (None, False)


@pytest.mark.parametrize(
    ("change", "pointer"),
    [
        ({"weekday_limit_minutes": 0, "weekend_limit_minutes": 60}, "/weekday_limit_minutes"),
        ({"weekday_limit_minutes": 481}, "/weekday_limit_minutes"),
        ({"weekend_limit_minutes": 495}, "/weekend_limit_minutes"),
        ({"weekday_limit_minutes": 20}, "/weekday_limit_minutes"),
        ({"weekday_limit_minutes": -15}, "/weekday_limit_minutes"),
        ({"weekday_limit_minutes": "60"}, "/weekday_limit_minutes"),
        ({"weekday_limit_minutes": 60.5}, "/weekday_limit_minutes"),
        ({"weekday_limit_minutes": True}, "/weekday_limit_minutes"),
        ({"weekday_limit_minutes": 2**63}, "/weekday_limit_minutes"),
        ({"weekday_limit_minutes": None}, "/weekday_limit_minutes"),
        ({"reset_hour": 24}, "/reset_hour"),
        ({"reset_hour": -1}, "/reset_hour"),
        ({"reset_hour": None}, "/reset_hour"),
        ({"timezone": "posixrules"}, "/timezone"),
        ({"timezone": "../etc/passwd"}, "/timezone"),
        ({"timezone": ""}, "/timezone"),
        ({"timezone": "Europe/Oslo" * 1000}, "/timezone"),
        ({"timezone": "europe/oslo"}, "/timezone"),
        ({"timezone": None}, "/timezone"),
        ({"educational_exempt": 1}, "/educational_exempt"),
        ({"daily_limits": {day: 60 for day in WEEK if day != "tue"}}, "/daily_limits/tue"),
        ({"daily_limits": WEEK | {"sun": 20}}, "/daily_limits/sun"),
        ({"daily_limits": WEEK | {"day": 60}}, "/daily_limits"),
        ({"daily_limits": [60] * 7}, "/daily_limits"),
        ({"holidays": [{"first_date": "2026-12-24", "last_date": "2026-12-23"}]}, "/holidays/0"),
        ({"holidays": [{"first_date": "2026-12-24"}]}, "/holidays/0/last_date"),
        ({"holidays": [{"first_date": "1066-10-14", "last_date": "2026-12-24"}]}, "/holidays/0/first_date"),
        ({"holidays": [{"first_date": 1767225600, "last_date": "2026-12-24"}]}, "/holidays/0/first_date"),
        ({"holidays": [{"first_date": "2026-02-30", "last_date": "2026-12-24"}]}, "/holidays/0/first_date"),
        ({"holidays": [{"first_date": "20261224", "last_date": "2026-12-24"}]}, "/holidays/0/first_date"),
        ({"windows": [EVENING | {"until": "20:03"}]}, "/windows/0/until"),
        ({"windows": [EVENING | {"until": "24:00"}]}, "/windows/0/until"),
        ({"windows": [EVENING | {"from": "9:00"}]}, "/windows/0/from"),
        ({"windows": [EVENING | {"from": 900}]}, "/windows/0/from"),
        ({"windows": [EVENING | {"days": []}]}, "/windows/0/days"),
        ({"windows": [EVENING | {"days": ["mon", "mon"]}]}, "/windows/0/days"),
        ({"windows": [EVENING | {"days": ["day"]}]}, "/windows/0/days/0"),
        ({"windows": [EVENING | {"title": "x"}]}, "/windows/0"),
        ({"windows": [EVENING | {"from_": "18:00"}]}, "/windows/0"),
        ({"windows": [EVENING] * 22}, "/windows"),
        ({"weekly_limit_minutes": 0}, "/weekly_limit_minutes"),
        ({"weekly_limit_minutes": 20}, "/weekly_limit_minutes"),
        ({"weekly_limit_minutes": 10_095}, "/weekly_limit_minutes"),
        ({"break_after_minutes": 10, "break_minutes": 5}, "/break_after_minutes"),
        ({"break_after_minutes": 61, "break_minutes": 5}, "/break_after_minutes"),
        ({"break_after_minutes": 245, "break_minutes": 5}, "/break_after_minutes"),
        ({"break_after_minutes": 60, "break_minutes": 0}, "/break_minutes"),
        ({"break_after_minutes": 60, "break_minutes": 125}, "/break_minutes"),
        ({"break_after_minutes": 60}, "/break_after_minutes"),
        ({"break_minutes": 15}, "/break_minutes"),
        ({"finish_title_minutes": 31}, "/finish_title_minutes"),
        ({"finish_title_minutes": -1}, "/finish_title_minutes"),
        ({"holidays": [CHRISTMAS] * 51}, "/holidays"),
        ({"holidays": CHRISTMAS}, "/holidays"),
        ({"warning_minutes": [5, 5]}, "/warning_minutes"),
        ({"warning_minutes": [1, 2, 3, 4, 5, 6]}, "/warning_minutes"),
        ({"warning_minutes": [0]}, "/warning_minutes/0"),
        ({"warning_minutes": [121]}, "/warning_minutes/0"),
        ({"warning_minutes": "5"}, "/warning_minutes"),
        ({"monthly_limit_minutes": 60}, ""),
        ([], ""),
    ],
)
async def test_refuses_what_is_no_setting(family: Scene, change: Any, pointer: str) -> None:
    answer = await family.parent.put(family.path, json=change, headers={"If-Match": '"1"'})
    assert answer.status_code == 422
    problem = answer.json()
    assert problem["code"] == "invalid_input"
    assert [error.get("pointer", "") for error in problem["errors"]] == [pointer]
    assert (await family.parent.get(family.path)).headers["ETag"] == '"1"'


async def test_wants_to_know_which_version_is_replaced(family: Scene) -> None:
    blind = await family.parent.put(family.path, json={"reset_hour": 7})
    assert (blind.status_code, blind.json()["code"]) == (428, "precondition_required")
    stale = await family.put(version=0, reset_hour=7)
    assert (stale.status_code, stale.json()["code"]) == (412, "precondition_failed")
    assert (await family.parent.get(family.path)).json()["reset_hour"] == 6


async def test_of_two_saves_of_one_version_one_wins(family: Scene) -> None:
    answers = await asyncio.gather(family.put(weekday_limit_minutes=30), family.put(weekday_limit_minutes=45))
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    assert (await family.parent.get(family.path)).json() == won


async def test_adults_have_no_settings(family: Scene) -> None:
    read = await family.parent.get(path_of(family.adult))
    saved = await family.parent.put(path_of(family.adult), json={}, headers={"If-Match": '"1"'})
    for answer in (read, saved):
        assert (answer.status_code, answer.json()["code"]) == (404, "no_config")


async def test_settings_of_others_are_none_of_ours(api: Api, family: Scene) -> None:
    stranger = api.signed_in(await api.rows.account())
    for path in (family.path, path_of(str(uuid4())), path_of("nobody"), path_of("%00"), path_of("x" * 5000)):
        read = await stranger.get(path)
        saved = await stranger.put(path, json={}, headers={"If-Match": "*"})
        for answer in (read, saved):
            assert (answer.status_code, answer.json()["code"]) == (403, "profile_access_denied")


async def test_only_parents_may(api: Api, family: Scene) -> None:
    assert (await api.http.get(family.path)).status_code == 401
    for role in (Role.HOUSEHOLD, Role.SERVICE, Role.ADMIN):
        other = api.signed_in(family.account, role)
        assert (await other.get(family.path)).status_code == 403
        assert (await other.put(family.path, json={}, headers={"If-Match": "*"})).status_code == 403
