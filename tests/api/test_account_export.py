"""The export of an account and its audit log are complete and only for parents."""

from datetime import date
from typing import Any
from uuid import uuid4

import pytest

from app.auth.tokens import Role
from app.postgres_store import tables
from app.postgres_store.profile_tables import ACCOUNT_KINDS, KINDS
from app.timestamps import utc
from tests.scenes.api import NOON, Api
from tests.scenes.households import PASSWORD, Household, registered

pytestmark = pytest.mark.usefixtures("partitions")

TODAY = date(2026, 3, 2)
_OF_NOBODY = {"feed_state", "webhook_receivers", "webhook_deliveries", "titles", "flush_state", "schema_compatibility"}
_LEFT_BY_ERASURE = {"erasure_tombstones"}


async def _export(family: Household) -> dict[str, Any]:
    answer = await family.parent.get("/account/export")
    assert answer.status_code == 200, answer.text
    assert "attachment" in answer.headers["content-disposition"]
    exported: dict[str, Any] = answer.json()
    return exported


async def _audit(family: Household, **params: Any) -> dict[str, Any]:
    answer = await family.parent.get("/account/audit", params=params)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


def test_every_table_that_holds_something_of_an_account_is_exported() -> None:
    """A new table is of a profile, of an account, of nobody, or this test asks about it."""
    exported = {kind.table.name for kind in (*KINDS.values(), *ACCOUNT_KINDS.values())} | {"accounts", "profiles"}
    assert exported | _OF_NOBODY | _LEFT_BY_ERASURE == set(tables.metadata.tables)
    owned = {
        table.name for table in tables.metadata.tables.values() if {"account_id", "profile_id"} & set(table.c.keys())
    }
    assert owned <= exported


async def test_it_holds_the_account_and_every_profile(api: Api) -> None:
    family, stranger = await registered(api), await registered(api)
    children = [await family.child(name=name) for name in ("Ada", "Bo")]
    adult = (await family.parent.post("/profiles", json={"name": "Kim", "is_kids": False})).json()["id"]
    theirs = await stranger.child(name="Zed")
    await family.player.post("/parental-controls/pin", json={"new_pin": "4711", "password": PASSWORD})
    device = await family.player.post("/auth/devices", json={"name": "phone", "pin": "4711"})
    assert device.status_code == 201
    await family.player.post("/parental-controls/pin/verify", json={"pin": "0000"})
    await api.rows.balance(children[0], TODAY, used_ms=60_000)
    report = {"children": [{"profile_id": children[0], "profile_name": "Ada"}]}
    row = {"account_id": family.id, "week_ending": TODAY, "report": report, "as_of": utc(NOON), "changes": 0}
    await api.rows.add(tables.weekly_reports, row)

    exported = await _export(family)

    assert set(exported) == {"exported_at", "account", *ACCOUNT_KINDS, "profiles"}
    assert (exported["account"]["email"], exported["account"]["has_pin"]) == (family.email, True)
    assert {"password_hash", "pin_hash"}.isdisjoint(exported["account"])
    assert set(tables.accounts.c.keys()) - {"password_hash", "pin_hash"} <= set(exported["account"])
    assert [entry["name"] for entry in exported["devices"]] == ["phone"]
    assert [entry["kind"] for entry in exported["lockouts"]] == ["pin"]
    assert len(exported["weekly_reports"]) == 1
    documents = {document["profile"]["id"]: document for document in exported["profiles"]}
    assert sorted(document["profile"]["name"] for document in documents.values()) == ["Ada", "Bo", "Kim"]
    assert set(documents) == {*children, adult}
    for profile_id, document in documents.items():
        alone = (await family.parent.get(f"/parental-controls/profiles/{profile_id}/export")).json()
        assert document == {name: value for name, value in alone.items() if name != "exported_at"}
    for name, kind in ACCOUNT_KINDS.items():
        columns = {column.name for column in kind.table.c} - {"account_id"}
        assert columns <= set(exported[name][0]), f"{name} lacks columns"
    text = str(exported)
    assert theirs not in text
    assert stranger.email not in text


async def test_an_erased_profile_is_in_the_log_alone(api: Api) -> None:
    family = await registered(api)
    child = await family.child(name="Ada")
    assert (await family.parent.delete(f"/profiles/{child}")).status_code == 200
    exported = await _export(family)
    assert exported["profiles"] == []
    assert "profile_erased" in [entry["action"] for entry in exported["audit_log"]]
    assert "Ada" not in str(exported)


async def test_parents_read_their_log_newest_first(api: Api) -> None:
    family = await registered(api)
    child = await family.child()
    for minutes in (15, 30, 60):
        api.clock.at_ms += 60_000
        body = {"minutes": minutes}
        await family.parent.post(f"/parental-controls/profiles/{child}/viewing-time/grant", json=body)
    page = await _audit(family)
    assert page["next_cursor"] is None
    acts = [(entry["action"], entry["detail"].get("minutes")) for entry in page["entries"]]
    assert acts[:3] == [("time_granted", 60), ("time_granted", 30), ("time_granted", 15)]
    newest = page["entries"][0]
    assert (newest["at"], newest["actor"], newest["profile_id"]) == ("2026-03-02T12:03:00.000Z", "parent", child)
    assert sorted((entry["at"] for entry in page["entries"]), reverse=True) == [
        entry["at"] for entry in page["entries"]
    ]


async def test_the_log_is_read_page_by_page(api: Api) -> None:
    """Also where all was done at one instant, and while something new is done."""
    family = await registered(api)
    at = utc(NOON)
    entry: dict[str, object] = {
        "account_id": family.id,
        "profile_id": None,
        "actor": "parent",
        "detail": None,
        "at": at,
    }
    await api.rows.add(tables.audit_log, *(entry | {"action": f"act-{place}"} for place in range(25)))
    whole = [entry["action"] for entry in (await _audit(family))["entries"]]
    assert len(whole) == 25
    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await _audit(family, limit=10, **cursor)
        found += [entry["action"] for entry in page["entries"]]
        await api.rows.add(tables.audit_log, entry | {"action": "late", "at": utc(NOON + 1)})
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert found == whole


async def test_only_parents_of_the_account_read_either(api: Api) -> None:
    family, stranger = await registered(api), await registered(api)
    await family.child()
    for path in ("/account/export", "/account/audit"):
        assert (await family.player.get(path)).json()["code"] == "pin_required"
        gone = api.signed_in(str(uuid4()), Role.PARENT)
        answer = await gone.get(path)
        assert answer.status_code in {200, 401}
        assert answer.status_code == 401 or answer.json() == {"entries": [], "next_cursor": None}
    mine = await _audit(family, limit=1)
    other = await stranger.parent.get("/account/audit", params={"cursor": "1"})
    assert (mine["entries"][0]["action"], other.json()["entries"]) == ("profile_created", [])


@pytest.mark.parametrize(
    "params", [{"cursor": "x"}, {"cursor": "9" * 19}, {"limit": 0}, {"limit": 501}, {"cursor": ""}]
)
async def test_what_is_no_page_is_refused(api: Api, params: dict[str, Any]) -> None:
    family = await registered(api)
    assert (await family.parent.get("/account/audit", params=params)).status_code == 422
