"""The parental-control calls."""

from datetime import date
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query, Request, Response, status

from app.auth.dependencies import (
    Caregiver,
    FamilyMember,
    GiverRights,
    Household,
    ParentRights,
    prove_giver,
    prove_parent,
)
from app.auth.external_ids import ProfileRoute
from app.auth.tokens import Principal, Role
from app.domain.grants import ExtraTimeRequest, RequestStatus
from app.domain.idempotency import MAX_KEY
from app.domain.pages import CURSOR, PageEnd, cut_page, page_end
from app.http.requests import API_PREFIX
from app.parents import Parents
from app.parents.grants import Actor
from app.parents.preconditions import Precondition, etag_of, is_not_modified
from app.parents.schemas import (
    CaregiverAnswer,
    GrantAnswer,
    GrantEntryAnswer,
    GrantLedger,
    HouseholdPauseAnswer,
    HouseholdRequest,
    HouseholdRequestList,
    NewGrant,
    NewPause,
    NewRequest,
    PauseAnswer,
    PreviewAnswer,
    RequestAnswer,
    RequestList,
    ViewingTime,
    ViewingTimeChange,
)
from app.timestamps import utc

router = APIRouter(prefix=f"{API_PREFIX}/parental-controls", tags=["parental controls"], route_class=ProfileRoute)


async def _parents(request: Request) -> Parents:
    parents: Parents = request.app.state.services.parents
    return parents


def _actor(caller: Principal) -> Actor:
    return Actor(caller.account_id, caller.actor)


def _proven(caller: Principal, parent: Principal) -> Actor:
    """One whose token says so acts from afar; a parent who proved it with the PIN stands before the player."""
    return Actor(
        parent.account_id,
        parent.actor,
        is_remote=caller.role is not Role.HOUSEHOLD,
        caregiver_id=parent.device_id if parent.role is Role.CAREGIVER else None,
    )


def _after(request: ExtraTimeRequest) -> str:
    """The cursor of the page after a request."""
    return PageEnd(request.requested_ms, request.request_id).cursor


def _etag(answer: ViewingTime) -> str:
    return etag_of(answer.version, is_pending=answer.pending_change is not None)


async def _acting(caller: Household, parent: ParentRights) -> Actor:
    return _proven(caller, parent)


async def _giving(caller: FamilyMember, giver: GiverRights) -> Actor:
    return _proven(caller, giver)


Controls = Annotated[Parents, Depends(_parents)]
ActingParent = Annotated[Actor, Depends(_acting)]
Giver = Annotated[Actor, Depends(_giving)]
PinToken = Annotated[str | None, Header(alias="X-PIN-Token", description="from /parental-controls/pin/verify")]
Most = Annotated[int, Query(ge=1, le=1000)]
PageCursor = Annotated[str | None, Query(pattern=CURSOR, description="`next_cursor` of the page before")]
IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=MAX_KEY, pattern=r"^[\x21-\x7e]+$", description="makes a repeat harmless"),
]


@router.get(
    "/profiles/{profile_id}/viewing-time",
    response_model=ViewingTime,
    responses={304: {"description": "The client has this version already."}},
)
async def read_viewing_time(
    profile_id: str,
    parent: ParentRights,
    controls: Controls,
    response: Response,
    if_none_match: Annotated[list[str], Header(default_factory=list)],
) -> ViewingTime | Response:
    """The limits of a child; its version is the ETag."""
    config, market = await controls.settings.read(account_id=parent.account_id, profile_id=profile_id)
    answer = ViewingTime.of(profile_id, config, market=market, at_ms=controls.clock())
    etag = _etag(answer)
    if is_not_modified(if_none_match, etag):
        return Response(status_code=status.HTTP_304_NOT_MODIFIED, headers={"ETag": etag})
    response.headers["ETag"] = etag
    return answer


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
    market = await controls.settings.market_of(parent.account_id)
    answer = ViewingTime.of(profile_id, config, market=market, at_ms=at_ms)
    response.headers["ETag"] = _etag(answer)
    return answer


@router.post("/profiles/{profile_id}/viewing-time/preview")
async def preview_viewing_time(
    profile_id: str, body: ViewingTimeChange, parent: ParentRights, controls: Controls
) -> PreviewAnswer:
    """Which of the last 28 viewing days a change would have blocked, and when. Nothing is saved.

    Days are judged as they began and ended then, with their grants, their pauses and their offline playback. Whether
    educational titles count is for the change to say. Penalties are left out: nobody watched them.
    """
    preview = await controls.settings.preview(
        account_id=parent.account_id, profile_id=profile_id, change=body.change(), at_ms=controls.clock()
    )
    return PreviewAnswer.of(preview)


@router.post("/profiles/{profile_id}/viewing-time/grant", status_code=status.HTTP_201_CREATED)
async def give_time(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    response: Response,
    profile_id: str,
    body: NewGrant,
    caller: FamilyMember,
    controls: Controls,
    idempotency_key: IdempotencyKey = None,
    pin_token: PinToken = None,
) -> GrantAnswer:
    """Give extra time on the running day. A repeat with the same Idempotency-Key gets the first answer for 24 h.

    A caregiver may give what its budget has left today.
    """
    giver = await prove_giver(request, caller, pin_token=body.pin_token or pin_token, pin=body.pin)
    at_ms = controls.clock()
    given = await controls.grants.give(
        _proven(caller, giver), profile_id, minutes=body.minutes, key=idempotency_key, at_ms=at_ms
    )
    response.headers["Location"] = f"{router.prefix}/profiles/{profile_id}/grants/{given.grant_id}"
    return GrantAnswer.of(given, at_ms=at_ms)


@router.post("/profiles/{profile_id}/viewing-time/pause")
async def pause(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    profile_id: str,
    body: NewPause,
    caller: Household,
    controls: Controls,
    idempotency_key: IdempotencyKey = None,
    pin_token: PinToken = None,
) -> PauseAnswer:
    """Stop a child's playback for minutes from now on, or until the day ends. A new pause replaces the one before.

    Nothing plays meanwhile: no learning title, and neither a day without limit nor extra time lets it. Extra time given
    meanwhile counts after it.
    """
    parent = await prove_parent(request, caller, pin_token=body.pin_token or pin_token, pin=body.pin)
    at_ms = controls.clock()
    [pause] = await controls.pauses.begin(
        _proven(caller, parent), profile_id, minutes=body.minutes, key=idempotency_key, at_ms=at_ms
    )
    return PauseAnswer.of(pause, at_ms=at_ms)


@router.delete("/profiles/{profile_id}/viewing-time/pause")
async def lift_pause(profile_id: str, parent: ActingParent, controls: Controls) -> PauseAnswer:
    """Let a child watch again by its other limits. A child that is not paused stays as it is."""
    at_ms = controls.clock()
    [pause] = await controls.pauses.lift(parent, profile_id, at_ms=at_ms)
    return PauseAnswer.of(pause, at_ms=at_ms)


@router.post("/viewing-time/pause")
async def pause_all(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    body: NewPause,
    caller: Household,
    controls: Controls,
    idempotency_key: IdempotencyKey = None,
    pin_token: PinToken = None,
) -> HouseholdPauseAnswer:
    """Stop the playback of every child of the account at once. Each child's own day ends a pause without minutes."""
    parent = await prove_parent(request, caller, pin_token=body.pin_token or pin_token, pin=body.pin)
    at_ms = controls.clock()
    pauses = await controls.pauses.begin(
        _proven(caller, parent), None, minutes=body.minutes, key=idempotency_key, at_ms=at_ms
    )
    return HouseholdPauseAnswer.of(pauses, at_ms=at_ms)


@router.delete("/viewing-time/pause")
async def lift_all_pauses(parent: ActingParent, controls: Controls) -> HouseholdPauseAnswer:
    """Let every child of the account watch again by its other limits."""
    at_ms = controls.clock()
    return HouseholdPauseAnswer.of(await controls.pauses.lift(parent, None, at_ms=at_ms), at_ms=at_ms)


@router.get("/profiles/{profile_id}/grants")
async def grants(  # noqa: PLR0917  FastAPI passes these by name
    profile_id: str,
    parent: ParentRights,
    controls: Controls,
    day: date | None = None,
    cursor: PageCursor = None,
    limit: Most = 100,
) -> GrantLedger:
    """The ledger of extra time, newest first. ``next_cursor`` of one page is the ``cursor`` of the next."""
    found = await controls.grants.entries(
        account_id=parent.account_id, profile_id=profile_id, day=day, before=page_end(cursor), most=limit + 1
    )
    entries, end = cut_page(found, limit, lambda entry: PageEnd(entry.granted_ms, entry.grant_id).cursor)
    return GrantLedger(
        grants=[GrantEntryAnswer.of(entry) for entry in entries], next_cursor=end, server_time=utc(controls.clock())
    )


@router.delete("/profiles/{profile_id}/grants/{grant_id}")
async def revoke_grant(profile_id: str, grant_id: str, parent: ActingParent, controls: Controls) -> GrantAnswer:
    """Take extra time back; what was watched stays counted. The entry stays in the ledger."""
    at_ms = controls.clock()
    return GrantAnswer.of(await controls.grants.revoke(parent, profile_id, grant_id, at_ms=at_ms), at_ms=at_ms)


@router.get("/caregiver")
async def caregiver(caller: Caregiver, controls: Controls) -> CaregiverAnswer:
    """What a caregiver may see beside balances: its budget, the children, and what they ask for."""
    at_ms = controls.clock()
    view = await controls.caregivers.view(caller.account_id, caller.device_id or "", at_ms=at_ms)
    return CaregiverAnswer.of(view, at_ms=at_ms)


@router.post("/profiles/{profile_id}/requests", status_code=status.HTTP_201_CREATED)
async def ask_for_time(  # noqa: PLR0917  FastAPI passes these by name
    profile_id: str,
    body: NewRequest,
    caller: Household,
    controls: Controls,
    response: Response,
    idempotency_key: IdempotencyKey = None,
) -> RequestAnswer:
    """Ask the parents for extra time today, five times a day at most.

    A repeat with the same Idempotency-Key gets the first answer for 24 h. An equal request within a minute is the first
    one as long as that is open. The answer comes on the child's event stream as `request_answered`.
    """
    at_ms = controls.clock()
    request = await controls.requests.ask(
        _actor(caller), profile_id, minutes=body.minutes, note=body.note, key=idempotency_key, at_ms=at_ms
    )
    response.headers["Location"] = f"{router.prefix}/profiles/{profile_id}/requests/{request.request_id}"
    return RequestAnswer.of(request, at_ms=at_ms)


@router.get("/profiles/{profile_id}/requests")
async def requests(
    profile_id: str, caller: Household, controls: Controls, cursor: PageCursor = None, limit: Most = 100
) -> RequestList:
    """What was asked for and how it was answered, newest first.

    ``next_cursor`` of one page is the ``cursor`` of the next.
    """
    at_ms = controls.clock()
    found = await controls.requests.entries(
        account_id=caller.account_id, profile_id=profile_id, before=page_end(cursor), most=limit + 1
    )
    entries, end = cut_page(found, limit, _after)
    return RequestList(
        requests=[RequestAnswer.of(request, at_ms=at_ms) for request in entries],
        next_cursor=end,
        server_time=utc(at_ms),
    )


@router.get("/requests")
async def household_requests(
    parent: ParentRights,
    controls: Controls,
    status: RequestStatus | None = None,
    cursor: PageCursor = None,
    limit: Most = 100,
) -> HouseholdRequestList:
    """What the children of the account asked for, newest first; with ``status=open`` what waits for an answer.

    ``next_cursor`` of one page is the ``cursor`` of the next.
    """
    at_ms = controls.clock()
    found = await controls.requests.of_account(
        parent.account_id, status=status, before=page_end(cursor), most=limit + 1, at_ms=at_ms
    )
    entries, end = cut_page(found, limit, lambda entry: _after(entry[1]))
    return HouseholdRequestList(
        requests=[HouseholdRequest.by(profile_id, request, at_ms=at_ms) for profile_id, request in entries],
        next_cursor=end,
        server_time=utc(at_ms),
    )


@router.post("/profiles/{profile_id}/requests/{request_id}/approve")
async def approve_request(profile_id: str, request_id: str, giver: Giver, controls: Controls) -> RequestAnswer:
    """Give what was asked for; the request then names the grant. Approving it again gives nothing more.

    A caregiver may approve what its budget has left today.
    """
    at_ms = controls.clock()
    request = await controls.requests.approve(giver, profile_id, request_id, at_ms=at_ms)
    return RequestAnswer.of(request, at_ms=at_ms)


@router.post("/profiles/{profile_id}/requests/{request_id}/deny")
async def deny_request(profile_id: str, request_id: str, parent: ActingParent, controls: Controls) -> RequestAnswer:
    """Give nothing."""
    at_ms = controls.clock()
    request = await controls.requests.deny(parent, profile_id, request_id, at_ms=at_ms)
    return RequestAnswer.of(request, at_ms=at_ms)
