"""Households, children and titles, made the way their users make them: over the API."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx
from pydantic import SecretStr

from app.auth.tokens import Role
from app.instants import utc
from app.main import Front
from app.settings import Settings
from app.wiring import Services

PASSWORD = "correct horse battery"


def settings_for(*, database_url: str, redis_url: str, **overrides: Any) -> Settings:
    """Settings for tests: cheap hashing, secrets of no value."""
    values: dict[str, Any] = {
        "database_url": SecretStr(database_url),
        "redis_url": SecretStr(redis_url),
        "jwt_secret": SecretStr("j" * 32),
        "session_secret": SecretStr("s" * 32),
        "pin_pepper": SecretStr("p" * 32),
        "bcrypt_cost": 4,
        "database_pool": 3,
        "redis_timeout_seconds": 2,
        "max_beats_per_second": 0,
    }
    return Settings(**(values | overrides))


def zone_at_noon(at_ms: int) -> str:
    """A zone in which an instant lies between 12:00 and 13:00."""
    ahead = (12 - utc(at_ms).hour + 11) % 24 - 11  # hours, -11 to 12
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


@dataclass(frozen=True)
class Api:
    """A running API and a client for it."""

    front: Front
    http: httpx.AsyncClient

    @property
    def services(self) -> Services:
        services: Services = self.front.state.services
        return services

    def token(self, account_id: str, role: Role) -> str:
        return self.services.tokens.issue(
            account_id=account_id, role=role, at_s=self.services.clock() // 1000, life_seconds=3600
        )

    def as_role(self, account_id: str, role: Role) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(account_id, role)}"}

    async def household(self) -> "Household":
        """A registered account, living where it is noon: no test runs into a reset by chance."""
        timezone = zone_at_noon(self.services.clock())
        email = f"{uuid.uuid4().hex}@example.com"
        answer = await self.http.post(
            "/auth/register", json={"email": email, "password": PASSWORD, "timezone": timezone}
        )
        assert answer.status_code == 201, answer.text
        tokens = answer.json()
        account_id = tokens["account_id"]
        player = {"Authorization": f"Bearer {tokens['access_token']}"}
        return Household(self, account_id, player, self.as_role(account_id, Role.PARENT), email)

    async def add_title(self, *, is_educational: bool = False) -> str:
        title_id = f"title-{uuid.uuid4().hex[:12]}"
        answer = await self.http.put(
            "/catalog/titles",
            json=[{"id": title_id, "name": f"Film {title_id}", "is_educational": is_educational}],
            headers=self.as_role("catalogue", Role.SERVICE),
        )
        assert answer.status_code == 200, answer.text
        return title_id


@dataclass(frozen=True)
class Household:
    """An account with the headers of its players and of a parent."""

    api: Api
    id: str
    player: dict[str, str] = field(repr=False)
    parent: dict[str, str] = field(repr=False)
    email: str

    async def add_profile(self, *, is_kids: bool = True, name: str = "Kim") -> str:
        answer = await self.api.http.post("/profiles", json={"name": name, "is_kids": is_kids}, headers=self.parent)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def beat(self, child: str, title: str, *, on: Api | None = None, **fields: Any) -> httpx.Response:
        """A heartbeat, through another API process when one is given."""
        body = {"profile_id": child, "title_id": title, "device_id": "tv-1", "device_type": "tv"} | fields
        return await (on or self.api).http.post("/viewing-time/heartbeat", json=body, headers=self.player)

    async def set_limits(self, profile_id: str, **fields: Any) -> httpx.Response:
        path = f"/parental-controls/profiles/{profile_id}/viewing-time"
        etag = (await self.api.http.get(path, headers=self.parent)).headers["ETag"]
        return await self.api.http.put(path, json=fields, headers=self.parent | {"If-Match": etag})
