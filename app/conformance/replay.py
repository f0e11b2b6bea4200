"""Sends scenarios to a service over HTTP, as players and parents would."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from app.conformance.document import CHILD, Body, Child, Scenario, Step, Title
from app.conformance.matching import Difference, Matcher

_FIRST_ERROR = 400
_FOUND = 200


class Caller(Enum):
    """Whose token a call bears."""

    PLAYER = "household token"
    PARENT = "parent device token"
    CATALOGUE = "service token"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """``headers`` by lower-case name; ``body`` decoded."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Service(Protocol):
    """The service under test, speaking for one household."""

    async def call(
        self,
        caller: Caller,
        method: str,
        path: str,
        *,
        body: Any | None = None,  # noqa: ANN401  JSON
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One call; ``path`` begins after the prefix of the API."""
        ...


class SetupFailed(Exception):
    """The service refused what comes before a scenario."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How the replay of a scenario went. ``step`` is the number (from 1) of the first that was answered wrongly."""

    scenario: Scenario
    step: int | None = None
    differences: Sequence[Difference] = ()

    @property
    def is_good(self) -> bool:
        return self.step is None


async def fill_catalogue(service: Service, titles: Sequence[Title]) -> None:
    """Raises SetupFailed."""
    body = [{"id": title.id, "name": title.name, "is_educational": title.is_educational} for title in titles]
    require("fill the catalogue", await service.call(Caller.CATALOGUE, "PUT", "/catalog/titles", body=body))


async def add_child(service: Service, child: Child, *, name: str, timezone: str) -> str:
    """The id of a new profile with the settings of a scenario's child. Raises SetupFailed."""
    profile = {"name": name, "is_kids": child.is_kids, "timezone": timezone}
    answer = await service.call(Caller.PARENT, "POST", "/profiles", body=profile)
    profile_id = str(require("add a profile", answer)["id"])
    if child.settings is not None:
        require("save settings", await _save(service, profile_id, child.settings))
    return profile_id


async def remove_child(service: Service, profile_id: str) -> None:
    """Raises SetupFailed."""
    require("erase a profile", await service.call(Caller.PARENT, "DELETE", f"/profiles/{profile_id}"))


async def replay(
    scenario: Scenario,
    *,
    service: Service,
    profile_id: str,
    starts_ms: int,
    reach: Callable[[int], Awaitable[None]],
    tolerance_ms: int = 0,
) -> Verdict:
    """Send the steps of a scenario and judge the answers, up to the first wrong one.

    Args:
        scenario: with the answers expected.
        service: where its calls go.
        profile_id: its child, with the settings it asks for.
        starts_ms: the instant at which it starts, by the service's clock.
        reach: brings about the instant so many ms after the start.
        tolerance_ms: by how much measured time and instants may be off.
    """
    matcher = Matcher(starts_ms=starts_ms, names={CHILD: profile_id}, tolerance_ms=tolerance_ms)
    for number, step in enumerate(scenario.steps, start=1):
        await reach(step.at_ms)
        answer = await _take(service, step, matcher)
        differences = matcher.differences(step.expect, status=answer.status, body=answer.body)
        if differences:
            return Verdict(scenario=scenario, step=number, differences=differences)
    return Verdict(scenario=scenario)


async def _take(service: Service, step: Step, matcher: Matcher) -> Answer:
    send: Body = matcher.filled(step.send)
    profile_id = matcher.names[CHILD]
    controls = f"/parental-controls/profiles/{profile_id}"
    match step.call:
        case "beat":
            return await service.call(Caller.PLAYER, "POST", "/viewing-time/heartbeat", body=send)
        case "sync":
            return await service.call(Caller.PLAYER, "POST", "/viewing-time/offline-sync", body=send)
        case "end":
            path = f"/viewing-time/session/{send.pop('session_id')}/end"
            return await service.call(Caller.PLAYER, "POST", path, body=send)
        case "balance":
            return await service.call(Caller.PLAYER, "GET", f"/viewing-time/balance/{profile_id}")
        case "eligible":
            path = f"/viewing-time/playback-eligible/{profile_id}?title_id={send['title_id']}"
            return await service.call(Caller.PLAYER, "GET", path)
        case "settings":
            return await _save(service, profile_id, send)
        case "grant":
            return await service.call(Caller.PARENT, "POST", f"{controls}/viewing-time/grant", body=send)
        case "revoke":
            return await service.call(Caller.PARENT, "DELETE", f"{controls}/grants/{send['grant_id']}")


async def _save(service: Service, profile_id: str, settings: Body) -> Answer:
    """Read the settings for their version, then change them."""
    path = f"/parental-controls/profiles/{profile_id}/viewing-time"
    before = await service.call(Caller.PARENT, "GET", path)
    if before.status != _FOUND:
        return before
    match = {"if-match": before.headers.get("etag", "")}
    return await service.call(Caller.PARENT, "PUT", path, body=settings, headers=match)


def require(what: str, answer: Answer) -> Any:  # noqa: ANN401  JSON
    """The body of a good answer. Raises SetupFailed."""
    if answer.status >= _FIRST_ERROR:
        code = answer.body.get("code", "") if isinstance(answer.body, Mapping) else ""
        raise SetupFailed(f"cannot {what}: {answer.status} {code}".rstrip())
    return answer.body
