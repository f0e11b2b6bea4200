"""Households as clients make them: over the API."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import httpx

from app.auth.tokens import Role
from app.timestamps import utc
from tests.scenes.api import Api

PASSWORD = "correct horse battery"


def zone_at_noon(at_ms: int) -> str:
    """A zone in which an instant lies between 12:00 and 13:00."""
    ahead = (12 - utc(at_ms).hour + 11) % 24 - 11  # hours, -11 to 12
    return f"Etc/GMT{-ahead:+d}" if ahead else "Etc/GMT"


@dataclass(frozen=True, kw_only=True)
class Household:
    """An account with the clients of its players and its parents. ``tokens`` is the answer to its registration."""

    api: Api
    id: str
    email: str
    tokens: dict[str, Any] = field(repr=False)
    player: httpx.AsyncClient = field(repr=False)
    parent: httpx.AsyncClient = field(repr=False)

    @property
    def as_player(self) -> dict[str, str]:
        """The headers of its players."""
        return {"Authorization": self.player.headers["Authorization"]}

    @property
    def as_parent(self) -> dict[str, str]:
        """The headers of its parents."""
        return {"Authorization": self.parent.headers["Authorization"]}

    async def child(self, **fields: object) -> str:
        """The id of a new child."""
        answer = await self.parent.post("/profiles", json={"name": "Ada", "is_kids": True, **fields})
        assert answer.status_code == 201, answer.text
        profile_id: str = answer.json()["id"]
        return profile_id

    async def adult(self) -> str:
        """The id of a new profile that has no limits."""
        return await self.child(is_kids=False)

    async def beat(self, child: str, title: str, *, on: Api | None = None, **fields: Any) -> httpx.Response:
        """A heartbeat, through another API process when one is given."""
        body = {"profile_id": child, "title_id": title, "device_id": "tv-1", "device_type": "tv"} | fields
        return await (on or self.api).http.post("/viewing-time/heartbeat", json=body, headers=self.as_player)

    async def set_limits(self, profile_id: str, **fields: Any) -> httpx.Response:
        path = f"/parental-controls/profiles/{profile_id}/viewing-time"
        etag = (await self.parent.get(path)).headers["ETag"]
        return await self.parent.put(path, json=fields, headers={"If-Match": etag})


async def registered(api: Api, *, timezone: str = "Europe/Oslo") -> Household:
    """A new account."""
    email = f"{uuid.uuid4().hex}@example.org"
    answer = await api.http.post("/auth/register", json={"email": email, "password": PASSWORD, "timezone": timezone})
    assert answer.status_code == 201, answer.text
    account_id = answer.json()["account_id"]
    return Household(
        api=api,
        id=account_id,
        email=email,
        tokens=answer.json(),
        player=api.signed_in(account_id, Role.HOUSEHOLD),
        parent=api.signed_in(account_id, Role.PARENT),
    )


async def registered_at_noon(api: Api) -> Household:
    """A new account that lives where it is noon: no test runs into a reset by chance."""
    return await registered(api, timezone=zone_at_noon(api.services.clock()))
