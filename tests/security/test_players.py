"""Players that flood, race and lie, by Redis's own clock."""

import asyncio
import random
import time
from typing import Any

import httpx
import msgspec
import pytest

from app.auth.tokens import Role
from app.domain.counters import Counters
from tests.scenes.api import Api
from tests.scenes.households import registered
from tests.security.scene import TITLE

HEARTBEAT = "/viewing-time/heartbeat"
SCHOOL = "school-television"
MINUTE_MS = 60_000


class Child:
    """A child, what it watched by a clock beside the service, and ways to beat for it."""

    def __init__(self, api: Api, player: httpx.AsyncClient, profile_id: str) -> None:
        self._api = api
        self.player = player
        self.id = profile_id
        self.session_id = ""
        self.opened_within = (0.0, 0.0)

    async def beat(self, **fields: object) -> httpx.Response:
        beat = {"profile_id": self.id, "title_id": TITLE, "device_id": "living-room", "device_type": "tv"}
        return await self.player.post(HEARTBEAT, json=beat | fields)

    async def open(self, **fields: object) -> dict[str, Any]:
        asked_at = time.monotonic()
        answer = await self.beat(**fields)
        assert answer.status_code == 200, answer.text
        self.opened_within = (asked_at, time.monotonic())
        body: dict[str, Any] = answer.json()
        self.session_id = body["session_id"]
        return body

    async def settled(self, **fields: object) -> dict[str, Any]:
        """The next beat that is let through."""
        for _ in range(200):
            answer = await self.beat(session_id=self.session_id, **fields)
            if answer.status_code != 429:
                assert answer.status_code == 200, answer.text
                body: dict[str, Any] = answer.json()
                return body
            await asyncio.sleep(float(answer.headers["Retry-After"]) / 10)
        pytest.fail("no beat was let through")

    def most_seconds(self) -> float:
        """What passed since before the opening beat was sent: nobody can have watched more."""
        return time.monotonic() - self.opened_within[0]

    async def balance(self) -> dict[str, Any]:
        body: dict[str, Any] = (await self.player.get(f"/viewing-time/balance/{self.id}")).json()
        return body

    async def let_pass(self, ms: int) -> None:
        """Let everything that is remembered of the session lie further back, as if so much time had passed."""
        key = self._api.services.counters._keys.counters(self.id)
        packed = await self._api.services.redis.get(key)
        assert isinstance(packed, bytes)
        counters = msgspec.msgpack.decode(packed, type=Counters)
        for name in ("last_beat_ms", "session_started_ms", "paused_since_ms", "gcra_tat_ms", "day_starts_ms"):
            instant = getattr(counters, name)
            setattr(counters, name, instant - ms if instant else 0)
        counters.uncounted = tuple(instant - ms for instant in counters.uncounted)
        await self._api.services.redis.set(key, msgspec.msgpack.encode(counters))


@pytest.fixture
async def child(partitioned: Api) -> Child:
    household = await registered(partitioned)
    titles = [
        {"id": TITLE, "name": "Moon Pirates", "is_educational": False},
        {"id": SCHOOL, "name": "School Television", "is_educational": True},
    ]
    answer = await partitioned.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=titles)
    assert answer.status_code == 200
    return Child(partitioned, household.player, await household.child())


# --- 35


async def test_row_35_the_same_beat_a_hundred_times_at_once_credits_wall_time(child: Child) -> None:
    await child.open()
    answers = await asyncio.gather(*(child.beat(session_id=child.session_id) for _ in range(100)))
    assert {answer.status_code for answer in answers} <= {200, 429}
    refused = [answer for answer in answers if answer.status_code == 429]
    assert all(answer.json()["code"] == "too_many_requests" and answer.headers["Retry-After"] for answer in refused)
    began = time.monotonic()
    used = (await child.settled())["used_seconds"]
    assert used <= child.most_seconds()
    assert used >= began - child.opened_within[1], "and no less: what was refused is credited by the next"


async def test_row_35_more_than_ten_a_second_are_slowed_down(child: Child) -> None:
    """Those of one burst at once; however long the machine takes, no more than the burst and ten a second pass."""
    await child.open()
    answers = await asyncio.gather(*(child.beat(session_id=child.session_id) for _ in range(100)))
    passed = [answer.status_code for answer in answers].count(200)
    assert passed <= 10 + 10 * child.most_seconds()
    assert passed >= 9


async def test_row_35_shuffled_beats_of_many_kinds_credit_wall_time(child: Child) -> None:
    await child.open()
    kinds: list[dict[str, object]] = [
        {},
        {"is_paused": True},
        {"watched_seconds": 0},
        {"watched_seconds": 86_400},
        {"device_id": "another-name"},
    ]
    beats = kinds * 12
    random.Random(35).shuffle(beats)  # noqa: S311
    last = 0.0
    for fields in beats:
        answer = await child.beat(session_id=child.session_id, **fields)
        assert answer.status_code in {200, 429}
        if answer.status_code == 200:
            assert last <= answer.json()["used_seconds"] <= child.most_seconds(), fields
            last = answer.json()["used_seconds"]


async def test_row_35_a_beat_ten_minutes_late_credits_nothing(child: Child) -> None:
    await child.open()
    used = (await child.settled())["used_seconds"]
    await child.let_pass(10 * MINUTE_MS)
    answer = await child.beat(session_id=child.session_id)
    assert (answer.status_code, answer.json()["code"]) == (409, "session_ended")
    assert (await child.balance())["used_seconds"] == used


# --- 36


async def test_row_36_two_devices_and_one_child_live_one_after_the_other(child: Child) -> None:
    await child.open()
    tv = child.session_id
    phone = (await child.beat(device_id="phone", device_type="mobile")).json()["session_id"]
    told = await child.beat(session_id=tv)
    assert (told.status_code, told.json()["code"]) == (409, "session_superseded")
    assert told.json()["by"] == {"device_type": "mobile"}
    assert (await child.beat(device_id="phone", session_id=phone)).status_code == 200
    assert (await child.balance())["used_seconds"] <= child.most_seconds()


async def test_row_36_of_opening_beats_at_once_one_session_lives(child: Child) -> None:
    asked_at = time.monotonic()
    answers = await asyncio.gather(*(child.beat(device_id=f"tv-{number}") for number in range(8)))
    opened = [answer.json()["session_id"] for answer in answers if answer.status_code == 200]
    assert len(set(opened)) == len(opened) == 8
    await asyncio.sleep(0.5)
    beats = [await child.beat(device_id=f"tv-{number}", session_id=session) for number, session in enumerate(opened)]
    codes = [answer.json().get("code") for answer in beats if answer.status_code != 200]
    assert [answer.status_code for answer in beats].count(200) == 1
    assert set(codes) == {"session_superseded"}
    assert 0.5 <= (await child.balance())["used_seconds"] <= time.monotonic() - asked_at


# --- 37


async def test_row_37_who_always_pauses_pays_for_five_minutes(child: Child) -> None:
    await child.open(is_paused=True)
    for _ in range(4):
        await child.let_pass(4 * MINUTE_MS)
        await child.settled(is_paused=True)
    used = (await child.balance())["used_seconds"]
    assert 300 <= used <= 300 + child.most_seconds()
    await child.let_pass(2 * MINUTE_MS)
    assert (await child.settled(is_paused=False))["used_seconds"] <= 300 + child.most_seconds()
    await child.let_pass(2 * MINUTE_MS)
    assert (await child.settled())["used_seconds"] >= 420, "what plays again counts again"


async def test_row_37_what_is_educational_is_for_the_catalogue_to_say(child: Child) -> None:
    """A player that names another title in a running session gets another session; what played before is counted."""
    await child.open()
    await child.let_pass(4 * MINUTE_MS)
    answer = await child.beat(session_id=child.session_id, title_id=SCHOOL, is_educational=True)
    assert answer.json()["session_id"] != child.session_id
    balance = await child.balance()
    assert balance["used_seconds"] >= 240
    assert balance["educational_seconds"] <= child.most_seconds()


@pytest.mark.parametrize("claim", ["9223372036854775808", "-1", "-0.001", "1e300", "2678401", '"12"', "NaN", "true"])
async def test_row_37_claims_out_of_bounds_are_refused(child: Child, claim: str) -> None:
    await child.open()
    body = f'{{"profile_id": "{child.id}", "title_id": "{TITLE}", "device_id": "tv", "session_id": "{child.session_id}"'
    answer = await child.player.post(HEARTBEAT, content=f'{body}, "watched_seconds": {claim}}}'.encode())
    assert answer.status_code in {400, 422}
    assert (await child.balance())["used_seconds"] <= child.most_seconds()


async def test_row_37_falling_claims_take_nothing_back_and_rising_ones_add_no_more_than_passed(child: Child) -> None:
    await child.open(watched_seconds=0)
    await child.let_pass(MINUTE_MS)
    used = (await child.settled(watched_seconds=60))["used_seconds"]
    assert used >= 60
    for claim in (5, 0, 86_400, 1):
        answer = await child.settled(watched_seconds=claim)
        assert used <= answer["used_seconds"] <= 60 + child.most_seconds()
        used = answer["used_seconds"]
