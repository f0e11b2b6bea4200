"""Players' calls beside the heartbeat itself."""

from typing import TYPE_CHECKING, Annotated

import msgspec
from fastapi import APIRouter, Header, Path, Query, Request, Response
from pydantic import AfterValidator

from app.auth.dependencies import Household, ParentRights, Service
from app.requests import API_PREFIX, as_json, read_body
from app.viewing.endpoint import decoded
from app.viewing.offline import OfflineSyncRequest
from app.viewing.service import ViewingService

if TYPE_CHECKING:
    from app.viewing.concurrency import Concurrency
    from app.viewing.events import EventStreams
    from app.viewing.offline import OfflineSync

router = APIRouter(prefix=f"{API_PREFIX}/viewing-time", tags=["viewing"])

_Id = Annotated[str, Path(min_length=36, max_length=36, pattern="^[0-9a-f-]+$")]
_decode_sync = msgspec.json.Decoder(OfflineSyncRequest).decode


def _printable(text: str | None) -> str | None:
    if text is not None and not text.isprintable():
        raise ValueError("must not hold control characters")
    return text


@router.get("/balance/{profile_id}", summary="The running day of a profile.")
async def balance(request: Request, caller: Household, profile_id: _Id) -> Response:
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
    concurrency: Concurrency = request.app.state.services.viewing.concurrency
    return as_json(await concurrency.streams(account_id))


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


@router.get("/events/{profile_id}", summary="What happens to a profile, as server-sent events.")
async def events(
    request: Request,
    caller: Household,
    profile_id: _Id,
    last_event_id: Annotated[str | None, Header(pattern=r"^\d{1,19}-\d{1,19}$")] = None,
) -> Response:
    streams: EventStreams = request.app.state.services.viewing.streams
    return await streams.open(caller, profile_id, last_event_id)


def _service(request: Request) -> ViewingService:
    service: ViewingService = request.app.state.services.viewing.service
    return service
