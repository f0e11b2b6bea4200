"""Profiles of a household."""

import asyncio
from typing import Any
from uuid import uuid4

from sqlalchemy import func, select

from app.auth.tokens import Role
from app.domain.viewing_day import Calendar
from app.postgres_store import tables
from tests.scenes.api import Api
from tests.scenes.households import Household, registered


async def _policy(api: Api, profile_id: str) -> object:
    (policy,) = await api.services.shared_policies.load([profile_id])
    return policy


async def test_a_child_begins_with_limits_and_an_adult_without(api: Api) -> None:
    household = await registered(api)
    created = await household.parent.post("/profiles", json={"name": " Ada ", "is_kids": True})
    assert created.status_code == 201
    child = created.json()
    expected = {"name": "Ada", "is_kids": True, "timezone": "Europe/Oslo"} | {
        "limits_reviewed": False,
        "external_id": None,
    }
    assert child == {"id": child["id"], **expected}
    api.clock.at_ms += 1
    body = {"name": "Kim", "is_kids": False, "timezone": "Asia/Tokyo"}
    adult = (await household.parent.post("/profiles", json=body)).json()
    assert (adult["timezone"], adult["limits_reviewed"]) == ("Asia/Tokyo", True)
    listed = await household.player.get("/profiles")
    assert listed.json() == [child, adult]
    (policy,) = await api.services.shared_policies.load([child["id"]])
    assert policy is not None
    assert (policy.weekday_limit_minutes, policy.weekend_limit_minutes, policy.version) == (120, 180, 1)
    assert policy.calendar is not None


async def test_only_parents_change_who_belongs_to_a_household(api: Api) -> None:
    household = await registered(api)
    child = await household.child()
    calls = [
        household.player.post("/profiles", json={"name": "B", "is_kids": True}),
        household.player.patch(f"/profiles/{child}", json={"name": "B"}),
        household.player.delete(f"/profiles/{child}"),
        api.signed_in(household.id, Role.SERVICE).get("/profiles"),
        api.signed_in(household.id, Role.ADMIN).get("/profiles"),
    ]
    answers = await asyncio.gather(*calls)
    assert [answer.status_code for answer in answers] == [403] * 5
    assert [answer.json()["code"] for answer in answers] == ["pin_required"] * 3 + ["forbidden"] * 2
    assert (await api.http.get("/profiles")).status_code == 401


async def test_another_familys_profile_and_none_look_the_same(api: Api) -> None:
    household, stranger = await registered(api), await registered(api)
    child = await household.child()
    for profile_id in (child, str(uuid4()), "x", child.upper(), "%00"):
        changed = await stranger.parent.patch(f"/profiles/{profile_id}", json={"name": "B"})
        erased = await stranger.parent.delete(f"/profiles/{profile_id}")
        assert changed.status_code == erased.status_code == 403
        assert changed.json() | {"request_id": ""} == erased.json() | {"request_id": ""}
        assert changed.json()["code"] == "profile_access_denied"


async def test_a_household_never_grows_beyond_its_size(api: Api) -> None:
    household = await registered(api)
    calls = [household.parent.post("/profiles", json={"name": f"{i}", "is_kids": False}) for i in range(24)]
    statuses = [answer.status_code for answer in await asyncio.gather(*calls)]
    assert sorted(statuses) == [201] * 20 + [422] * 4
    assert len((await household.player.get("/profiles")).json()) == 20


async def test_a_new_name_changes_no_decision(api: Api) -> None:
    household = await registered(api)
    child = await household.child()
    before = await _policy(api, child)
    changed = await household.parent.patch(f"/profiles/{child}", json={"name": "Bo"})
    assert (changed.status_code, changed.json()["name"]) == (200, "Bo")
    assert await _policy(api, child) == before


async def _settings(household: Household, child: str) -> dict[str, Any]:
    answer = await household.parent.get(f"/parental-controls/profiles/{child}/viewing-time")
    assert answer.status_code == 200, answer.text
    settings: dict[str, Any] = answer.json()
    return settings


async def _zones(household: Household, child: str) -> tuple[object, object]:
    """As the profile and as its settings tell."""
    (profile,) = [profile for profile in await _profiles(household) if profile["id"] == child]
    return profile["timezone"], (await _settings(household, child))["timezone"]


async def _calendar(api: Api, child: str) -> Calendar:
    (policy,) = await api.services.shared_policies.load([child])
    assert policy is not None
    assert policy.calendar is not None
    return policy.calendar


async def test_a_zone_has_one_owner(api: Api) -> None:
    """Changing it at either place is one change, which acts when the running day ends."""
    household = await registered(api)
    child = await household.child()
    running = (await _calendar(api, child)).day_at(api.clock())
    moved = await household.parent.patch(f"/profiles/{child}", json={"timezone": "Asia/Tokyo"})
    assert (moved.status_code, moved.json()["timezone"]) == (200, "Asia/Tokyo")
    assert await _zones(household, child) == ("Asia/Tokyo", "Asia/Tokyo")
    settings = await _settings(household, child)
    assert (settings["version"], settings["limits_reviewed"]) == (2, False)
    ends_at = "2026-03-03T05:00:00.000Z"  # 06:00 in Oslo
    assert settings["pending_change"] == {"timezone": "Asia/Tokyo", "reset_hour": 6, "effective_at": ends_at}
    calendar = await _calendar(api, child)
    assert calendar.day_at(api.clock()) == running
    following = calendar.day_at(running.ends_ms)
    assert following.ends_ms - following.starts_ms == 16 * 3_600_000, "06:00 in Tokyo is 21:00 UTC"

    again = await household.parent.patch(f"/profiles/{child}", json={"timezone": "Asia/Tokyo"})
    assert again.status_code == 200
    assert (await _settings(household, child))["version"] == 2, "nothing was to be changed"
    path = f"/parental-controls/profiles/{child}/viewing-time"
    saved = await household.parent.put(path, json={"timezone": "America/New_York"}, headers={"If-Match": '"2"'})
    assert saved.status_code == 200, saved.text
    assert await _zones(household, child) == ("America/New_York", "America/New_York")


async def test_a_child_that_grows_up_and_back_has_its_settings_and_its_day(api: Api) -> None:
    """UTC, reset 0, 03:30: by the first settings of a child it would still be yesterday."""
    household = await registered(api, timezone="UTC")
    api.clock.at_ms += -12 * 3_600_000
    child = await household.child()
    path = f"/parental-controls/profiles/{child}/viewing-time"
    change = {"reset_hour": 0, "weekday_limit_minutes": 45, "weekend_limit_minutes": 45}
    assert (await household.parent.put(path, json=change, headers={"If-Match": "*"})).status_code == 200
    api.clock.at_ms += 24 * 3_600_000 + 3_600_000 * 7 // 2  # 2026-03-03 03:30
    before = await _settings(household, child), (await _calendar(api, child))
    for is_kids in (False, True):
        answer = await household.parent.patch(f"/profiles/{child}", json={"is_kids": is_kids})
        assert answer.json()["is_kids"] is is_kids
    assert (await _settings(household, child), (await _calendar(api, child))) == before
    given = await household.parent.post(f"{path}/grant", json={"minutes": 30})
    assert (given.json()["day"], given.json()["remaining_minutes"]) == ("2026-03-03", 75)
    asked = await household.player.post(f"/parental-controls/profiles/{child}/requests", json={"minutes": 15})
    assert asked.json()["day"] == "2026-03-03"


async def test_an_adult_who_moves_and_becomes_a_child_again_lives_where_it_moved_to(api: Api) -> None:
    household = await registered(api)
    child = await household.child()
    for change in ({"is_kids": False}, {"timezone": "Asia/Tokyo"}, {"is_kids": True}):
        assert (await household.parent.patch(f"/profiles/{child}", json=change)).status_code == 200
    assert await _zones(household, child) == ("Asia/Tokyo", "Asia/Tokyo")
    adult = (await household.parent.post("/profiles", json={"name": "A", "is_kids": False})).json()["id"]
    body = {"is_kids": True, "timezone": "Asia/Tokyo"}
    assert (await household.parent.patch(f"/profiles/{adult}", json=body)).json()["timezone"] == "Asia/Tokyo"
    assert await _zones(household, adult) == ("Asia/Tokyo", "Asia/Tokyo")


async def test_a_child_that_grows_up_and_back_keeps_its_versions_rising(api: Api) -> None:
    household = await registered(api)
    child = await household.child()
    seen = []
    for is_kids in (False, True, True):
        answer = await household.parent.patch(f"/profiles/{child}", json={"is_kids": is_kids})
        assert answer.json()["is_kids"] is is_kids
        (policy,) = await api.services.shared_policies.load([child])
        assert policy is not None
        seen.append((policy.is_kids, policy.version, policy.config_version))
    assert seen == [(False, 2, 0), (True, 3, 1), (True, 3, 1)]


async def test_an_erased_profile_leaves_a_receipt_and_a_tombstone(api: Api) -> None:
    household = await registered(api)
    child, other = await household.child(), await household.child()
    answer = await household.parent.delete(f"/profiles/{child}")
    assert answer.status_code == 200
    counts = answer.json()["counts"]
    assert (counts["profiles"], counts["settings"], counts["settings_history"]) == (1, 1, 1)
    assert answer.json()["erased_at"].endswith("Z")
    assert [profile["id"] for profile in (await _profiles(household))] == [other]
    assert await _policy(api, child) is None
    assert (await household.parent.delete(f"/profiles/{child}")).status_code == 403
    async with api.services.engine.connect() as database:
        graves = tables.erasure_tombstones
        found = await database.execute(select(func.count()).where(graves.c.subject_id == child))
        assert found.scalar_one() == 1


async def _profiles(household: Household) -> list[dict[str, object]]:
    profiles: list[dict[str, object]] = (await household.player.get("/profiles")).json()
    return profiles
