"""Create a household over HTTP, as a new customer would: account, PIN, parent device, profiles, titles, limits."""

import asyncio
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from app.clients.http import Client, Refused, Unreachable

API = "/api/v1"
PATIENCE = 30
SILENCES = 4
SILENCE_SECONDS = 0.5
BUSY = frozenset({429, 503})
RENEW_AFTER = 0.5


@dataclass(frozen=True, kw_only=True)
class Household:
    """The credentials and profiles of a household. Ids and tokens as the API gave them; profiles by name."""

    email: str
    password: str
    pin: str
    account_id: str
    parent_token: str
    profiles: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class DemoTitle:
    id: str
    name: str
    is_educational: bool
    duration_seconds: int


TITLES: Sequence[DemoTitle] = (
    DemoTitle(id="moon-pirates", name="The Moon Pirates", is_educational=False, duration_seconds=1500),
    DemoTitle(id="robot-kitchen", name="Robot Kitchen", is_educational=False, duration_seconds=1320),
    DemoTitle(id="snow-foxes", name="Snow Foxes of the North", is_educational=False, duration_seconds=5400),
    DemoTitle(id="numbers-farm", name="Numbers Farm", is_educational=True, duration_seconds=900),
    DemoTitle(id="how-bridges-stand", name="How Bridges Stand", is_educational=True, duration_seconds=1800),
)
PLAIN = [title.id for title in TITLES if not title.is_educational]
EDUCATIONAL = [title.id for title in TITLES if title.is_educational]


async def call(client: Client, what: str, method: str, path: str, **options: Any) -> Any:  # noqa: ANN401  JSON
    """Send one call that should succeed. Retries when the service asks for it or a process is being replaced.

    Raises:
        Refused: the call failed, or the service was busy for too long.
        Unreachable: the service does not answer.
    """
    silences = 0
    for _ in range(PATIENCE):
        try:
            reply = await client.request(method, API + path, **options)
        except Unreachable:
            silences += 1
            if silences == SILENCES:
                raise
            await asyncio.sleep(SILENCE_SECONDS)
            continue
        if reply.status not in BUSY:
            return reply.expect(what)
        await asyncio.sleep(reply.retry_after_seconds)
    raise Refused(f"cannot {what}: the service stayed busy")


async def fill_catalogue(client: Client, *, service_token: str) -> None:
    titles = [asdict(title) for title in TITLES]
    await call(client, "fill the catalogue", "PUT", "/catalog/titles", token=service_token, body=titles)


async def create_household(
    client: Client, *, email: str, password: str, pin: str, timezone: str, names: Sequence[str]
) -> Household:
    """Register an account with one child profile per name and a parent device for this program."""
    registration = {"email": email, "password": password, "timezone": timezone}
    signed_in = await call(client, "register", "POST", "/auth/register", body=registration)
    token = signed_in["access_token"]
    # The current PIN covers the repetition of a call whose answer was lost.
    new_pin = {"new_pin": pin, "password": password, "current_pin": pin}
    await call(client, "set the PIN", "POST", "/parental-controls/pin", token=token, body=new_pin)
    device = {"name": "command line", "pin": pin}
    parent_token = (await call(client, "add a parent device", "POST", "/auth/devices", token=token, body=device))[
        "token"
    ]
    profiles = {}
    for name in names:
        profile = {"name": name, "is_kids": True}
        answer = await call(client, "add a profile", "POST", "/profiles", token=parent_token, body=profile)
        profiles[name] = answer["id"]
    return Household(
        email=email,
        password=password,
        pin=pin,
        account_id=signed_in["account_id"],
        parent_token=parent_token,
        profiles=profiles,
    )


class HouseholdSession:
    """A valid household token: `renewed` runs beside the players and refreshes it in time."""

    def __init__(self, client: Client, answer: Mapping[str, Any]) -> None:
        self._client = client
        self._take(answer)

    @classmethod
    async def of(cls, client: Client, household: Household) -> Self:
        login = {"email": household.email, "password": household.password}
        return cls(client, await call(client, "sign in", "POST", "/auth/login", body=login))

    def token(self) -> str:
        return self._token

    async def renewed(self) -> None:
        """Refresh the token for ever, with retries."""
        while True:
            await asyncio.sleep(self._expires_in * RENEW_AFTER)
            body = {"refresh_token": self._refresh_token}
            with contextlib.suppress(Unreachable):
                self._take(await call(self._client, "stay signed in", "POST", "/auth/refresh", body=body))

    def _take(self, answer: Mapping[str, Any]) -> None:
        self._token = str(answer["access_token"])
        self._refresh_token = str(answer["refresh_token"])
        self._expires_in = float(answer["expires_in"])


async def limit(client: Client, household: Household, profile_id: str, weekday: int, weekend: int) -> None:
    """Set a child's limits in minutes a day, whatever they were."""
    path = f"/parental-controls/profiles/{profile_id}/viewing-time"
    token = household.parent_token
    reply = await client.request("GET", API + path, token=token)
    reply.expect("read the settings")
    change = {"weekday_limit_minutes": weekday, "weekend_limit_minutes": weekend}
    match = {"if-match": reply.headers.get("etag", "")}
    await call(client, "change the settings", "PUT", path, token=token, body=change, headers=match)
