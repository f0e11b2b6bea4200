"""Bad input and attacks on every route, by the number of the fault in the fault list."""

import asyncio
import gzip
import json
import re
import statistics
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

import httpx
import pytest
from jose import jws

from app.auth.hashing import Hasher, QueueSlot
from app.auth.hashing_queue import HashingKind
from app.auth.tokens import ALGORITHM
from app.errors import Unauthenticated
from app.http.requests import API_PREFIX
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD
from tests.security.scene import PIN, ROUTES, TITLE, Call, Scene

HEARTBEAT = "/viewing-time/heartbeat"
JSON = {"Content-Type": "application/json"}
HOSTILE_BODIES = (
    b"NaN",
    b'{"x": NaN}',
    b'{"x": 1e999}',
    rb'{"x": "\ud800"}',
    b"[" * 50_000,
    b'{"x": ' + b"9" * 5000 + b"}",
    b'{"x": 1, "x": 2}',
    '{"x": 1}'.encode("utf-16"),
    b'{"x": "\xff"}',
    b"",
    b"{",
)
HOSTILE_VALUES = (rb'"\u0000"', rb'"\ud800"', b"9223372036854775808", b"-9223372036854775809", b"1e999", b"NaN")
MARK = "put-the-hostile-value-here"


@pytest.fixture
async def scene(partitioned: Api) -> Scene:
    return await Scene.of(partitioned)


def _caller(call: Call) -> str:
    """Somebody who may."""
    is_assignment = call.method == "PATCH" and "/accounts/" in call.path
    is_of_the_platform = is_assignment or "/platform/" in call.path or call.path.endswith("/titles")
    if call.path.endswith("/caregiver"):
        return "caregiver"
    return "service" if is_of_the_platform else "parent"


async def _calls_with_bodies(scene: Scene) -> list[Call]:
    child = await scene.own.child()
    bodies = scene.bodies(child).items()
    return [Call(method, API_PREFIX + re.sub(r"{\w+}", child, path), body) for (method, path), body in bodies]


def _marked(body: Any) -> Iterator[Any]:
    """The body once for each value in it, with the mark in its place."""
    if isinstance(body, dict):
        for name, value in body.items():
            yield from (body | {name: marked} for marked in _marked(value))
    elif isinstance(body, list) and body:
        yield from ([marked, *body[1:]] for marked in _marked(body[0]))
    else:
        yield MARK


# --- 38


async def _endless(size: int = 50 * 2**20) -> AsyncIterator[bytes]:
    chunk = b" " * 65_536
    for _ in range(size // len(chunk)):
        yield chunk


@pytest.mark.parametrize(
    ("path", "most_mb"), [("/auth/login", 1), (HEARTBEAT, 1), ("/profiles", 1), ("/viewing-time/heartbeats", 17)]
)
@pytest.mark.parametrize("headers", [{}, {"Content-Length": str(50 * 2**20)}], ids=["chunks", "declared"])
async def test_row_38_a_body_of_50_mb_costs_its_limit(
    scene: Scene, path: str, most_mb: int, headers: dict[str, str]
) -> None:
    """A batch may hold 8 MiB, kept in pieces until it is whole; anything else 64 KiB."""
    tracemalloc.start()
    try:
        answer = await scene.own.parent.post(path, content=_endless(), headers=JSON | headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert peak < most_mb * 2**20


@pytest.mark.parametrize("path", ["/auth/login", HEARTBEAT, "/viewing-time/heartbeats", "/viewing-time/offline-sync"])
async def test_row_38_nothing_is_unpacked(scene: Scene, path: str) -> None:
    bomb = gzip.compress(b" " * 30 * 2**20)
    headers = JSON | {"Content-Encoding": "gzip"}
    tracemalloc.start()
    try:
        answer = await scene.own.parent.post(path, content=bomb, headers=headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert answer.status_code in {400, 413, 415}
    assert peak < 5 * 2**20


# --- 40 and 41


async def test_row_40_no_body_is_a_defect_on_any_route(scene: Scene) -> None:
    wrong = []
    for call in await _calls_with_bodies(scene):
        for body in HOSTILE_BODIES:
            answer = await scene.ask(_caller(call), replace(call, body=body))
            if answer.status not in ({400, 422} if body else {400, 415, 422}):
                wrong.append((call, body[:20], answer))
    assert wrong == []


def _refusals_in(answer: Any) -> list[int]:
    """The status of each beat or account of an answer to many."""
    if isinstance(answer, list):
        return [one["problem"]["status"] for one in answer if "problem" in one]
    return [result["status"] for result in answer.get("results", ())]


async def test_rows_40_and_41_no_value_is_a_defect_in_any_place(scene: Scene) -> None:
    """Each value of a sound request in turn gives way to NUL, half a surrogate, and numbers beyond all bounds."""
    wrong, tried = [], 0
    for call in await _calls_with_bodies(scene):
        for marked in _marked(call.body):
            for value in HOSTILE_VALUES:
                body = json.dumps(marked).encode().replace(json.dumps(MARK).encode(), value)
                answer = await scene.ask(_caller(call), replace(call, body=body))
                tried += 1
                refusals = _refusals_in(json.loads(answer.body))
                if {answer.status, *refusals} - {200} <= {400, 422} and (answer.status != 200 or refusals):
                    continue
                wrong.append((call, marked, value, answer))
    assert wrong == []
    assert tried > 200


@pytest.mark.parametrize("value", ["%00", "%ed%a0%80", "9223372036854775808", "..%2f..%2fetc%2fpasswd", "x" * 5000])
async def test_row_41_no_id_is_a_defect(scene: Scene, value: str) -> None:
    child, wrong = await scene.own.child(), []
    for method, path in ROUTES:
        body = scene.bodies(child).get((method, path.removeprefix(API_PREFIX)))
        for name in re.findall(r"{\w+}", path):
            made = re.sub(r"{\w+}", child, path.replace(name, value))
            headers = {"If-Match": '"1"'}
            answer = await scene.own.parent.request(method, f"http://test{made}", headers=headers, json=body)
            if answer.status_code not in {403, 404, 405, 422}:
                wrong.append((method, made[:200], answer.status_code))
    assert wrong == []


@pytest.mark.parametrize("name", ["device_now", "last_server_time"])
@pytest.mark.parametrize("instant", ["9999-12-31T23:59:59Z", "10000-01-01T00:00:00Z", "0001-01-01T00:00:00Z"])
async def test_row_41_no_instant_is_a_defect(scene: Scene, name: str, instant: str) -> None:
    call = await scene.call("POST", f"{API_PREFIX}/viewing-time/offline-sync")
    assert isinstance(call.body, dict)
    answer = await scene.ask("household", replace(call, body=call.body | {name: instant}))
    assert answer.status < 500


@pytest.mark.parametrize(
    ("first", "last"),
    [("2026-03-02", "2026-03-01"), ("2016-01-01", "2026-01-01"), ("9999-01-01", "9999-12-31"), ("\0", "2026-01-01")],
)
async def test_row_41_no_range_is_a_defect(scene: Scene, first: str, last: str) -> None:
    path = f"/parental-controls/profiles/{await scene.own.child()}/history"
    answer = await scene.own.parent.get(path, params={"from_date": first, "to_date": last})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


# --- 42


@pytest.mark.parametrize("zone", ["posixrules", "../etc/passwd", "", "x" * 10_000, "europe/oslo", "Europe/Oslo\0"])
async def test_row_42_no_such_zone_anywhere(scene: Scene, zone: str) -> None:
    child = await scene.own.child()
    settings = f"/parental-controls/profiles/{child}/viewing-time"
    account = {"email": "zone@example.org", "password": "long enough for us"}
    http, json_ = scene.own.parent, {"timezone": zone}
    answers = [
        await http.post("/auth/register", json=account | json_),
        await http.post("/profiles", json={"name": "Kim", "is_kids": True} | json_),
        await http.patch(f"/profiles/{child}", json=json_),
        await http.put(settings, json=json_, headers={"If-Match": '"1"'}),
        await http.post(f"{settings}/preview", json=json_),
    ]
    assert [answer.status_code for answer in answers] == [422] * 5
    assert all([error["pointer"] for error in answer.json()["errors"]] == ["/timezone"] for answer in answers)


# --- 43


def _forged(scene: Scene) -> dict[str, str]:
    good: dict[str, object] = {
        "iss": "hourglass",
        "aud": "hourglass",
        "sub": scene.own.id,
        "typ": "access",
        "role": "parent",
    }
    secret = "x" * 32

    def signed(claims: dict[str, object], **options: Any) -> str:
        return jws.sign(claims, options.pop("secret", secret), **{"algorithm": ALGORITHM, **options})

    payload = signed(good | {"exp": 9_999_999_999}).split(".")[1]
    return {
        "none": f"eyJhbGciOiJub25lIn0.{payload}.",
        "another algorithm": signed(good | {"exp": 9_999_999_999}, algorithm="HS512"),
        "another secret": signed(good | {"exp": 9_999_999_999}, secret="y" * 32),
        "no end": signed(good),
        "end null": signed(good | {"exp": None}),
        "end beyond": jws.sign(json.dumps(good)[:-1].encode() + b', "exp": 1e400}', secret, algorithm=ALGORITHM),
        "past": signed(good | {"exp": 1}),
        "deep header": "W1tb" * 1000 + f".{payload}.AA",
        "100 kB": "x" * 100_000,
    }


async def test_row_43_no_forged_token_passes_anywhere_or_costs_a_millisecond(scene: Scene) -> None:
    """The forger even knows the secret, where that is not what is wrong."""
    calls = [await scene.call(method, path) for method, path in ROUTES if path.endswith(("/heartbeat", "/profiles"))]
    cache = scene.api.services.token_cache
    for name, token in _forged(scene).items():
        for call in calls:
            scene.bearers["forger"] = {"Authorization": f"Bearer {token}"}
            answer = await scene.ask("forger", call)
            assert (answer.status, answer.code) == (401, "unauthenticated"), name
        spent = []
        for _ in range(51):
            began = time.thread_time()
            with pytest.raises(Unauthenticated):
                cache.principal_of(f"Bearer {token}".encode())
            spent.append(time.thread_time() - began)
        assert statistics.median(spent) < 0.001, name


async def test_row_43_an_unlock_is_no_token_and_a_child_has_one_family(scene: Scene) -> None:
    unlock = scene.bearers["unlocked household"]["X-PIN-Token"]
    call = await scene.call("POST", f"{API_PREFIX}{HEARTBEAT}")
    scene.bearers["unlock"] = {"Authorization": f"Bearer {unlock}"}
    assert (await scene.ask("unlock", call)).status == 401
    answer = await scene.ask("another household", call)
    assert (answer.status, answer.code) == (403, "profile_access_denied")


# --- 44


async def test_row_44_two_hundred_guesses_on_every_path_get_five_comparisons(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then Redis forgets everything, and the lock stays: the right PIN is not even looked at."""
    compared: list[str] = []
    match = QueueSlot.match

    async def counted(self: QueueSlot, secret: str, hashed: str | None) -> int | None:
        compared.append(secret)
        return await match(self, secret, hashed)

    monkeypatch.setattr(QueueSlot, "match", counted)
    child = await scene.own.child()

    def paths(pin: str) -> list[tuple[str, dict[str, object]]]:
        return [
            ("/parental-controls/pin/verify", {"pin": pin}),
            ("/parental-controls/pin", {"new_pin": "1111", "current_pin": pin}),
            (f"/parental-controls/profiles/{child}/viewing-time/grant", {"minutes": 15, "pin": pin}),
            ("/auth/devices", {"name": "mine", "pin": pin}),
        ]

    guesses = [scene.own.player.post(path, json=body) for guess in range(50) for path, body in paths(f"{guess:04}")]
    answers: list[httpx.Response] = await asyncio.gather(*guesses)
    codes = sorted((answer.status_code, answer.json()["code"]) for answer in answers)
    assert codes[:5] == [(403, "wrong_pin")] * 5
    assert set(codes[5:]) <= {(423, "locked"), (429, "too_many_requests")}
    assert len(compared) == 5
    told = {
        re.sub(r"\"request_id\":\"\w+\"|[0-9]+", "", answer.text) for answer in answers if answer.status_code == 403
    }
    assert len(told) == 1, "no answer tells how many tries remain"

    await scene.api.services.redis.flushall()
    for path, body in paths(PIN):
        answer = await scene.own.player.post(path, json=body)
        assert (answer.status_code, answer.json()["code"]) == (423, "locked")
        assert 0 < int(answer.headers["Retry-After"]) <= 30 * 60
    assert len(compared) == 5
    status = (await scene.own.player.get("/parental-controls/pin/status")).json()
    assert status["locked_until"] is not None


async def test_row_44_right_and_wrong_pins_and_addresses_cost_the_same_hashing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Counted, not timed: as many computations, of the same cost."""
    costs: list[bytes] = []
    run = Hasher._run

    async def counted(
        self: Hasher, salt: bytes, secrets: Sequence[bytes], kind: HashingKind, account_id: str
    ) -> list[bytes]:
        assert len(secrets) == 1, "one pepper, one computation"
        costs.append(salt.split(b"$")[2])
        return await run(self, salt, secrets, kind, account_id)

    monkeypatch.setattr(Hasher, "_run", counted)

    async def spent(path: str, body: dict[str, object]) -> list[bytes]:
        costs.clear()
        await scene.own.player.post(path, json=body)
        return list(costs)

    right, wrong = [await spent("/parental-controls/pin/verify", {"pin": pin}) for pin in (PIN, "0000")]
    assert right == wrong == [b"04"]
    secrets = [(scene.own.email, PASSWORD), (scene.own.email, "not the password"), ("nobody@example.org", PASSWORD)]
    logins = [await spent("/auth/login", {"email": email, "password": password}) for email, password in secrets]
    assert logins == [[b"04"]] * 3


# --- 45


@pytest.mark.parametrize("pin", ["x" * 73, "4" * 73, "٣٣٣٣", "👍👍👍👍", "", "47\0011", "4711\0", " 4711"])
async def test_row_45_what_is_no_pin_is_never_hashed(scene: Scene, monkeypatch: pytest.MonkeyPatch, pin: str) -> None:
    hashed: list[str] = []

    async def match(_: QueueSlot, secret: str, __: str | None) -> int | None:
        hashed.append(secret)
        return None

    monkeypatch.setattr(QueueSlot, "match", match)
    child = await scene.own.child()
    bodies = {
        "/parental-controls/pin/verify": {"pin": pin},
        "/parental-controls/pin": {"new_pin": "0815", "current_pin": pin},
        "/parental-controls/pin/reset": {"password": "any", "new_pin": pin},
        "/auth/devices": {"name": "phone", "pin": pin},
        f"/parental-controls/profiles/{child}/viewing-time/grant": {"minutes": 15, "pin": pin},
    }
    answers = [await scene.own.player.post(path, json=body) for path, body in bodies.items()]
    assert [answer.status_code for answer in answers] == [422] * len(bodies)
    assert hashed == []


# --- 46


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE profiles; --",
        "' OR '1'='1",
        "\"]}); redis.call('FLUSHALL') --",
        '{"event": "forged", "level": "error"}',
        "{user_id} %s %(name)s ${jndi:ldap://x}",
    ],
)
async def test_row_46_text_is_only_text(scene: Scene, text: str) -> None:
    child = await scene.own.child(name=text)
    beat = {"profile_id": child, "title_id": TITLE, "device_id": text[:100]}
    assert (await scene.own.player.post(HEARTBEAT, json=beat)).status_code == 200
    asked = f"/parental-controls/profiles/{child}/requests"
    assert (await scene.own.player.post(asked, json={"minutes": 15, "note": text})).status_code == 201
    assert [request["note"] for request in (await scene.own.player.get(asked)).json()["requests"]] == [text]
    names = [profile["name"] for profile in (await scene.own.player.get("/profiles")).json()]
    assert names == [text]
    unknown = await scene.own.player.post(HEARTBEAT, json=beat | {"title_id": text[:64]})
    assert unknown.status_code in {404, 422}


@pytest.mark.parametrize("text", ["a\r\nSet-Cookie: x", "a\nlevel=error", "\x1b[31m", "a\x7f"])
async def test_row_46_no_line_can_be_forged(scene: Scene, text: str) -> None:
    """Nor is any such text logged: tests/security/test_secrets.py."""
    child = await scene.own.child()
    beat = {"profile_id": child, "title_id": TITLE, "device_id": text}
    assert (await scene.own.player.post(HEARTBEAT, json=beat)).status_code == 422
    for path, body in {
        "/profiles": {"name": text, "is_kids": True},
        "/auth/devices": {"name": text, "pin": PIN},
    }.items():
        assert (await scene.own.parent.post(path, json=body)).status_code == 422
    grant = f"/parental-controls/profiles/{child}/viewing-time/grant"
    answer = await scene.own.parent.post(grant, json={"minutes": 15}, headers={b"Idempotency-Key": text.encode()})
    assert answer.status_code == 422


# --- 47 and 48


async def test_row_47_of_two_saves_one_wins_and_none_is_blind(scene: Scene) -> None:
    path = f"/parental-controls/profiles/{await scene.own.child()}/viewing-time"
    etag = (await scene.own.parent.get(path)).headers["ETag"]
    saves = [scene.own.parent.put(path, json={"reset_hour": hour}, headers={"If-Match": etag}) for hour in (7, 8)]
    answers: list[httpx.Response] = await asyncio.gather(*saves)
    assert sorted(answer.status_code for answer in answers) == [200, 412]
    blind = await scene.own.parent.put(path, json={"reset_hour": 9})
    assert (blind.status_code, blind.json()["code"]) == (428, "precondition_required")


async def test_row_48_a_repeated_grant_is_one_grant(scene: Scene) -> None:
    controls = f"/parental-controls/profiles/{await scene.own.child()}"

    async def give(minutes: int) -> httpx.Response:
        headers = {"Idempotency-Key": "tap"}
        return await scene.own.parent.post(f"{controls}/viewing-time/grant", json={"minutes": minutes}, headers=headers)

    answers = await asyncio.gather(*(give(15) for _ in range(10)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    repeat, other = await give(15), await give(30)
    assert {answer.text for answer in answers if answer.status_code == 201} == {repeat.text}
    assert (repeat.status_code, other.status_code) == (201, 422)
    assert len((await scene.own.parent.get(f"{controls}/grants")).json()["grants"]) == 1
