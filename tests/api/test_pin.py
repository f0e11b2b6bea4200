"""The PIN: set, change, reset, verify, unlock and lock."""

import asyncio
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from app.auth.hashing import QueueSlot
from app.auth.hashing_queue import HashingKind
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered

MINUTE_MS = 60_000


async def _with_pin(api: Api, pin: str = "4711") -> Household:
    household = await registered(api)
    answer = await household.player.post("/parental-controls/pin", json={"new_pin": pin, "password": PASSWORD})
    assert answer.status_code == 200, answer.text
    return household


async def _verify(household: Household, pin: str) -> httpx.Response:
    return await household.player.post("/parental-controls/pin/verify", json={"pin": pin})


def _code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["code"]


@contextmanager
def _counted_comparisons(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    compared: list[str] = []
    match = QueueSlot.match

    async def counted(self: QueueSlot, secret: str, hashed: str | None) -> int | None:
        compared.append(secret)
        return await match(self, secret, hashed)

    with monkeypatch.context() as patch:
        patch.setattr(QueueSlot, "match", counted)
        yield compared


async def test_the_first_pin_needs_the_password(api: Api) -> None:
    household = await registered(api)
    status = await household.player.get("/parental-controls/pin/status")
    assert status.json() == {"has_pin": False, "locked_until": None}
    assert _code(await _verify(household, "4711")) == (400, "no_pin")
    bare = await household.player.post("/parental-controls/pin", json={"new_pin": "4711"})
    assert [error["pointer"] for error in bare.json()["errors"]] == ["/password"]
    body = {"new_pin": "4711", "password": "not the password"}
    assert _code(await household.player.post("/parental-controls/pin", json=body)) == (401, "wrong_password")
    body["password"] = PASSWORD
    answer = await household.player.post("/parental-controls/pin", json=body)
    assert (answer.status_code, answer.json()) == (200, {"has_pin": True, "locked_until": None})
    assert (await _verify(household, "4711")).status_code == 200


async def test_another_pin_needs_the_current_one(api: Api) -> None:
    household = await _with_pin(api)
    body = {"new_pin": "0815", "password": PASSWORD}
    bare = await household.player.post("/parental-controls/pin", json=body)
    assert [error["pointer"] for error in bare.json()["errors"]] == ["/current_pin"]
    wrong = await household.player.post("/parental-controls/pin", json=body | {"current_pin": "1234"})
    assert _code(wrong) == (403, "wrong_pin")
    right = await household.player.post("/parental-controls/pin", json=body | {"current_pin": "4711"})
    assert right.status_code == 200
    assert _code(await _verify(household, "4711")) == (403, "wrong_pin")
    assert (await _verify(household, "0815")).status_code == 200


async def test_two_first_pins_at_once_make_one(api: Api) -> None:
    household = await registered(api)
    answers = await asyncio.gather(
        *(
            household.player.post("/parental-controls/pin", json={"new_pin": pin, "password": PASSWORD})
            for pin in ("1111", "2222")
        )
    )
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    winner = "1111" if answers[0].status_code == 200 else "2222"
    assert (await _verify(household, winner)).status_code == 200


async def test_an_unlock_gives_parents_rights_for_a_quarter_of_an_hour(api: Api) -> None:
    household = await _with_pin(api)
    unlocked = (await _verify(household, "4711")).json()
    assert (unlocked["verified"], unlocked["expires_in"]) == (True, 900)
    headers = {"X-PIN-Token": unlocked["pin_token"]}
    body = {"name": "Ada", "is_kids": True}
    assert _code(await household.player.post("/profiles", json=body)) == (403, "pin_required")
    assert (await household.player.post("/profiles", json=body, headers=headers)).status_code == 201
    api.clock.at_ms += 15 * MINUTE_MS - 1
    assert (await household.player.post("/profiles", json=body, headers=headers)).status_code == 201
    api.clock.at_ms += 1
    assert _code(await household.player.post("/profiles", json=body, headers=headers)) == (403, "pin_required")


@pytest.mark.parametrize("pin_token", ["", "x", "x" * 10_000, "é", "null"])
async def test_a_made_up_unlock_unlocks_nothing(api: Api, pin_token: str) -> None:
    household = await _with_pin(api)
    await _verify(household, "4711")
    headers = {b"X-PIN-Token": pin_token.encode("latin-1")}
    answer = await household.player.post("/profiles", json={"name": "A", "is_kids": True}, headers=headers)
    assert _code(answer) == (403, "pin_required")


async def test_an_unlock_is_no_access_token_and_good_for_one_family(api: Api) -> None:
    household, stranger = await _with_pin(api), await _with_pin(api)
    pin_token = (await _verify(household, "4711")).json()["pin_token"]
    body = {"name": "A", "is_kids": True}
    as_access = await api.http.post("/profiles", json=body, headers={"Authorization": f"Bearer {pin_token}"})
    assert as_access.status_code == 401
    elsewhere = await stranger.player.post("/profiles", json=body, headers={"X-PIN-Token": pin_token})
    assert _code(elsewhere) == (403, "pin_required")


@pytest.mark.parametrize("path", ["change", "reset"])
async def test_another_pin_ends_every_unlock(api: Api, path: str) -> None:
    household = await _with_pin(api)
    tokens = [(await _verify(household, "4711")).json()["pin_token"] for _ in range(2)]
    if path == "change":
        body = {"new_pin": "0815", "current_pin": "4711"}
        answer = await household.player.post("/parental-controls/pin", json=body)
    else:
        body = {"new_pin": "0815", "password": PASSWORD}
        answer = await household.player.post("/parental-controls/pin/reset", json=body)
    assert answer.status_code == 200
    for pin_token in tokens:
        answer = await household.player.get("/auth/devices", headers={"X-PIN-Token": pin_token})
        assert _code(answer) == (403, "pin_required")


@pytest.mark.parametrize(
    "pin",
    [
        "",
        "123",
        "12345",
        "٣٣٣٣",
        "\uff11\uff12\uff13\uff14",
        "12a4",
        "👍👍👍👍",
        "123\n",
        "1234\n",
        "x" * 73,
        1234,
        None,
    ],
)
async def test_what_is_no_pin_costs_no_comparison(api: Api, monkeypatch: pytest.MonkeyPatch, pin: object) -> None:
    household = await _with_pin(api)
    with _counted_comparisons(monkeypatch) as compared:
        bodies = {
            "/parental-controls/pin/verify": {"pin": pin},
            "/parental-controls/pin": {"new_pin": "0815", "current_pin": pin} if pin is not None else {"new_pin": pin},
            "/parental-controls/pin/reset": {"new_pin": pin, "password": PASSWORD},
            "/auth/devices": {"name": "tablet", "pin": pin},
        }
        for path, body in bodies.items():
            assert (await household.player.post(path, json=body)).status_code == 422
    assert compared == []


async def test_two_hundred_guesses_get_five_comparisons(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    household = await _with_pin(api)
    calls = [
        ("/parental-controls/pin/verify", {"pin": "0000"}),
        ("/parental-controls/pin", {"new_pin": "1111", "current_pin": "0000"}),
        ("/auth/devices", {"name": "mine", "pin": "0000"}),
    ]
    with _counted_comparisons(monkeypatch) as compared:
        answers = await asyncio.gather(
            *(household.player.post(path, json=body) for path, body in [calls[i % 3] for i in range(200)])
        )
    assert len(compared) == 5
    codes = sorted(_code(answer) for answer in answers)
    assert codes[:5] == [(403, "wrong_pin")] * 5
    assert set(codes[5:]) <= {(423, "locked"), (429, "too_many_requests")}
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 423} <= {"1800"}
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 429} <= {"1"}
    locked = await _verify(household, "4711")
    assert (_code(locked), locked.headers["Retry-After"]) == ((423, "locked"), "1800")

    await api.services.redis.flushall()
    with _counted_comparisons(monkeypatch) as compared:
        assert _code(await _verify(household, "4711")) == (423, "locked")
        assert _code(await household.player.post("/auth/devices", json={"name": "a", "pin": "4711"})) == (423, "locked")
    assert compared == []


async def test_right_pins_at_once_never_lock(api: Api) -> None:
    household = await _with_pin(api)
    child = await household.child()
    answers = await asyncio.gather(*(_verify(household, "4711") for _ in range(12)))
    statuses = [answer.status_code for answer in answers]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) >= 5, "a right answer that is there in time makes room for another"
    assert {answer.headers["Retry-After"] for answer in answers if answer.status_code == 429} == {"1"}
    body = {"minutes": 15, "pin": "4711"}
    path = f"/parental-controls/profiles/{child}/viewing-time/grant"
    given = await asyncio.gather(*(household.player.post(path, json=body) for _ in range(6)))
    assert {answer.status_code for answer in given} <= {201, 429}
    assert (await household.player.get("/parental-controls/pin/status")).json()["locked_until"] is None
    assert (await _verify(household, "4711")).status_code == 200


async def test_guesses_under_way_count_when_redis_is_lost(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    """Five comparisons are under way when Redis loses everything: no sixth begins."""
    household, are_under_way, may_end = await _with_pin(api), asyncio.Event(), asyncio.Event()
    compared: list[str] = []
    match = QueueSlot.match

    async def slow(self: QueueSlot, secret: str, hashed: str | None) -> int | None:
        compared.append(secret)
        if len(compared) == 5:
            are_under_way.set()
        await may_end.wait()
        return await match(self, secret, hashed)

    with monkeypatch.context() as patch:
        patch.setattr(QueueSlot, "match", slow)
        first = [asyncio.create_task(_verify(household, "0000")) for _ in range(5)]
        async with asyncio.timeout(20):
            await are_under_way.wait()
        await api.services.redis.flushall()
        more = await asyncio.gather(*(_verify(household, "1111") for _ in range(20)))
        assert {_code(answer) for answer in more} == {(429, "too_many_requests")}
        may_end.set()
        assert {_code(await answer) for answer in first} == {(403, "wrong_pin")}
    assert len(compared) == 5
    assert _code(await _verify(household, "4711")) == (423, "locked")


async def test_comparisons_whose_process_is_killed_count_for_nobody(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    household = await _with_pin(api)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        await api.services.pins._hasher.close()
        for _ in range(7):
            answer = await _verify(household, "0000")
            assert (_code(answer), answer.headers["Retry-After"]) == ((503, "hashing_interrupted"), "1")
    assert (await _verify(household, "4711")).status_code == 200


async def test_a_lock_ends_by_itself(api: Api) -> None:
    household = await _with_pin(api)
    for _ in range(5):
        assert _code(await _verify(household, "0000")) == (403, "wrong_pin")
    locked = await _verify(household, "4711")
    assert (_code(locked), locked.headers["Retry-After"]) == ((423, "locked"), "1800")
    status = (await household.player.get("/parental-controls/pin/status")).json()
    assert status == {"has_pin": True, "locked_until": "2026-03-02T12:30:00.000Z"}
    api.clock.at_ms += 30 * MINUTE_MS - 1
    locked = await _verify(household, "4711")
    assert (_code(locked), locked.headers["Retry-After"]) == ((423, "locked"), "1")
    api.clock.at_ms += 1
    assert (await _verify(household, "4711")).status_code == 200
    assert (await household.player.get("/parental-controls/pin/status")).json()["locked_until"] is None


async def test_tries_are_forgotten_after_half_an_hour_each(api: Api) -> None:
    household = await _with_pin(api)
    for minutes in (0, 10, 10, 9):
        api.clock.at_ms += minutes * MINUTE_MS
        assert _code(await _verify(household, "0000")) == (403, "wrong_pin")
    api.clock.at_ms += MINUTE_MS  # the first is half an hour old, so the next is the fourth
    assert _code(await _verify(household, "0000")) == (403, "wrong_pin")
    assert _code(await _verify(household, "0000")) == (403, "wrong_pin")
    assert _code(await _verify(household, "4711")) == (423, "locked")


async def test_a_right_pin_forgives(api: Api) -> None:
    household = await _with_pin(api)
    for _ in range(3):
        for _ in range(4):
            assert _code(await _verify(household, "0000")) == (403, "wrong_pin")
        assert (await _verify(household, "4711")).status_code == 200


async def test_a_reset_with_the_password_ends_the_lock(api: Api) -> None:
    household = await _with_pin(api)
    for _ in range(5):
        await _verify(household, "0000")
    body = {"password": PASSWORD, "new_pin": "0815"}
    assert (await household.player.post("/parental-controls/pin/reset", json=body)).status_code == 200
    assert (await _verify(household, "0815")).status_code == 200


async def test_passwords_lock_after_ten_over_all_paths(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    household = await _with_pin(api)
    wrong = "not the password"
    with _counted_comparisons(monkeypatch) as compared:
        answers = await asyncio.gather(
            *(api.http.post("/auth/login", json={"email": household.email, "password": wrong}) for _ in range(15)),
            *(
                household.player.post("/parental-controls/pin/reset", json={"password": wrong, "new_pin": "0000"})
                for _ in range(15)
            ),
        )
    assert len(compared) == 10
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[:10] == [401] * 10
    assert set(statuses[10:]) <= {423, 429}
    login = await api.http.post("/auth/login", json={"email": household.email, "password": PASSWORD})
    assert (_code(login), login.headers["Retry-After"]) == ((423, "locked"), "900")
    api.clock.at_ms += 15 * MINUTE_MS
    login = await api.http.post("/auth/login", json={"email": household.email, "password": PASSWORD})
    assert login.status_code == 200


async def test_an_unknown_address_locks_like_a_known_one(api: Api) -> None:
    body = {"email": "nobody-at-all@example.org", "password": PASSWORD}
    answers = [await api.http.post("/auth/login", json=body) for _ in range(11)]
    assert [answer.status_code for answer in answers] == [401] * 10 + [423]


async def test_a_full_pool_refuses_without_counting(api: Api) -> None:
    household = await _with_pin(api)
    pins = api.services.pins
    with ExitStack() as places:
        for number in range(1 + api.services.settings.bcrypt_queue):
            places.enter_context(pins._hasher.queue_slot(HashingKind.PIN, str(number)))
        for _ in range(6):
            answer = await _verify(household, "0000")
            assert (_code(answer), answer.headers["Retry-After"]) == ((429, "too_many_requests"), "1")
    assert (await _verify(household, "4711")).status_code == 200
