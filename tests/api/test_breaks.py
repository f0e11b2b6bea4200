"""Breaks on real servers, with a clock that the test moves: what players and parents are told."""

from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from app.auth.tokens import Role
from app.domain.policy import MINUTE_MS
from app.postgres_store.partitions import make_partitions
from app.timestamps import rfc3339
from app.wiring.worker import open_worker
from tests.scenes.api import NOON, Api
from tests.scenes.households import Household, registered

FILM, LESSON = "break-film", "break-lesson"


@pytest.fixture(autouse=True)
async def _ready(api: Api) -> None:
    api.set_clock(NOON)
    await make_partitions(api.services.engine, at_ms=NOON)
    for title_id, is_educational in ((FILM, False), (LESSON, True)):
        await api.rows.title_once(title_id, is_educational=is_educational)


@dataclass
class Scene:
    """A child with 20 minutes of playback between breaks of five."""

    api: Api
    family: Household
    child: str
    session_id: str | None = None

    def passes(self, minutes: float) -> None:
        self.api.set_clock(self.api.clock() + round(minutes * MINUTE_MS))

    async def beat(self, after_minutes: float = 0, title: str = FILM, **fields: Any) -> dict[str, Any]:
        self.passes(after_minutes)
        if self.session_id is not None:
            fields["session_id"] = self.session_id
        answer = _body(await self.family.beat(self.child, title, **fields))
        self.session_id = answer["session_id"]
        return answer

    async def plays(self, minutes: int, **fields: Any) -> dict[str, Any]:
        answer = {}
        for _ in range(minutes):
            answer = await self.beat(1, **fields)
        return answer

    async def get(self, what: str, **params: str) -> dict[str, Any]:
        client = self.family.parent if what == "why" else self.family.player
        return _body(await client.get(f"/viewing-time/{what}/{self.child}", params=params))

    async def saves(self, child: str | None = None, **settings: Any) -> None:
        _body(await self.family.set_limits(child or self.child, **settings))

    async def gives(self, minutes: int | None) -> None:
        path = f"/parental-controls/profiles/{self.child}/viewing-time/grant"
        assert (await self.family.parent.post(path, json={"minutes": minutes})).status_code == 201

    async def is_flushed(self) -> None:
        async with open_worker(self.api.services.settings, clock=self.api.clock) as worker:
            await worker.flusher.cycle(age_ms=0)


def _body(answer: httpx.Response) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


@pytest.fixture
async def scene(api: Api) -> Scene:
    family = await registered(api, timezone="UTC")
    scene = Scene(api, family, await family.child())
    await scene.saves(break_after_minutes=20, break_minutes=5)
    return scene


async def test_playback_stops_for_a_break_and_goes_on_after_it(scene: Scene) -> None:
    first = await scene.beat()
    assert (first["enforcement"], first["reason"], first["remaining_seconds"]) == ("allowed", "break", 20 * 60)
    assert first["stop_at"] == rfc3339(NOON + 20 * MINUTE_MS)
    assert (await scene.plays(5))["enforcement"] == "warning_15"
    assert (await scene.plays(14))["lease_seconds"] == 60
    due = await scene.plays(1)
    ends_at = rfc3339(NOON + 25 * MINUTE_MS)
    assert (due["enforcement"], due["reason"], due["lease_seconds"]) == ("blocked", "break", 0)
    assert (due["stop_at"], due["available_again_at"]) == (due["server_time"], ends_at)
    untold = await scene.beat(4, is_paused=True)
    assert untold["enforcement"] == "blocked"
    assert untold["available_again_at"] == rfc3339(NOON + 29 * MINUTE_MS), "it played on until it told of the pause"


async def test_a_pause_of_the_length_is_the_break(scene: Scene) -> None:
    await scene.beat()
    await scene.plays(20)
    await scene.beat(is_paused=True)
    waiting = await scene.beat(4.9, is_paused=True)
    assert (waiting["enforcement"], waiting["next_beat_in"]) == ("blocked", 6)
    assert (await scene.get("balance"))["break_in_seconds"] == 0
    over = await scene.beat(0.1, is_paused=True)
    assert (over["enforcement"], over["remaining_seconds"]) == ("allowed", 20 * 60)
    assert over["used_seconds"] == 25 * 60, "the grace counts"
    assert (await scene.beat())["enforcement"] == "allowed"
    assert (await scene.plays(20))["reason"] == "break"


async def test_balance_eligibility_and_why_tell_of_it(scene: Scene) -> None:
    balance = await scene.get("balance")
    assert (balance["break_in_seconds"], balance["remaining_seconds"]) == (20 * 60, 20 * 60)
    await scene.beat()
    await scene.plays(14)
    why = await scene.get("why")
    assert (why["reason"], why["break_in_seconds"]) == ("break", 6 * 60)
    assert "A break of 5.0 minutes is due after 6.0 minutes more without one." in why["sentences"]
    await scene.plays(6)
    until = rfc3339(NOON + 25 * MINUTE_MS)
    for title in (FILM, LESSON):
        told = await scene.get("playback-eligible", title_id=title)
        assert (told["eligible"], told["reason"], told["available_again_at"]) == (False, "break", until)
    balance = await scene.get("balance")
    assert (balance["enforcement"], balance["reason"], balance["available_again_at"]) == ("blocked", "break", until)
    sentences = (await scene.get("why"))["sentences"]
    assert f"20.0 minutes were played without a pause of 5.0 minutes: a break is due until {until}." in sentences
    assert sentences[-1] == f"Playback is possible again at {until}."
    scene.passes(5)
    assert (await scene.get("playback-eligible", title_id=FILM))["reason"] == "within_limit"
    assert (await scene.get("balance"))["break_in_seconds"] == 20 * 60


async def test_extra_time_does_not_end_it_nor_do_titles_without_a_limit(scene: Scene) -> None:
    await scene.beat(title=LESSON)
    assert (await scene.plays(20, title=LESSON))["reason"] == "break"
    await scene.gives(None)
    assert (await scene.beat(title=LESSON))["enforcement"] == "blocked"
    scene.session_id = None
    assert (await scene.beat())["reason"] == "break"
    await scene.saves(break_after_minutes=30)
    assert (await scene.beat())["remaining_seconds"] == 10 * 60, "a change holds at once"
    await scene.saves(break_after_minutes=None, break_minutes=None)
    free = await scene.beat()
    assert (free["enforcement"], free["reason"], (await scene.get("balance"))["break_in_seconds"]) == (
        "allowed",
        None,
        None,
    )
    await scene.saves(break_after_minutes=15, break_minutes=5)
    assert (await scene.beat())["remaining_seconds"] == 15 * 60, "what was played meanwhile does not count"


async def test_it_goes_on_when_redis_is_lost(scene: Scene) -> None:
    await scene.beat()
    await scene.plays(18)
    await scene.is_flushed()
    await scene.api.services.redis.flushall()
    assert (await scene.get("balance"))["break_in_seconds"] == 2 * 60
    await scene.plays(2)
    assert (await scene.beat())["reason"] == "break"
    await scene.beat(is_paused=True)
    await scene.beat(2, is_paused=True)
    await scene.is_flushed()
    await scene.api.services.redis.flushall()
    waiting = await scene.get("balance")
    assert (waiting["reason"], waiting["available_again_at"]) == ("break", rfc3339(NOON + 25 * MINUTE_MS))
    scene.passes(3)
    assert (await scene.get("balance"))["enforcement"] == "allowed"


async def test_another_device_and_another_day_go_on_with_it(scene: Scene) -> None:
    scene.api.set_clock(NOON + 18 * 60 * MINUTE_MS - 10 * MINUTE_MS)  # the day ends at six in the morning
    await scene.beat()
    await scene.plays(8)
    scene.session_id = None
    await scene.beat(1, device_id="pad")
    assert (await scene.plays(11, device_id="pad"))["reason"] == "break"
    balance = await scene.get("balance")
    assert (balance["day"], balance["used_seconds"]) == ("2026-03-03", 10 * 60)


async def test_of_those_who_watch_together_the_first_break_decides(scene: Scene) -> None:
    other = await scene.family.child(name="Bo")
    await scene.saves(child=other, break_after_minutes=15, break_minutes=10)
    first = await scene.beat(co_viewers=[{"profile_id": other}])
    theirs = {"profile_id": other, "session_id": first["co_viewers"][0]["session_id"]}
    told = await scene.plays(10, co_viewers=[theirs])
    assert (told["decided_by"], told["remaining_seconds"], told["reason"]) == (other, 10 * 60, "break")
    told = await scene.plays(5, co_viewers=[theirs])
    assert (told["enforcement"], told["reason"]) == ("blocked", "break")
    assert told["co_viewers"][0]["available_again_at"] == told["available_again_at"] == rfc3339(NOON + 25 * MINUTE_MS)


async def test_those_who_watch_together_play_again_when_all_may(scene: Scene) -> None:
    """The break of one ends after the window of the other, who may play now, has closed."""
    other = await scene.family.child(name="Bo")
    await scene.saves(child=other, break_after_minutes=15, break_minutes=10)
    opened = [
        {"days": ["mon"], "from": opens, "until": closes} for opens, closes in (("12:00", "12:20"), ("14:00", "15:00"))
    ]
    await scene.saves(windows=opened)
    first = await scene.beat(co_viewers=[{"profile_id": other}])
    theirs = {"profile_id": other, "session_id": first["co_viewers"][0]["session_id"]}
    told = await scene.plays(15, co_viewers=[theirs])
    assert (told["enforcement"], told["reason"], told["remaining_seconds"]) == ("blocked", "break", 5 * 60)
    assert told["co_viewers"][0]["available_again_at"] == rfc3339(NOON + 25 * MINUTE_MS)
    assert told["available_again_at"] == rfc3339(NOON + 120 * MINUTE_MS)


async def test_a_gateway_is_told_for_each_child(scene: Scene) -> None:
    free = await scene.family.child(name="Cy")
    beats = [{"profile_id": each, "title_id": FILM, "device_id": "tv"} for each in (scene.child, free)]
    results = _body(await scene.family.player.post("/viewing-time/heartbeats", json={"beats": beats}))["results"]
    sessions = [result["session_id"] for result in results]
    for minute in range(1, 21):
        scene.passes(1)
        going = [beat | {"session_id": session} for beat, session in zip(beats, sessions, strict=True)]
        answer = await scene.family.player.post("/viewing-time/heartbeats", json={"beats": going})
        results = _body(answer)["results"]
        assert [result["used_seconds"] for result in results] == [minute * 60] * 2
    assert [(result["enforcement"], result["reason"]) for result in results] == [
        ("blocked", "break"),
        ("allowed", "daily_limit"),
    ]


async def test_shadow_mode_says_what_it_would_be(scene: Scene) -> None:
    gateway = scene.api.signed_in("platform", Role.SERVICE)
    path = f"/accounts/{scene.family.id}/profiles/{scene.child}"
    _body(await gateway.patch(path, json={"enforcement": "shadow"}))
    await scene.beat()
    told = await scene.plays(20)
    assert (told["enforcement"], told["would_be"], told["reason"]) == ("allowed", "blocked", "break")


async def test_one_number_of_a_break_alone_is_refused(scene: Scene) -> None:
    answer = await scene.family.set_limits(scene.child, break_minutes=None)
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/break_minutes")
    path = f"/parental-controls/profiles/{scene.child}/viewing-time"
    kept = _body(await scene.family.parent.get(path))
    assert (kept["break_after_minutes"], kept["break_minutes"]) == (20, 5)
