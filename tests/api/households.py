"""Households as clients make them: by registering."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from app.auth.tokens import Role
from tests.api.conftest import Api

PASSWORD = "correct horse battery"


@dataclass(frozen=True, kw_only=True)
class Household:
    """An account with the clients of its players and its parents. ``tokens`` is the answer to its registration."""

    id: str
    email: str
    tokens: dict[str, Any]
    player: httpx.AsyncClient
    parent: httpx.AsyncClient

    async def child(self, **fields: object) -> str:
        """The id of a new child."""
        answer = await self.parent.post("/profiles", json={"name": "Ada", "is_kids": True, **fields})
        assert answer.status_code == 201, answer.text
        profile_id: str = answer.json()["id"]
        return profile_id


async def registered(api: Api, *, timezone: str = "Europe/Oslo") -> Household:
    """A new account."""
    email = f"{uuid4().hex}@example.org"
    answer = await api.http.post("/auth/register", json={"email": email, "password": PASSWORD, "timezone": timezone})
    assert answer.status_code == 201, answer.text
    account_id = answer.json()["account_id"]
    return Household(
        id=account_id,
        email=email,
        tokens=answer.json(),
        player=api.signed_in(account_id, Role.HOUSEHOLD),
        parent=api.signed_in(account_id, Role.PARENT),
    )
