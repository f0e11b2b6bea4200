"""A household with one child, created over HTTP."""

import uuid
from dataclasses import dataclass, field
from typing import Any, Self

import httpx

from app.auth.tokens import Role
from app.clock import now_ms
from app.lab.chaos.deployment import ChaosDeployment
from app.wiring.external_identity import tokens_of

PASSWORD = "correct horse battery"
TITLE = "title-00100"
"""A title of every test deployment; not educational."""


@dataclass(kw_only=True)
class Home:
    """Synchronous: for looking at answers beside the players."""

    deployment: ChaosDeployment
    account_id: str
    child: str
    player: dict[str, str] = field(repr=False)
    parent: dict[str, str] = field(repr=False)
    pin: str = "4711"

    @classmethod
    def found(cls, deployment: ChaosDeployment) -> Self:
        email = f"{uuid.uuid4().hex}@example.com"
        registered = _call(
            deployment, "POST", "/auth/register", json={"email": email, "password": PASSWORD, "timezone": "Europe/Oslo"}
        ).json()
        player = {"Authorization": f"Bearer {registered['access_token']}"}
        _call(
            deployment,
            "POST",
            "/parental-controls/pin",
            headers=player,
            json={"new_pin": cls.pin, "password": PASSWORD},
        ).raise_for_status()
        token = tokens_of(deployment.settings).issue(
            account_id=registered["account_id"], role=Role.PARENT, at_s=now_ms() // 1000, life_seconds=3600
        )
        parent = {"Authorization": f"Bearer {token}"}
        child = _call(deployment, "POST", "/profiles", headers=parent, json={"name": "Kim", "is_kids": True}).json()[
            "id"
        ]
        return cls(
            deployment=deployment, account_id=registered["account_id"], child=child, player=player, parent=parent
        )

    def try_pin(self, pin: str) -> int:
        return self.call("POST", "/parental-controls/pin/verify", headers=self.player, json={"pin": pin}).status_code

    def balance(self) -> httpx.Response:
        return self.call("GET", f"/viewing-time/balance/{self.child}", headers=self.player)

    def beat(self, **fields: Any) -> httpx.Response:
        body = {"profile_id": self.child, "title_id": TITLE, "device_id": "tv-1"} | fields
        return self.call("POST", "/viewing-time/heartbeat", headers=self.player, json=body)

    def limit(self, minutes: int) -> int:
        """Set the limit of every day; the version of the settings then."""
        path = f"/parental-controls/profiles/{self.child}/viewing-time"
        etag = self.call("GET", path, headers=self.parent).headers["ETag"]
        change = {"weekday_limit_minutes": minutes, "weekend_limit_minutes": minutes}
        answer = self.call("PUT", path, headers={**self.parent, "If-Match": etag}, json=change)
        answer.raise_for_status()
        return int(answer.json()["version"])

    def call(self, method: str, path: str, **options: Any) -> httpx.Response:
        """On a connection of its own: the kernel picks the process that answers."""
        return _call(self.deployment, method, path, **options)


def _call(deployment: ChaosDeployment, method: str, path: str, **options: Any) -> httpx.Response:
    return httpx.request(method, f"{deployment.url}/api/v1{path}", timeout=20, **options)
