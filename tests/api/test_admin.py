"""Admins read any account, nothing else, and each reading stands in the account's audit log."""

from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest

from app.auth.tokens import Role
from app.postgres_store import tables
from app.postgres_store.erasure import PostgresErasure
from app.timestamps import utc
from tests.scenes.api import Api
from tests.scenes.households import registered


def _support(api: Api, name: str = "robin") -> httpx.AsyncClient:
    return api.signed_in(name, Role.ADMIN)


def _undated(answer: dict[str, object]) -> dict[str, object]:
    """An answer without the instants that move from one call to the next."""
    moving = {"server_time", "as_of", "decided_at", "stop_at"}
    return {name: value for name, value in answer.items() if name not in moving}


async def test_support_reads_what_the_parents_see(api: Api) -> None:
    household = await registered(api)
    child = await household.child(name="Ada Secret")
    support = _support(api)
    account = f"/admin/accounts/{household.id}"
    listed = await support.get(f"{account}/profiles")
    assert listed.json() == [{"profile_id": child, "is_kids": True}]
    for theirs, ours in (
        (f"/viewing-time/balance/{child}", f"{account}/profiles/{child}/balance"),
        (f"/viewing-time/why/{child}", f"{account}/profiles/{child}/why"),
        (f"/parental-controls/profiles/{child}/history", f"{account}/profiles/{child}/history"),
    ):
        read = await support.get(ours)
        assert read.status_code == 200, read.text
        assert _undated(read.json()) == _undated((await household.parent.get(theirs)).json())
        assert "Secret" not in read.text


async def test_each_reading_is_in_the_audit_log_with_a_name(api: Api) -> None:
    household = await registered(api)
    child = await household.child()
    support, account = _support(api, "robin"), f"/admin/accounts/{household.id}"
    reads = ["profiles", f"profiles/{child}/balance", f"profiles/{child}/why", f"profiles/{child}/history"]
    for path in (*reads, "dead-letters", "audit"):
        api.clock.at_ms += 1000
        assert (await support.get(f"{account}/{path}")).status_code == 200
    entries = (await household.parent.get("/account/audit")).json()["entries"]
    newest = [entry for entry in entries if entry["action"] == "admin_read"]
    assert [entry["detail"]["what"] for entry in newest] == [
        "audit", "dead_letters", "history", "why", "balance", "profiles",
    ]  # fmt: skip
    assert {entry["actor"] for entry in newest} == {"admin:robin"}
    assert [entry["profile_id"] for entry in newest] == [None, None, child, child, child, None]


async def test_support_uses_the_ids_of_the_platform(api: Api) -> None:
    """An id may hold a slash. Whoever is no admin does not learn whether it exists."""
    family, service = f"family/{uuid4()}", api.signed_in("provisioning", Role.SERVICE)
    account = f"platform/accounts/{quote(family, safe='')}"
    assert (await service.put(f"/{account}", json={"timezone": "Europe/Oslo"})).status_code == 201
    made = await service.put(f"/{account}/profiles/ada", json={"name": "Ada", "is_kids": True})
    support, path = _support(api), f"/admin/accounts/{quote(family, safe='')}"
    listed = await support.get(f"{path}/profiles")
    assert listed.json() == [{"profile_id": made.json()["profile_id"], "is_kids": True}]
    assert (await support.get(f"{path}/profiles/ada/why")).status_code == 200
    assert (await support.get(f"{path}/profiles/ben/why")).json()["code"] == "profile_access_denied"
    assert (await support.get("/admin/accounts/nobody/profiles")).json()["code"] == "not_found"
    assert (await service.get("/admin/accounts/nobody/profiles")).status_code == 403


async def test_an_admin_pages_through_the_audit_log(api: Api) -> None:
    household = await registered(api)
    for _ in range(3):
        api.clock.at_ms += 1000
        await household.child()
    support, path = _support(api), f"/admin/accounts/{household.id}/audit"
    first = (await support.get(path, params={"limit": 2})).json()
    assert [entry["action"] for entry in first["entries"]] == ["admin_read", "profile_created"]
    second = (await support.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [entry["action"] for entry in second["entries"]] == ["profile_created", "profile_created"]
    assert second["next_cursor"] is None


async def test_there_is_nothing_to_read_of_nobody(api: Api) -> None:
    household, other = await registered(api), await registered(api)
    child = await household.child()
    support = _support(api)
    for account_id in (str(uuid4()), "-" * 36):
        unknown = await support.get(f"/admin/accounts/{account_id}/audit")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    for profile_id in (child, "-" * 36):
        denied = await support.get(f"/admin/accounts/{other.id}/profiles/{profile_id}/balance")
        assert (denied.status_code, denied.json()["code"]) == (403, "profile_access_denied")
    await PostgresErasure(api.services.engine).account(household.id, at_ms=api.clock())
    assert (await support.get(f"/admin/accounts/{household.id}/audit")).status_code == 404
    assert await api.services.privacy.audit.entries(household.id, before=None, limit=10) == []


@pytest.mark.parametrize("role", [Role.HOUSEHOLD, Role.PARENT, Role.SERVICE])
async def test_nobody_else_reads_as_an_admin(api: Api, role: Role) -> None:
    household = await registered(api)
    caller = api.signed_in(household.id, role)
    for path in (f"/admin/accounts/{household.id}/audit", "/admin/flush"):
        assert (await caller.get(path)).status_code == 403


async def test_the_state_of_the_flush_is_shown(api: Api) -> None:
    await api.rows.add(
        tables.flush_state,
        {"bucket": 3, "watermark": 7, "generation": 1, "flushed_at": utc(api.clock() - 90_000)},
        {"bucket": 5, "watermark": 9, "generation": 0, "flushed_at": utc(api.clock() - 30_000)},
    )
    household = await registered(api)
    child = await household.child()
    support = _support(api)
    before = (await support.get("/admin/flush")).json()
    title = [{"id": "moon-pirates", "name": "Moon Pirates", "is_educational": False}]
    assert (await api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=title)).status_code == 200
    beat = {"profile_id": child, "title_id": "moon-pirates", "device_id": "tv", "device_type": "tv"}
    assert (await household.player.post("/viewing-time/heartbeat", json=beat)).status_code == 200
    await _park(api, child, "a")
    state = (await support.get("/admin/flush")).json()
    added = {name: state[name] - before[name] for name in ("backlog_children", "backlog_finished", "dead_letters")}
    assert added == {"backlog_children": 1, "backlog_finished": 0, "dead_letters": 1}
    assert state["lag_seconds"] == 0.0
    assert [(bucket["bucket"], bucket["age_seconds"]) for bucket in state["buckets"]] == [(3, 90.0), (5, 30.0)]


async def test_dead_letters_of_an_account_are_listed_newest_first(api: Api) -> None:
    household, other = await registered(api), await registered(api)
    child, stranger = await household.child(), await other.child()
    for profile_id, source in ((child, "one"), (stranger, "theirs"), (child, "two"), (child, "three")):
        await _park(api, profile_id, source)
    support, path = _support(api), f"/admin/accounts/{household.id}/dead-letters"
    first = (await support.get(path, params={"limit": 2})).json()
    second = (await support.get(path, params={"limit": 2, "cursor": first["next_cursor"]})).json()
    sources = [letter["source"] for page in (first, second) for letter in page["dead_letters"]]
    assert sources == [f"{child}|{word}" for word in ("three", "two", "one")]
    assert second["next_cursor"] is None
    assert first["dead_letters"][0].items() >= {"profile_id": child, "error": "violates", "counters": {}}.items()


async def _park(api: Api, profile_id: str, source: str) -> None:
    row = {"profile_id": profile_id, "source": f"{profile_id}|{source}", "counters": {}, "error": "violates"}
    await api.rows.add(tables.parked_rows, row | {"parked_at": utc(api.clock())})
