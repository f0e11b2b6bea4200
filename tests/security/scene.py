"""Two families, everybody who may or may not call, and a sensible request for every route."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from app.auth.tokens import Role
from app.http.requests import API_PREFIX
from app.main import create_app
from tests.builders import settings_for
from tests.scenes.api import Api
from tests.scenes.households import PASSWORD, Household, registered

PIN = "4711"
TITLE = "moon-pirates"
_ENDING = {("POST", "/auth/logout"), ("POST", "/auth/logout-everywhere"), ("PUT", "/account/password")}
"""Calls that end tokens, the caller's own or those of others."""
_PATH_VALUE = re.compile(r"{(\w+)}")


@dataclass(frozen=True)
class Call:
    """A request; a body of bytes is sent as it is, another as JSON."""

    method: str
    path: str
    body: object = None


@dataclass(frozen=True)
class Answer:
    status: int
    body: bytes

    @property
    def code(self) -> str | None:
        """The code of a problem."""
        value = json.loads(self.body) if self.body.startswith(b"{") else {}
        return value.get("code") if isinstance(value, dict) else None


def _document() -> dict[str, Any]:
    front = create_app(settings_for(database_url="postgresql://nobody@localhost/none", redis_url="redis://localhost"))
    return front.openapi()


DOCUMENT = _document()
ROUTES = [(method.upper(), path) for path, calls in DOCUMENT["paths"].items() for method in calls]


def declared_codes(method: str, path: str, status: int) -> set[str]:
    """The codes of refusals that the OpenAPI document names for an operation and a status."""
    answer = DOCUMENT["paths"][path][method.lower()]["responses"].get(str(status), {})
    if "$ref" in answer:
        answer = DOCUMENT["components"]["responses"][answer["$ref"].rpartition("/")[2]]
    return set(answer.get("content", {}).get("application/problem+json", {}).get("examples", ()))


class Scene:
    """A family whose routes are called, and another one."""

    def __init__(self, api: Api, own: Household, other: Household) -> None:
        self.api = api
        self.own = own
        self.other = other
        self._caregiver_device = ""
        self.bearers = {
            "another household": _bearer(other.player.headers),
            "another parent": _bearer(other.parent.headers),
            "household": _bearer(own.player.headers),
            "parent": _bearer(own.parent.headers),
            "service": _bearer(api.signed_in("catalogue", Role.SERVICE).headers),
            "admin": _bearer(api.signed_in("operator", Role.ADMIN).headers),
            "expired": {"Authorization": f"Bearer {self._expired()}"},
            "refresh token": {"Authorization": f"Bearer {own.tokens['refresh_token']}"},
            "nobody": {},
        }

    @classmethod
    async def of(cls, api: Api) -> "Scene":
        own, other = await registered(api), await registered(api)
        for family in (own, other):
            await _done(family.player.post("/parental-controls/pin", json={"new_pin": PIN, "password": PASSWORD}))
        title = [{"id": TITLE, "name": "Moon Pirates", "is_educational": False}]
        await _done(api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=title))
        scene = cls(api, own, other)
        device = await _done(own.player.post("/auth/devices", json={"name": "phone", "pin": PIN}))
        scene.bearers["parent device"] = {"Authorization": f"Bearer {device['token']}"}
        gone = await _done(own.player.post("/auth/devices", json={"name": "lost phone", "pin": PIN}))
        await _done(own.parent.delete(f"/auth/devices/{gone['id']}"))
        scene.bearers["revoked device"] = {"Authorization": f"Bearer {gone['token']}"}
        scene.bearers["revoked caregiver"] = await scene._caregiver(is_revoked=True)
        scene.bearers["caregiver"] = await scene._caregiver()
        unlocked = await _done(own.player.post("/parental-controls/pin/verify", json={"pin": PIN}))
        scene.bearers["unlocked household"] = scene.bearers["household"] | {"X-PIN-Token": unlocked["pin_token"]}
        return scene

    async def call(self, method: str, path: str) -> Call:
        """A sensible request for a route, about things of the family that nothing has happened to yet."""
        names = set(_PATH_VALUE.findall(path))
        child = await self.own.child()
        controls = f"/parental-controls/profiles/{child}"
        values = {
            "profile_id": child,
            "account_id": self.own.id,
            "external_id": self.own.id,
            "external_profile_id": child,
        }
        if "session_id" in names:
            beat = await self.own.player.post("/viewing-time/heartbeat", json=_beat(child))
            values["session_id"] = (await _done(beat))["session_id"]
        if "grant_id" in names:
            values["grant_id"] = (
                await _done(self.own.parent.post(f"{controls}/viewing-time/grant", json={"minutes": 15}))
            )["grant_id"]
        if "request_id" in names:
            values["request_id"] = (await _done(self.own.player.post(f"{controls}/requests", json={"minutes": 15})))[
                "request_id"
            ]
        if "sign_in_id" in names:
            login = {"email": self.own.email, "password": PASSWORD}
            await _done(self.api.http.post("/auth/login", json=login))
            values["sign_in_id"] = (await _done(self.own.parent.get("/auth/sign-ins")))[0]["id"]
        if "title_id" in names:
            values["title_id"] = f"film-{uuid4().hex}"
            title = [{"id": values["title_id"], "name": "A film", "is_educational": False}]
            await _done(self.api.signed_in("catalogue", Role.SERVICE).put("/catalog/titles", json=title))
        if "webhook_id" in names:
            service = self.api.signed_in("platform", Role.SERVICE)
            webhook = {"url": "https://receiver.example/hook"}
            values["webhook_id"] = (await _done(service.post("/platform/webhooks", json=webhook)))["id"]
        if (method, path.removeprefix(API_PREFIX)) in _ENDING:
            await self._sign_in_again()
        if "device_id" in names:
            device = await _done(self.own.player.post("/auth/devices", json={"name": "tablet", "pin": PIN}))
            values["device_id"] = device["id"]
        body = self.bodies(child).get((method, path.removeprefix(API_PREFIX)))
        return Call(method, path.format_map(values), body)

    def bodies(self, child: str) -> dict[tuple[str, str], object]:
        """Sensible bodies by method and path."""
        at = "2026-03-02T12:00:00Z"
        return {
            ("POST", "/auth/register"): {
                "email": f"{uuid4().hex}@example.org",
                "password": PASSWORD,
                "timezone": "Europe/Oslo",
            },
            ("POST", "/auth/login"): {"email": self.own.email, "password": PASSWORD},
            ("POST", "/auth/refresh"): {"refresh_token": self.own.tokens["refresh_token"]},
            ("POST", "/auth/devices"): {"name": "tablet", "pin": PIN},
            ("PUT", "/account/password"): {"current_password": PASSWORD, "new_password": PASSWORD},
            ("PUT", "/account/email"): {"password": PASSWORD, "email": f"{uuid4().hex}@example.org"},
            ("POST", "/parental-controls/pin"): {"new_pin": PIN, "current_pin": PIN},
            ("POST", "/parental-controls/pin/verify"): {"pin": PIN},
            ("POST", "/parental-controls/pin/reset"): {"new_pin": PIN, "password": PASSWORD},
            ("POST", "/profiles"): {"name": "Kim", "is_kids": True},
            ("DELETE", "/account"): {"password": PASSWORD},
            ("PATCH", "/profiles/{profile_id}"): {"name": "Kim"},
            ("PUT", "/catalog/titles"): [{"id": "another", "name": "Another", "is_educational": True}],
            ("PUT", "/platform/accounts"): [{"external_id": "another", "timezone": "Europe/Oslo"}],
            ("PUT", "/platform/accounts/{external_id}"): {"timezone": "Europe/Oslo"},
            ("PUT", "/platform/accounts/{external_id}/profiles/{external_profile_id}"): {
                "name": "Kim",
                "is_kids": True,
            },
            ("POST", "/platform/webhooks"): {"url": "https://receiver.example/hook"},
            ("PATCH", "/platform/webhooks/{webhook_id}"): {"is_enabled": False},
            ("PATCH", "/accounts/{external_id}"): {"market": None},
            ("PATCH", "/accounts/{external_id}/profiles/{external_profile_id}"): {"enforcement": "shadow"},
            ("POST", "/viewing-time/heartbeat"): _beat(child) | {"co_viewers": [_CO_VIEWER]},
            ("POST", "/viewing-time/heartbeats"): {"beats": [_beat(child)]},
            ("POST", "/viewing-time/events-ticket"): {"profile_id": child},
            ("POST", "/viewing-time/offline-sync"): {
                "profile_id": child,
                "device_id": "tv",
                "batch_id": str(uuid4()),
                "device_now": at,
                "last_server_time": at,
                "intervals": [],
            },
            ("PUT", "/parental-controls/profiles/{profile_id}/viewing-time"): {"educational_exempt": False},
            ("POST", "/parental-controls/profiles/{profile_id}/viewing-time/preview"): {"educational_exempt": False},
            ("POST", "/parental-controls/profiles/{profile_id}/viewing-time/grant"): {"minutes": 15},
            ("POST", "/parental-controls/profiles/{profile_id}/viewing-time/pause"): {"minutes": 15},
            ("POST", "/parental-controls/viewing-time/pause"): {"minutes": None},
            ("POST", "/parental-controls/profiles/{profile_id}/requests"): {"minutes": 15},
        }

    async def ask(self, caller: str, call: Call) -> Answer:
        return await asked(self.api, call, self.bearers[caller])

    async def unlock_again(self) -> None:
        """A changed PIN ended the unlock."""
        unlocked = await _done(self.own.player.post("/parental-controls/pin/verify", json={"pin": PIN}))
        self.bearers["unlocked household"]["X-PIN-Token"] = unlocked["pin_token"]

    async def _sign_in_again(self) -> None:
        """Tokens that a sign-in or a parent device holds, new ones in place of those that may have ended."""
        for family, of_whom in ((self.own, ""), (self.other, "another ")):
            login = {"email": family.email, "password": PASSWORD}
            tokens = await _done(self.api.http.post("/auth/login", json=login))
            self.bearers[f"{of_whom}household"] = {"Authorization": f"Bearer {tokens['access_token']}"}
            phone = await _done(family.player.post("/auth/devices", json={"name": "phone", "pin": PIN}))
            self.bearers[f"{of_whom}parent"] = {"Authorization": f"Bearer {phone['token']}"}
        self.bearers["unlocked household"] |= self.bearers["household"]
        self.bearers["caregiver"] = await self._caregiver()
        phone = await _done(self.own.player.post("/auth/devices", json={"name": "phone", "pin": PIN}))
        self.bearers["parent device"] = {"Authorization": f"Bearer {phone['token']}"}

    async def _caregiver(self, *, is_revoked: bool = False) -> dict[str, str]:
        body = {"name": "grandma", "pin": PIN, "role": "caregiver", "daily_grant_minutes": 480}
        device = await _done(self.own.player.post("/auth/devices", json=body))
        if is_revoked:
            await _done(self.own.parent.delete(f"/auth/devices/{device['id']}"))
        elif self._caregiver_device:  # an account may have twenty devices
            await _done(self.own.parent.delete(f"/auth/devices/{self._caregiver_device}"))
        self._caregiver_device = device["id"]
        return {"Authorization": f"Bearer {device['token']}"}

    def _expired(self) -> str:
        now_s = self.api.clock() // 1000
        return self.api.services.tokens.issue(
            account_id=self.own.id, role=Role.PARENT, at_s=now_s - 60, life_seconds=60
        )


_CO_VIEWER = {
    "profile_id": str(uuid4()),
    "session_id": str(uuid4()),
    "watched_seconds": 1.5,
    "has_left": False,
}
"""A profile that there is not: the beat is answered, and the answer says so."""


def _beat(profile_id: str) -> dict[str, object]:
    return {"profile_id": profile_id, "title_id": TITLE, "device_id": "living-room", "device_type": "tv"}


def _bearer(headers: Any) -> dict[str, str]:
    return {"Authorization": headers["Authorization"]}


async def _done(answer: Any) -> Any:
    """The body of an answer that must be a success."""
    response = await answer if isinstance(answer, Awaitable) else answer
    assert response.status_code < 300, response.text
    return response.json() if response.content else None


async def asked(api: Api, call: Call, headers: dict[str, str]) -> Answer:
    """The answer to a request; of an event stream only its head is waited for."""
    body = call.body if isinstance(call.body, bytes) else b"" if call.body is None else json.dumps(call.body).encode()
    sent = {"host": "test", "if-match": "*", **headers}
    if body:
        sent |= {"content-type": "application/json", "content-length": str(len(body))}
    scope: MutableMapping[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": call.method,
        "scheme": "http",
        "path": call.path,
        "raw_path": call.path.encode(),
        "query_string": b"",
        "headers": [(name.lower().encode(), value.encode()) for name, value in sent.items()],
        "client": ("127.0.0.1", 1),
        "server": ("test", 80),
    }
    waiting = [{"type": "http.request", "body": body, "more_body": False}]
    status: list[int] = []
    received: list[bytes] = []
    is_answered = asyncio.Event()

    async def receive() -> MutableMapping[str, Any]:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop()

    async def send(message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            status.append(message["status"])
            if any(value.startswith(b"text/event-stream") for _, value in message["headers"]):
                is_answered.set()
        else:
            received.append(message.get("body", b""))
            if not message.get("more_body", False):
                is_answered.set()

    app: Callable[..., Awaitable[None]] = api.http._transport.app  # type: ignore[attr-defined]
    running = asyncio.ensure_future(app(scope, receive, send))
    ended = asyncio.ensure_future(is_answered.wait())
    await asyncio.wait({running, ended}, timeout=30, return_when=asyncio.FIRST_COMPLETED)
    for task in (running, ended):
        task.cancel()
    await asyncio.wait({running, ended})
    assert status, f"{call.method} {call.path} did not answer"
    return Answer(status[0], b"".join(received))
