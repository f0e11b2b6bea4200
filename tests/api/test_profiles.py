"""Profiles of a household."""

import asyncio
from uuid import uuid4

from sqlalchemy import func, select

from app.auth.tokens import Role
from app.postgres_store import tables
from tests.api.conftest import Api
from tests.api.households import Household, registered


async def _policy(api: Api, profile_id: str) -> object:
    (policy,) = await api.services.shared_policies.load([profile_id])
    return policy


async def test_a_child_begins_with_limits_and_an_adult_without(api: Api) -> None:
    household = await registered(api)
    created = await household.parent.post("/profiles", json={"name": " Ada ", "is_kids": True})
    assert created.status_code == 201
    child = created.json()
    expected = {"name": "Ada", "is_kids": True, "timezone": "Europe/Oslo", "limits_reviewed": False}
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
        assert changed.json() == erased.json()
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
    changed = await household.parent.patch(f"/profiles/{child}", json={"name": "Bo", "timezone": "Asia/Tokyo"})
    assert changed.status_code == 200
    assert (changed.json()["name"], changed.json()["timezone"]) == ("Bo", "Asia/Tokyo")
    assert await _policy(api, child) == before


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
    assert seen == [(False, 2, 0), (True, 3, 2), (True, 3, 2)]


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
