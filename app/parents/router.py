"""The parental-control calls."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status

from app.auth.dependencies import Household, ParentRights, prove_parent
from app.auth.tokens import Principal, Role
from app.domain.idempotency import LONGEST_KEY
from app.parents import Parents
from app.parents.grants import Actor
from app.parents.preconditions import Precondition, etag_of
from app.parents.schemas import (
    GrantAnswer,
    GrantEntryAnswer,
    GrantLedger,
    NewGrant,
    NewRequest,
    PreviewAnswer,
    RequestAnswer,
    RequestList,
    ViewingTime,
    ViewingTimeChange,
)
from app.requests import API_PREFIX

router = APIRouter(prefix=f"{API_PREFIX}/parental-controls", tags=["parental controls"])


async def _parents(request: Request) -> Parents:
    parents: Parents = request.app.state.services.parents
    return parents


def _actor(caller: Principal) -> Actor:
    return Actor(caller.account_id, caller.actor)


def _proven(caller: Principal, parent: Principal) -> Actor:
    """A parent whose token says so acts from afar; one who proved it with the PIN stands before the player."""
    return Actor(parent.account_id, parent.actor, is_remote=caller.role is Role.PARENT)


async def _acting(caller: Household, parent: ParentRights) -> Actor:
    return _proven(caller, parent)


Controls = Annotated[Parents, Depends(_parents)]
ActingParent = Annotated[Actor, Depends(_acting)]
PinToken = Annotated[str | None, Header(alias="X-PIN-Token", description="from /parental-controls/pin/verify")]
Most = Annotated[int, Query(ge=1, le=1000)]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=LONGEST_KEY, pattern=r"^[\x21-\x7e]+$", description="makes a repeat harmless"),
]


@router.get("/profiles/{profile_id}/viewing-time")
async def read_viewing_time(
    profile_id: str, parent: ParentRights, controls: Controls, response: Response
) -> ViewingTime:
    """The limits of a child; its version is the ETag."""
    config = await controls.settings.read(account_id=parent.account_id, profile_id=profile_id)
    response.headers["ETag"] = etag_of(config.version)
    return ViewingTime.of(profile_id, config, at_ms=controls.clock())


@router.put("/profiles/{profile_id}/viewing-time")
async def save_viewing_time(  # noqa: PLR0917  FastAPI passes these by name
    profile_id: str,
    body: ViewingTimeChange,
    parent: ParentRights,
    controls: Controls,
    response: Response,
    if_match: Annotated[list[str], Header(default_factory=list)],
) -> ViewingTime:
    """Change the limits of a child, in force everywhere within a second. An empty change confirms what is there.

    If-Match names the version to be replaced, as the ETag of the last answer.
    """
    at_ms = controls.clock()
    config = await controls.settings.save(
        account_id=parent.account_id,
        profile_id=profile_id,
        actor=parent.actor,
        change=body.change(),
        precondition=Precondition(if_match),
        at_ms=at_ms,
    )
    response.headers["ETag"] = etag_of(config.version)
    return ViewingTime.of(profile_id, config, at_ms=at_ms)


@router.post("/profiles/{profile_id}/viewing-time/preview")
async def preview_viewing_time(
    profile_id: str, body: ViewingTimeChange, parent: ParentRights, controls: Controls
) -> PreviewAnswer:
    """Which of the last 28 viewing days a change would have blocked, and when. Nothing is saved.

    Days are judged as they began and ended then, and by the limit alone, without extra time.
    """
    preview = await controls.settings.preview(
        account_id=parent.account_id, profile_id=profile_id, change=body.change(), at_ms=controls.clock()
    )
    return PreviewAnswer.of(preview)


@router.post("/profiles/{profile_id}/viewing-time/grant", status_code=status.HTTP_201_CREATED)
async def give_time(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    profile_id: str,
    body: NewGrant,
    caller: Household,
    controls: Controls,
    idempotency_key: IdempotencyKey = None,
    pin_token: PinToken = None,
) -> GrantAnswer:
    """Give extra time on the running day. A repeat with the same Idempotency-Key gets the first answer for 24 h."""
    parent = await prove_parent(request, caller, pin_token=body.pin_token or pin_token, pin=body.pin)
    given = await controls.grants.give(
        _proven(caller, parent), profile_id, minutes=body.minutes, key=idempotency_key, at_ms=controls.clock()
    )
    return GrantAnswer.of(given)


@router.get("/profiles/{profile_id}/grants")
async def grants(
    profile_id: str, parent: ParentRights, controls: Controls, day: date | None = None, limit: Most = 100
) -> GrantLedger:
    """The ledger of extra time, newest first."""
    entries = await controls.grants.entries(account_id=parent.account_id, profile_id=profile_id, day=day, most=limit)
    return GrantLedger(grants=[GrantEntryAnswer.of(entry) for entry in entries])


@router.delete("/profiles/{profile_id}/grants/{grant_id}")
async def revoke_grant(profile_id: str, grant_id: str, parent: ActingParent, controls: Controls) -> GrantAnswer:
    """Take extra time back; what was watched stays counted. The entry stays in the ledger."""
    return GrantAnswer.of(await controls.grants.revoke(parent, profile_id, grant_id, at_ms=controls.clock()))


@router.post("/profiles/{profile_id}/requests", status_code=status.HTTP_201_CREATED)
async def ask_for_time(profile_id: str, body: NewRequest, caller: Household, controls: Controls) -> RequestAnswer:
    """Ask the parents for extra time today, five times a day at most."""
    at_ms = controls.clock()
    request = await controls.requests.ask(_actor(caller), profile_id, minutes=body.minutes, note=body.note, at_ms=at_ms)
    return RequestAnswer.of(request, at_ms=at_ms)


@router.get("/profiles/{profile_id}/requests")
async def requests(profile_id: str, caller: Household, controls: Controls, limit: Most = 100) -> RequestList:
    """What was asked for and how it was answered, newest first."""
    at_ms = controls.clock()
    entries = await controls.requests.entries(account_id=caller.account_id, profile_id=profile_id, most=limit)
    return RequestList(requests=[RequestAnswer.of(request, at_ms=at_ms) for request in entries])


@router.post("/profiles/{profile_id}/requests/{request_id}/approve")
async def approve_request(profile_id: str, request_id: str, parent: ActingParent, controls: Controls) -> RequestAnswer:
    """Give what was asked for; the request then names the grant. Approving it again gives nothing more."""
    at_ms = controls.clock()
    request = await controls.requests.approve(parent, profile_id, request_id, at_ms=at_ms)
    return RequestAnswer.of(request, at_ms=at_ms)


@router.post("/profiles/{profile_id}/requests/{request_id}/deny")
async def deny_request(profile_id: str, request_id: str, parent: ActingParent, controls: Controls) -> RequestAnswer:
    """Give nothing."""
    at_ms = controls.clock()
    request = await controls.requests.deny(parent, profile_id, request_id, at_ms=at_ms)
    return RequestAnswer.of(request, at_ms=at_ms)
