"""Upload and listing of titles."""

import json

import httpx
import pytest

from app.auth.tokens import Role
from tests.scenes.api import Api
from tests.scenes.households import registered


def _title(title_id: str, **changes: object) -> dict[str, object]:
    return {"id": title_id, "name": f"Title {title_id}", "is_educational": False, **changes}


def _service(api: Api) -> httpx.AsyncClient:
    return api.signed_in("catalogue", Role.SERVICE)


async def _upload(api: Api, *titles: dict[str, object]) -> dict[str, int]:
    answer = await _service(api).put("/catalog/titles", json=list(titles))
    assert answer.status_code == 200, answer.text
    counts: dict[str, int] = answer.json()
    return counts


async def test_an_upload_says_what_was_new(api: Api) -> None:
    first = await _upload(api, _title("new-1"), _title("new-2", duration_seconds=60))
    assert first == {"received": 2, "created": 2, "updated": 0, "unchanged": 0}
    again = await _upload(api, _title("new-3"), _title("new-1"), _title("new-2"))
    assert again == {"received": 3, "created": 1, "updated": 1, "unchanged": 1}
    assert await _upload(api) == {"received": 0, "created": 0, "updated": 0, "unchanged": 0}


async def test_ndjson_is_as_good_as_a_list(api: Api) -> None:
    lines = "\n".join(json.dumps(_title(f"line-{i}", is_educational=True)) for i in range(3)) + "\n"
    answer = await _service(api).put("/catalog/titles", content=lines, headers={"Content-Type": "application/x-ndjson"})
    assert answer.json()["created"] == 3


async def test_titles_are_read_page_by_page(api: Api) -> None:
    await _upload(api, *(_title(f"page-{i:03}") for i in range(25)))
    household = await registered(api)
    found: list[str] = []
    cursor = ""
    while True:
        params: dict[str, str | int] = {"limit": 7, "cursor": cursor}
        page = (await household.player.get("/catalog/titles", params=params)).json()
        found += [title["id"] for title in page["titles"]]
        if (cursor := page["next_cursor"]) is None:
            break
    assert found == sorted(found)
    assert {f"page-{i:03}" for i in range(25)} <= set(found)
    everything = (await household.player.get("/catalog/titles?limit=1000")).json()
    assert found == [title["id"] for title in everything["titles"]]


async def test_ten_thousand_titles_fit_and_one_more_does_not(api: Api) -> None:
    titles = [_title(f"many-{i:05}", name="n" * 200) for i in range(10_000)]
    assert (await _upload(api, *titles))["created"] == 10_000
    answer = await _service(api).put("/catalog/titles", json=[*titles, _title("one")])
    assert answer.status_code == 422


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([{"id": "a", "name": "b"}], "/0"),
        ([_title("a"), _title("b", is_educational="yes")], "/1/is_educational"),
        ([_title("x" * 65)], "/0/id"),
        ([_title("")], "/0/id"),
        ([_title("nul\0", name="n")], "/0/id"),
        ([_title("a"), _title("no\u00a0break")], "/1/id"),
        ([_title("a", name="n" * 301)], "/0/name"),
        ([_title("a", name="line\nbreak")], "/0/name"),
        ([_title("a", duration_seconds=2**63)], "/0/duration_seconds"),
        ([_title("a", duration_seconds=-1)], "/0/duration_seconds"),
        ([_title("a", surprise=1)], "/0"),
        ([_title("a"), _title("a")], "/1/id"),
        ({"titles": []}, ""),
    ],
)
async def test_a_title_that_makes_no_sense_is_pointed_at(api: Api, body: object, pointer: str) -> None:
    answer = await _service(api).put("/catalog/titles", json=body)
    assert answer.status_code == 422
    assert [error.get("pointer", "") for error in answer.json()["errors"]] == [pointer]
    assert "surprise" not in answer.text


@pytest.mark.parametrize(
    "body",
    [b"", b"[", b"NaN", b"[1e999]", b'["\\ud800"]', b"[" * 100_000, b'["\xff"]', "[]".encode("utf-16"), b"9" * 5000],
)
@pytest.mark.parametrize("media_type", ["application/json", "application/x-ndjson"])
async def test_what_is_no_json_is_refused(api: Api, body: bytes, media_type: str) -> None:
    answer = await _service(api).put("/catalog/titles", content=body, headers={"Content-Type": media_type})
    assert answer.status_code in ({200} if not body and media_type != "application/json" else {400, 422})


async def test_only_the_service_uploads_and_only_households_read(api: Api) -> None:
    household = await registered(api)
    for caller, status in ((household.player, 403), (household.parent, 403), (api.http, 401)):
        assert (await caller.put("/catalog/titles", json=[])).status_code == status
    assert (await _service(api).get("/catalog/titles")).status_code == 403


async def test_an_upload_is_bounded_and_of_a_known_kind(api: Api) -> None:
    large = await _service(api).put(
        "/catalog/titles", content=b" " * (8 * 1024 * 1024 + 1), headers={"Content-Type": "application/json"}
    )
    assert (large.status_code, large.json()["code"]) == (413, "body_too_large")
    foreign = await _service(api).put("/catalog/titles", content=b"[]", headers={"Content-Type": "text/xml"})
    assert (foreign.status_code, foreign.json()["code"]) == (415, "unsupported_media_type")
    household = await registered(api)
    for cursor in ("!", "AA==", "gICA"):
        assert (await household.player.get("/catalog/titles", params={"cursor": cursor})).status_code == 422
