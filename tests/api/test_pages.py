"""Grants and requests in pages; what all children of an account ask for; titles that leave the catalogue."""

import pytest

from app.auth.tokens import Role
from app.postgres_store.partitions import make_partitions
from app.postgres_store.retention import PostgresRetention
from app.timestamps import utc
from tests.scenes.api import Api
from tests.scenes.households import Household, registered


async def _ask(household: Household, child: str, minutes: int = 15) -> str:
    answer = await household.player.post(f"/parental-controls/profiles/{child}/requests", json={"minutes": minutes})
    assert answer.status_code == 201, answer.text
    request_id: str = answer.json()["request_id"]
    return request_id


@pytest.mark.parametrize("kind", ["grants", "requests"])
@pytest.mark.parametrize("limit", [1, 2, 5, 6])
async def test_pages_together_hold_each_entry_once(api: Api, kind: str, limit: int) -> None:
    household = await registered(api)
    child = await household.child()
    controls = f"/parental-controls/profiles/{child}"
    for number in range(5):
        api.clock.at_ms += 61_000 * (number % 2)  # some share an instant
        if kind == "grants":
            await household.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15})
        else:
            await _ask(household, child, (15, 30, 60)[number % 3])
    whole = (await household.parent.get(f"{controls}/{kind}")).json()
    assert (len(whole[kind]), whole["next_cursor"]) == (5, None)
    paged: list[object] = []
    cursor: str | None = None
    pages = 0
    while pages == 0 or cursor is not None:
        params: dict[str, str | int] = {"limit": limit} | ({} if cursor is None else {"cursor": cursor})
        page = (await household.parent.get(f"{controls}/{kind}", params=params)).json()
        paged, cursor, pages = [*paged, *page[kind]], page["next_cursor"], pages + 1
    assert paged == whole[kind]
    assert pages == -(-5 // limit)


@pytest.mark.parametrize("cursor", ["x", "1", "99999999999999.x", "1." + "-" * 36, "٣." + "0" * 36, ""])
async def test_a_cursor_that_was_never_answered_is_refused(api: Api, cursor: str) -> None:
    household = await registered(api)
    child = await household.child()
    for path in (f"profiles/{child}/grants", f"profiles/{child}/requests", "requests"):
        refused = await household.parent.get(f"/parental-controls/{path}", params={"cursor": cursor})
        assert refused.status_code == 422


async def test_open_requests_of_all_children_stand_in_one_list(api: Api) -> None:
    household, stranger = await registered(api), await registered(api)
    ada, ben = await household.child(name="Ada"), await household.child(name="Ben")
    await _ask(stranger, await stranger.child())
    made = []
    for child in (ada, ben, ada):
        api.clock.at_ms += 61_000
        made.append((child, await _ask(household, child)))
    await household.parent.post(f"/parental-controls/profiles/{ada}/requests/{made[0][1]}/deny")

    async def listed(**params: str | int) -> list[tuple[str, str]]:
        answer = await household.parent.get("/parental-controls/requests", params=params)
        return [(entry["profile_id"], entry["request_id"]) for entry in answer.json()["requests"]]

    assert await listed(status="open") == [made[2], made[1]]
    assert await listed(status="denied") == [made[0]]
    assert await listed() == [made[2], made[1], made[0]]
    assert await listed(limit=1, status="open") == [made[2]]
    api.clock.at_ms += 2 * 86_400_000
    assert await listed(status="open") == []
    assert await listed(status="expired") == [made[2], made[1]]
    assert (await household.player.get("/parental-controls/requests")).status_code == 403
    wrong = await household.parent.get("/parental-controls/requests", params={"status": "closed"})
    assert wrong.status_code == 422


async def test_a_removed_title_leaves_the_catalogue_and_stays_in_history(api: Api) -> None:
    catalogue = api.signed_in("catalogue", Role.SERVICE)
    household = await registered(api)
    child = await household.child()
    film = {"id": "a/film", "name": "Moon Pirates", "is_educational": True, "duration_seconds": None}
    await catalogue.put("/catalog/titles", json=[film])
    beat = {"profile_id": child, "title_id": "a/film", "device_id": "tv", "device_type": "tv"}
    assert (await household.player.post("/viewing-time/heartbeat", json=beat)).status_code == 200
    for _ in range(2):
        assert (await catalogue.delete("/catalog/titles/a%2Ffilm")).status_code == 204
    assert (await household.player.get("/catalog/titles")).json()["titles"] == []
    unknown = await catalogue.delete("/catalog/titles/nothing")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    assert (await household.parent.delete("/catalog/titles/a%2Ffilm")).status_code == 403
    api.services.viewing.service._titles.expire()  # what the announcement does
    refused = await household.player.post("/viewing-time/heartbeat", json=beat | {"device_id": "tablet"})
    assert (refused.status_code, refused.json()["code"]) == (404, "title_unknown")
    await make_partitions(api.services.engine, at_ms=api.clock())
    day = utc(api.clock()).date()
    await api.rows.balance(child, day, used_ms=60_000)
    await api.rows.session(child, day, started_ms=api.clock() - 60_000, title_id="a/film", used_ms=60_000)
    history = (await household.parent.get(f"/parental-controls/profiles/{child}/history")).json()
    assert history["days"][0]["sessions"][0]["title_name"] == "Moon Pirates"
    counts = (await catalogue.put("/catalog/titles", json=[film])).json()
    assert (counts["created"], counts["updated"]) == (0, 1)
    assert (await household.player.get("/catalog/titles")).json()["titles"] == [film]


async def test_removed_titles_go_when_no_history_shows_them(api: Api) -> None:
    catalogue = api.signed_in("catalogue", Role.SERVICE)
    titles = [{"id": word, "name": word, "is_educational": False} for word in ("kept", "gone")]
    await catalogue.put("/catalog/titles", json=titles)
    await catalogue.delete("/catalog/titles/gone")
    rows = PostgresRetention(api.services.engine)
    assert await rows.delete("removed_titles", before_ms=api.clock(), most=10) == 0
    assert await rows.delete("removed_titles", before_ms=api.clock() + 1, most=10) == 1
    assert (await catalogue.delete("/catalog/titles/gone")).status_code == 404
