"""A parent's pause stops everything until it ends or is lifted; on real servers, with the clock of Redis."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import httpx
import pytest

from app.auth.tokens import Role
from app.clock import now_ms
from app.domain.policy import MINUTE_MS
from app.errors import CountersUnavailable
from app.postgres_store.partitions import make_partitions
from app.timestamps import ms_of
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered

PIN = "4711"
FILM, LESSON = "moon-pirates", "how-bees-fly"


@pytest.fixture(autouse=True)
async def _partitions(api: Api) -> None:
    """The clock of the service is that of Redis, which counts."""
    api.clock.at_ms = now_ms()
    await make_partitions(api.services.engine, at_ms=api.clock())


@dataclass
class Scene:
    api: Api
    family: Household
    child: str

    @property
    def path(self) -> str:
        return f"/parental-controls/profiles/{self.child}/viewing-time/pause"

    async def pause(self, minutes: int | None = 30, *, key: str | None = None) -> dict[str, Any]:
        headers = {} if key is None else {"Idempotency-Key": key}
        return _body(await self.family.parent.post(self.path, json={"minutes": minutes}, headers=headers))

    async def lift(self) -> dict[str, Any]:
        return _body(await self.family.parent.delete(self.path))

    async def beat(self, title: str = FILM) -> dict[str, Any]:
        beat = {"profile_id": self.child, "title_id": title, "device_id": "tv"}
        return _body(await self.family.player.post("/viewing-time/heartbeat", json=beat))

    async def balance(self, child: str | None = None) -> dict[str, Any]:
        return _body(await self.family.player.get(f"/viewing-time/balance/{child or self.child}"))

    async def give(self, minutes: int | None) -> None:
        path = f"/parental-controls/profiles/{self.child}/viewing-time/grant"
        assert (await self.family.parent.post(path, json={"minutes": minutes})).status_code == 201

    async def actions(self) -> list[str]:
        """What the audit log of the account says, oldest first."""
        entries = _body(await self.family.parent.get("/account/audit"))["entries"]
        return [entry["action"] for entry in reversed(entries)]


def _body(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def scene(api: Api) -> Scene:
    family = await registered(api)
    titles = [
        {"id": FILM, "name": "Moon Pirates", "is_educational": False},
        {"id": LESSON, "name": "How bees fly", "is_educational": True},
    ]
    _body(await api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=titles))
    return Scene(api, family, await family.child())


def _ms(text: str) -> int:
    return ms_of(datetime.fromisoformat(text))


async def test_a_pause_blocks_until_it_ends(scene: Scene) -> None:
    assert (await scene.beat())["enforcement"] == "allowed"
    paused = await scene.pause(30)
    assert _ms(paused["paused_until"]) == scene.api.clock() + 30 * MINUTE_MS
    answer = await scene.beat()
    assert (answer["enforcement"], answer["reason"]) == ("blocked", "parent_pause")
    assert (answer["lease_seconds"], answer["available_again_at"]) == (0, paused["paused_until"])
    balance = await scene.balance()
    assert (balance["enforcement"], balance["paused_until"]) == ("blocked", paused["paused_until"])


async def test_a_pause_without_minutes_ends_with_the_day(scene: Scene) -> None:
    paused = await scene.pause(None)
    assert paused["paused_until"] == (await scene.balance())["next_reset_at"]
    assert (await scene.pause(None))["paused_until"] == paused["paused_until"]
    assert await scene.actions() == ["profile_created", "viewing_paused"], "the second one changed nothing"


async def test_a_pause_stops_learning_titles_and_days_without_limit_and_extra_time(scene: Scene) -> None:
    await scene.give(None)
    assert (await scene.beat(LESSON))["enforcement"] == "allowed"
    await scene.pause(30)
    for title in (LESSON, FILM):
        assert (await scene.beat(title))["reason"] == "parent_pause"
        eligible = await scene.family.player.get(
            f"/viewing-time/playback-eligible/{scene.child}", params={"title_id": title}
        )
        assert (eligible.json()["eligible"], eligible.json()["reason"]) == (False, "parent_pause")


async def test_extra_time_given_meanwhile_counts_after_it(scene: Scene) -> None:
    before = await scene.balance()
    await scene.pause(30)
    await scene.give(15)
    assert (await scene.balance())["enforcement"] == "blocked"
    await scene.lift()
    after = await scene.balance()
    assert after["remaining_seconds"] == before["remaining_seconds"] + 15 * 60


async def test_a_lifted_pause_is_gone_and_lifting_again_changes_nothing(scene: Scene) -> None:
    await scene.pause(30)
    assert (await scene.lift())["paused_until"] is None
    assert (await scene.beat())["enforcement"] == "allowed"
    await scene.lift()
    assert (await scene.actions())[-2:] == ["viewing_paused", "pause_lifted"]


async def test_a_new_pause_replaces_the_one_before(scene: Scene) -> None:
    await scene.pause(None)
    shorter = await scene.pause(1)
    assert (await scene.balance())["paused_until"] == shorter["paused_until"]


async def test_a_pause_that_is_over_leaves_nothing(scene: Scene) -> None:
    scene.api.clock.at_ms -= 2 * MINUTE_MS  # made two minutes ago, for one minute
    await scene.pause(1)
    scene.api.clock.at_ms += 2 * MINUTE_MS
    assert (await scene.beat())["enforcement"] == "allowed"
    balance = await scene.balance()
    assert (balance["enforcement"], balance["paused_until"]) == ("allowed", None)
    (policy,) = await scene.api.services.postgres_policies.load([scene.child])
    assert policy is not None
    assert policy.paused_until_ms is None


async def test_a_repeat_with_the_same_key_gets_the_first_answer(scene: Scene) -> None:
    first = await scene.pause(30, key="tap")
    scene.api.clock.at_ms += 1000
    assert (await scene.pause(30, key="tap"))["paused_until"] == first["paused_until"]
    other = await scene.family.parent.post(scene.path, json={"minutes": 60}, headers={"Idempotency-Key": "tap"})
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    await scene.lift()
    assert (await scene.pause(30, key="tap"))["paused_until"] == first["paused_until"]
    assert (await scene.balance())["enforcement"] == "allowed", "a repeat that arrives late pauses nobody again"


async def test_all_children_pause_at_once(scene: Scene) -> None:
    sibling = await scene.family.child(timezone="America/New_York")
    adult = (await scene.family.parent.post("/profiles", json={"name": "Kim", "is_kids": False})).json()["id"]
    answer = _body(await scene.family.parent.post("/parental-controls/viewing-time/pause", json={"minutes": None}))
    until = {pause["profile_id"]: pause["paused_until"] for pause in answer["profiles"]}
    assert until == {child: (await scene.balance(child))["next_reset_at"] for child in (scene.child, sibling)}
    assert (await scene.balance(adult))["enforcement"] == "allowed"
    answer = _body(await scene.family.parent.delete("/parental-controls/viewing-time/pause"))
    assert [pause["paused_until"] for pause in answer["profiles"]] == [None, None]
    assert (await scene.balance(sibling))["enforcement"] == "allowed"


async def test_pauses_and_grants_at_once_do_not_wait_for_each_other_forever(scene: Scene) -> None:
    await scene.family.child()
    every = "/parental-controls/viewing-time/pause"
    parent = scene.family.parent
    answers = asyncio.gather(
        *(parent.post(every, json={"minutes": minutes}) for minutes in (5, 10, 15)),
        *(parent.delete(every) for _ in range(3)),
    )
    await asyncio.gather(
        *(scene.pause(minutes) for minutes in (20, 25)),
        *(scene.give(15) for _ in range(3)),
    )
    assert [answer.status_code for answer in await answers] == [200] * 6
    shared = await scene.api.services.shared_policies.load([scene.child])
    assert await scene.api.services.postgres_policies.load([scene.child]) == shared


async def test_a_household_pauses_with_the_pin(scene: Scene) -> None:
    player = scene.family.player
    assert (await player.post("/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD})).status_code == 200
    refused = await player.post(scene.path, json={"minutes": 5})
    assert (refused.status_code, refused.json()["code"]) == (403, "pin_required")
    assert (await player.post(scene.path, json={"minutes": 5, "pin": "0000"})).json()["code"] == "wrong_pin"
    assert (await player.post(scene.path, json={"minutes": 5, "pin": PIN})).status_code == 200
    assert (await player.delete(scene.path)).json()["code"] == "pin_required"


@pytest.mark.parametrize("minutes", [0, -1, 1441, 1.5, "5", True])
async def test_what_is_no_duration_pauses_nobody(scene: Scene, minutes: object) -> None:
    answer = await scene.family.parent.post(scene.path, json={"minutes": minutes})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
    assert (await scene.family.parent.post(scene.path, json={})).status_code == 422, "null is meant, not left out"


async def test_adults_and_strangers_are_not_paused(scene: Scene) -> None:
    adult = (await scene.family.parent.post("/profiles", json={"name": "Kim", "is_kids": False})).json()["id"]
    path = f"/parental-controls/profiles/{adult}/viewing-time/pause"
    assert (await scene.family.parent.post(path, json={"minutes": 5})).json()["code"] == "no_config"
    stranger = await registered(scene.api)
    assert (await stranger.parent.post(scene.path, json={"minutes": 5})).json()["code"] == "profile_access_denied"


async def test_players_hear_of_it_at_once(scene: Scene) -> None:
    events = scene.api.services.viewing.streams._log
    for change in (scene.pause, scene.lift):
        since = await events.latest_id(scene.child)
        await change()
        recent = await events.after(scene.child, since)
        assert [event.kind for event in recent.events] == ["viewing_time_updated"]


async def test_what_is_watched_in_spite_of_it_counts(scene: Scene) -> None:
    await scene.beat()
    await scene.pause(30)
    session = (await scene.beat())["session_id"]
    ended = _body(await scene.family.player.post(f"/viewing-time/session/{session}/end", json={}))
    balance = await scene.balance()
    assert balance["used_seconds"] >= ended["total_seconds"] > 0


async def test_a_parent_pauses_while_redis_is_away(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """PostgreSQL has the pause, and every beat knows it once Redis is back."""

    async def away(*_: object) -> None:
        raise CountersUnavailable

    with monkeypatch.context() as patch:
        patch.setattr(scene.api.services.counters, "read", away)
        patch.setattr(scene.api.services.shared_policies, "announce", away)
        paused = await scene.pause(30)
    assert paused["paused_until"] is not None
    (policy,) = await scene.api.services.postgres_policies.load([scene.child])
    assert policy is not None
    assert policy.paused_until_ms == _ms(paused["paused_until"])
