"""Players' calls beside the heartbeat itself."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response
from fastapi.security.base import SecurityBase
from pydantic import AfterValidator

from app.auth.dependencies import FamilyMember, Household, ParentRights, Service, household
from app.auth.external_ids import ExternalIds, ProfileRoute
from app.auth.tokens import Access, TokenCache
from app.domain.external_ids import MAX_EXTERNAL_ID
from app.errors import Unauthenticated
from app.http.requests import API_PREFIX, as_json, read_body
from app.viewing.endpoint import decoded
from app.viewing.offline import OfflineSyncRequest
from app.viewing.schemas import TicketAnswer, TicketRequest
from app.viewing.service import ViewingService
from app.viewing.tickets import MAX_TICKET, TICKET_SECONDS, Tickets

if TYPE_CHECKING:
    from app.viewing.active_sessions import ActiveSessions
    from app.viewing.events import EventStreams
    from app.viewing.offline import OfflineSync

router = APIRouter(prefix=f"{API_PREFIX}/viewing-time", tags=["viewing"], route_class=ProfileRoute)

_Id = Annotated[str, Path(min_length=1, max_length=MAX_EXTERNAL_ID, description="ours, or the platform's")]
_EVENT_ID = r"^\d{1,19}-\d{1,19}$"
_decode_ticket_request = msgspec.json.Decoder(TicketRequest).decode
_decode_sync = msgspec.json.Decoder(OfflineSyncRequest).decode


def _printable(text: str | None) -> str | None:
    if text is not None and not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


@router.get("/balance/{profile_id}", summary="The running day of a profile.")
async def balance(request: Request, caller: FamilyMember, profile_id: _Id) -> Response:
    return as_json(await _service(request).balance(caller, profile_id))


@router.get("/why/{profile_id}", summary="The decision on the running day, spelled out; for parents and support.")
async def why(request: Request, caller: ParentRights, profile_id: _Id) -> Response:
    return as_json(await _service(request).why(caller, profile_id))


@router.get("/playback-eligible/{profile_id}", summary="Whether a title may be started now.")
async def playback_eligible(
    request: Request,
    caller: Household,
    profile_id: _Id,
    title_id: Annotated[str | None, Query(min_length=1, max_length=64), AfterValidator(_printable)] = None,
) -> Response:
    return as_json(await _service(request).eligibility(caller, profile_id, title_id))


@router.get("/streams/{account_id}", summary="What an account plays, for the platform's services.")
async def streams(request: Request, _: Service, account_id: _Id) -> Response:
    """Every session that has neither ended nor been silent for five minutes; nothing for an account that is not there.

    Adults are part of it only where `adults_tracked` says so.
    """
    active_sessions: ActiveSessions = request.app.state.services.viewing.active_sessions
    ids: ExternalIds = request.app.state.services.external_ids
    return as_json(await active_sessions.streams(await ids.account(account_id) or account_id))


@router.post("/offline-sync", summary="Credit what a device played without a connection; once per batch.")
async def offline_sync(request: Request, caller: Household) -> Response:
    sync: OfflineSync = request.app.state.services.viewing.offline
    settings = request.app.state.services.settings
    body = await read_body(
        request.receive,
        limit_bytes=settings.bulk_body_limit_bytes,  # 500 intervals are more than the ordinary limit
        timeout_seconds=settings.body_timeout_seconds,
    )
    return as_json(await sync.sync(caller, decoded(_decode_sync, body)))


@router.post("/events-ticket", summary="A ticket that opens one event stream, for clients that can send no header.")
async def events_ticket(request: Request, caller: Household) -> Response:
    """For a browser's own `EventSource`: `/viewing-time/events/{profile_id}?ticket=…`, once, within 60 seconds.

    The stream ends with the token that bought its ticket.
    """
    tickets: Tickets = request.app.state.services.viewing.tickets
    profile_id = decoded(_decode_ticket_request, await request.body()).profile_id
    return as_json(TicketAnswer(await tickets.issue(caller, profile_id), TICKET_SECONDS))


class _StreamAccess(SecurityBase):
    """Access to events: by bearer token, or by a ticket in the address."""

    def __init__(self) -> None:
        self.model = household.model
        self.scheme_name = household.scheme_name

    async def __call__(self, request: Request) -> Access:
        """Raises Unauthenticated, TooManyRequests, Forbidden, ProfileAccessDenied, CountersUnavailable."""
        tokens: TokenCache = request.app.state.services.token_cache
        ticket = request.query_params.get("ticket")
        if ticket is None or "authorization" in request.headers:
            caller = await household(request)
            return tokens.access(caller, request.headers["authorization"].encode("latin-1"))
        tickets: Tickets = request.app.state.services.viewing.tickets
        principal, profile_id = await tickets.redeem(ticket, request.path_params["profile_id"])
        request.path_params["profile_id"] = profile_id
        access = tokens.access(principal)
        if not tokens.remaining_ms(access):
            raise Unauthenticated
        return access


@router.get("/events/{profile_id}", summary="What happens to a profile, as server-sent events.")
async def events(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    access: Annotated[Access, Depends(_StreamAccess())],
    profile_id: _Id,
    last_event_id: Annotated[str | None, Header(pattern=_EVENT_ID)] = None,
    last_event_id_in_query: Annotated[
        str | None,
        Query(alias="last_event_id", pattern=_EVENT_ID, description="stands for the header, for a new `EventSource`"),
    ] = None,
    ticket: Annotated[  # noqa: ARG001  the dependency has redeemed it
        str | None, Query(max_length=MAX_TICKET, description="from /viewing-time/events-ticket, instead of a token")
    ] = None,
) -> Response:
    """Stream the events of a profile until the client leaves.

    `viewing_time_updated` and `day_reset` carry the balance. `session_superseded` says which kind of device took over.
    `request_answered` says how parents answered a request for extra time: `request_id`, `status` (`approved` or
    `denied`), `minutes`, and `grant_id`, null when it was denied. The stream ends within a second when the token that
    opened it expires or is revoked.
    """
    streams: EventStreams = request.app.state.services.viewing.streams
    return await streams.open(access, profile_id, last_event_id or last_event_id_in_query)


def _service(request: Request) -> ViewingService:
    service: ViewingService = request.app.state.services.viewing.service
    return service
