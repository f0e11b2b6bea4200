"""Active sessions of an account for the platform's services; adults only with tracking on."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest_asyncio

from app.auth.tokens import Role
from app.settings.settings import Settings
from tests.scenes.api import Api, running
from tests.scenes.households import Household, registered_at_noon


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def tracking(prepared: Settings) -> AsyncIterator[Api]:
    """The API where adults are tracked."""
    async with running(prepared.model_copy(update={"track_adults": True})) as started:
        yield started


async def streams(api: Api, account_id: str) -> dict[str, Any]:
    await api.services.viewing.active_sessions.drain()
    service = api.as_role("platform", Role.SERVICE)
    answer = await api.http.get(f"/viewing-time/streams/{account_id}", headers=service)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    assert body["account_id"] == account_id
    return body


async def sessions_kept(api: Api, profile_id: str) -> int:
    found = [key async for key in api.services.redis.scan_iter(f"*sessions:{profile_id}")]
    return len(found)


async def end(api: Api, home: Household, session_id: str) -> dict[str, Any]:
    answer = await api.http.post(f"/viewing-time/session/{session_id}/end", headers=home.as_player)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


async def test_children_and_adults_are_shown_until_they_end(tracking: Api) -> None:
    home = await registered_at_noon(tracking)
    child, adult = await home.child(), await home.adult()
    film, cartoon = await tracking.add_title(), await tracking.add_title()
    assert (await streams(tracking, home.id))["streams"] == []
    opened = [
        (await home.beat(child, cartoon, device_type="tablet")).json()["session_id"],
        (await home.beat(adult, film)).json()["session_id"],
        (await home.beat(adult, film, device_type="web")).json()["session_id"],
    ]
    body = await streams(tracking, home.id)
    assert body["adults_tracked"] is True
    shown = {stream["session_id"]: stream for stream in body["streams"]}
    assert set(shown) == set(opened)
    facts = [
        tuple(shown[session_id][name] for name in ("profile_id", "is_kids", "title_id", "device_type"))
        for session_id in opened
    ]
    assert facts == [(child, True, cartoon, "tablet"), (adult, False, film, "tv"), (adult, False, film, "web")]
    assert all(stream["started_at"] <= stream["last_beat_at"] for stream in body["streams"])
    started = [stream["started_at"] for stream in body["streams"]]
    assert started == sorted(started)

    changed = await home.beat(adult, cartoon, session_id=opened[1])
    assert changed.json()["session_id"] == opened[1]
    titles = {stream["session_id"]: stream["title_id"] for stream in (await streams(tracking, home.id))["streams"]}
    assert titles == {opened[0]: cartoon, opened[1]: cartoon, opened[2]: film}

    for session_id in opened:
        await end(tracking, home, session_id)
    assert (await streams(tracking, home.id))["streams"] == []
    assert await sessions_kept(tracking, adult) == 0


async def test_one_session_of_a_child_and_none_that_fell_silent(tracking: Api) -> None:
    home = await registered_at_noon(tracking)
    child, title = await home.child(), await tracking.add_title()
    counters = tracking.services.counters
    await home.beat(child, title)
    second = (await home.beat(child, title, device_type="tablet")).json()["session_id"]
    [stream] = (await streams(tracking, home.id))["streams"]
    assert (stream["session_id"], stream["device_type"]) == (second, "tablet")
    try:
        counters.at_ms = tracking.services.clock() + 310_000
        assert (await streams(tracking, home.id))["streams"] == []
    finally:
        counters.at_ms = 0


async def test_a_batch_tracks_as_single_beats_do(tracking: Api) -> None:
    home, others = await registered_at_noon(tracking), await registered_at_noon(tracking)
    adult, title = await home.adult(), await tracking.add_title()
    foreign = await others.adult()
    beats = [{"profile_id": profile, "title_id": title, "device_id": "d"} for profile in (adult, foreign)]
    gateway = tracking.as_role("gateway", Role.SERVICE)
    answer = await tracking.http.post("/viewing-time/heartbeats", json={"beats": beats}, headers=gateway)
    results = answer.json()["results"]
    for family, result in zip((home, others), results, strict=True):
        [stream] = (await streams(tracking, family.id))["streams"]
        assert (stream["session_id"], stream["device_type"]) == (result["session_id"], "web")
    refused = await tracking.http.post("/viewing-time/heartbeats", json={"beats": beats[1:]}, headers=home.as_player)
    assert refused.json()["results"][0]["code"] == "profile_access_denied"
    assert len((await streams(tracking, others.id))["streams"]) == 1


async def test_a_made_up_session_is_not_tracked(tracking: Api) -> None:
    home = await registered_at_noon(tracking)
    adult, title = await home.adult(), await tracking.add_title()
    refused = await home.beat(adult, title, session_id="00000000-0000-8000-8000-000000000000")
    assert (refused.status_code, refused.json()["code"]) == (403, "profile_access_denied")
    assert (await streams(tracking, home.id))["streams"] == []


async def test_an_erased_adult_leaves_no_session(tracking: Api) -> None:
    home = await registered_at_noon(tracking)
    adult, title = await home.adult(), await tracking.add_title()
    await home.beat(adult, title)
    await streams(tracking, home.id)
    assert await sessions_kept(tracking, adult) == 1
    erased = await tracking.http.delete(f"/profiles/{adult}", headers=home.as_parent)
    assert erased.status_code == 200, erased.text
    assert await sessions_kept(tracking, adult) == 0


async def test_untracked_adults_leave_nothing_and_children_are_shown_all_the_same(api: Api) -> None:
    home = await registered_at_noon(api)
    child, adult, title = await home.child(), await home.adult(), await api.add_title()
    sessions = [(await home.beat(profile, title)).json()["session_id"] for profile in (child, adult)]
    body = await streams(api, home.id)
    assert ([stream["session_id"] for stream in body["streams"]], body["adults_tracked"]) == (sessions[:1], False)
    assert await sessions_kept(api, adult) == 0


async def test_nobody_plays_on_an_account_that_is_not_there(tracking: Api) -> None:
    for account_id in (str(uuid4()), "-" * 36, "nobody"):
        assert (await streams(tracking, account_id))["streams"] == []
    service = tracking.as_role("platform", Role.SERVICE)
    answer = await tracking.http.get(f"/viewing-time/streams/{'x' * 256}", headers=service)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_ending_an_adults_session_again_answers_the_same(api: Api, tracking: Api) -> None:
    for where in (api, tracking):
        home = await registered_at_noon(where)
        adult, title = await home.adult(), await where.add_title()
        before_ms = where.services.clock()
        session_id = (await home.beat(adult, title)).json()["session_id"]
        first = await end(where, home, session_id)
        assert (first["session_id"], first["total_seconds"]) == (session_id, 0)
        issued_ms = where.services.viewing.service._session_ids.issued_ms(adult, session_id)
        assert issued_ms is not None
        assert before_ms <= issued_ms <= where.services.clock()
        assert await end(where, home, session_id) == first
