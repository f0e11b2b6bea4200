"""Send scenarios to a service over HTTP, as players and parents would."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from app.conformance.document import CHILD, Body, Child, Scenario, Step, VectorTitle, sibling
from app.conformance.matching import AnswerDifference, Matcher
from app.domain.markets import ENFORCE

_FIRST_ERROR = 400
_FOUND = 200


class Caller(Enum):
    """The token of a call."""

    PLAYER = "household token"
    PARENT = "parent device token"
    CATALOGUE = "service token"


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An answer. ``headers`` by lower-case name; ``body`` decoded."""

    status: int
    headers: Mapping[str, str]
    body: Any


class Service(Protocol):
    """The service under test, called as one household."""

    async def call(
        self,
        caller: Caller,
        method: str,
        path: str,
        *,
        body: Any | None = None,  # noqa: ANN401  JSON
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one call; ``path`` begins after the prefix of the API."""
        ...


class SetupFailed(Exception):
    """The service refused the setup of a scenario."""


@dataclass(frozen=True, kw_only=True)
class ReplayResult:
    """The result of a scenario. ``step`` is the number (from 1) of the first wrong step."""

    scenario: Scenario
    step: int | None = None
    differences: Sequence[AnswerDifference] = ()

    @property
    def is_good(self) -> bool:
        return self.step is None


async def fill_catalogue(service: Service, titles: Sequence[VectorTitle]) -> None:
    """Fill the catalogue. Raises SetupFailed."""
    body = [{"id": title.id, "name": title.name, "is_educational": title.is_educational} for title in titles]
    require("fill the catalogue", await service.call(Caller.CATALOGUE, "PUT", "/catalog/titles", body=body))


async def add_child(service: Service, child: Child, *, name: str, timezone: str) -> str:
    """Create a profile with the settings of a scenario's child; return its id. Raises SetupFailed."""
    profile = {"name": name, "is_kids": child.is_kids, "timezone": timezone}
    answer = await service.call(Caller.PARENT, "POST", "/profiles", body=profile)
    profile_id = str(require("add a profile", answer)["id"])
    if child.settings is not None:
        require("save settings", await _save(service, profile_id, child.settings))
    if child.enforcement != ENFORCE:
        account = require("read the account", await service.call(Caller.PARENT, "GET", "/account"))
        path, change = f"/accounts/{account['account_id']}/profiles/{profile_id}", {"enforcement": child.enforcement}
        require("set enforcement", await service.call(Caller.CATALOGUE, "PATCH", path, body=change))
    return profile_id


async def remove_child(service: Service, profile_id: str) -> None:
    """Erase a child of a scenario. Raises SetupFailed."""
    require("erase a profile", await service.call(Caller.PARENT, "DELETE", f"/profiles/{profile_id}"))


async def replay(
    scenario: Scenario,
    *,
    service: Service,
    profile_id: str,
    siblings: Sequence[str] = (),
    starts_ms: int,
    reach: Callable[[int], Awaitable[None]],
    tolerance_ms: int = 0,
) -> ReplayResult:
    """Send the steps of a scenario and compare the answers, up to the first wrong one.

    Args:
        scenario: steps with expected answers.
        service: the service under test.
        profile_id: a child with the settings of the scenario.
        siblings: the further children of the scenario.
        starts_ms: the start by the service's clock, ms since 1970.
        reach: waits until the given number of ms after the start.
        tolerance_ms: allowed deviation of measured times and instants.
    """
    names = {CHILD: profile_id} | {sibling(number): each for number, each in enumerate(siblings, start=2)}
    matcher = Matcher(starts_ms=starts_ms, names=names, tolerance_ms=tolerance_ms)
    for number, step in enumerate(scenario.steps, start=1):
        await reach(step.at_ms)
        answer = await _take(service, step, matcher)
        differences = matcher.differences(step.expect, status=answer.status, body=answer.body)
        if differences:
            return ReplayResult(scenario=scenario, step=number, differences=differences)
    return ReplayResult(scenario=scenario)


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
            path = f"/viewing-time/balance/{send.get('profile_id', profile_id)}"
            return await service.call(Caller.PLAYER, "GET", path)
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
    """The body of a successful answer. Raises SetupFailed."""
    if answer.status >= _FIRST_ERROR:
        code = answer.body.get("code", "") if isinstance(answer.body, Mapping) else ""
        raise SetupFailed(f"cannot {what}: {answer.status} {code}".rstrip())
    return answer.body
