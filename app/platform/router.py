"""The calls under ``/platform``, for the platform's own services."""

from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
from fastapi import APIRouter, Depends, Path, Query, Request, Response, status
from pydantic import AfterValidator

from app.auth.dependencies import Service, Support
from app.auth.external_ids import ExternalRoute
from app.domain.external_ids import MAX_EXTERNAL_ID, canonical
from app.domain.markets import MAX_MARKET_NAME
from app.domain.platform import AccountFacts, Change
from app.http.requests import API_PREFIX, NDJSON, read_bulk
from app.platform.schemas import (
    MAX_BULK,
    AccountChange,
    AccountWithProfiles,
    EnforcementChange,
    MarketChange,
    PlatformAccountAnswer,
    PlatformProfile,
    PlatformReceipt,
    ProfileFacts,
    ShadowDayAnswer,
    ShadowPage,
    done,
    facts_of,
    lines_of,
    printable,
    refused,
)
from app.platform.service import Platform
from app.timestamps import utc

if TYPE_CHECKING:
    from app.platform.shadow_report import ShadowReport


router = APIRouter(prefix=f"{API_PREFIX}/platform", tags=["platform"], route_class=ExternalRoute)

accounts_router = APIRouter(prefix=f"{API_PREFIX}/accounts", tags=["platform"], route_class=ExternalRoute)

ExternalId = Annotated[
    str,
    Path(min_length=1, max_length=MAX_EXTERNAL_ID, description="the platform's id"),
    AfterValidator(printable),
]
_LINE = {
    "type": "object",
    "required": ["external_id", "timezone"],
    "properties": {
        "external_id": {"type": "string", "minLength": 1, "maxLength": MAX_EXTERNAL_ID},
        "timezone": {"type": "string"},
        "market": {"type": ["string", "null"], "maxLength": MAX_MARKET_NAME},
    },
}
_LINE_ANSWER = {
    "type": "object",
    "required": ["status"],
    "properties": {
        "status": {"enum": ["created", "updated", "unchanged", "refused"]},
        "account_id": {"type": "string"},
        "problem": {"type": "object", "description": "why a line was refused"},
    },
}
_BULK: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {"schema": {"type": "array", "maxItems": MAX_BULK, "items": _LINE}},
            NDJSON: {"schema": {"type": "string", "description": "an account a line"}},
        },
    }
}
_BULK_ANSWER: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            "application/json": {"schema": {"type": "array", "items": _LINE_ANSWER}},
            NDJSON: {"schema": {"type": "string", "description": "an answer a line, in order"}},
        }
    }
}


async def _platform(request: Request) -> Platform:
    platform: Platform = request.app.state.services.platform
    return platform


Day = Annotated[date | None, Query(ge=date(2000, 1, 1), le=date(2199, 12, 31))]
Accounts = Annotated[Platform, Depends(_platform)]


@router.put("/accounts", openapi_extra=_BULK, responses=_BULK_ANSWER, response_class=Response)
async def put_platform_accounts(request: Request, caller: Service, platform: Accounts) -> Response:
    """Make accounts or change them, 10,000 at most; each is answered for itself, in order. Repeating it does no harm.

    NDJSON is answered by NDJSON, a JSON list by a list.
    """
    media_type, body = await read_bulk(request)
    told = facts_of(lines_of(body, is_ndjson=media_type == NDJSON))
    facts = [one for one in told if isinstance(one, AccountFacts)]
    results = iter(await platform.put_accounts(facts, actor=caller.actor))
    answers = [done(next(results)) if isinstance(one, AccountFacts) else refused(one) for one in told]
    if media_type == NDJSON:
        return Response(b"".join(msgspec.json.encode(answer) + b"\n" for answer in answers), media_type=NDJSON)
    return Response(msgspec.json.encode(answers), media_type=media_type)


@router.put(
    "/accounts/{external_id}", responses={201: {"model": PlatformAccountAnswer, "description": "The account is new."}}
)
async def put_platform_account(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    external_id: ExternalId,
    body: AccountChange,
    caller: Service,
    platform: Accounts,
    response: Response,
) -> PlatformAccountAnswer:
    """Make an account, or change it. Repeating the call does no harm."""
    facts = AccountFacts(external_id=canonical(external_id), timezone=body.timezone, market=body.market)
    account, change = await platform.put_account(facts, actor=caller.actor)
    _say_created(request, response, change)
    return PlatformAccountAnswer.of(account)


@router.get("/accounts/{external_id}")
async def get_platform_account(external_id: ExternalId, _: Service, platform: Accounts) -> AccountWithProfiles:
    """An account with its profiles."""
    return AccountWithProfiles.with_profiles(*await platform.account(external_id))


@router.delete("/accounts/{external_id}")
async def erase_platform_account(external_id: ExternalId, _: Service, platform: Accounts) -> PlatformReceipt:
    """Erase an account with all its profiles. This cannot be undone; made again, it is another one with the same id."""
    return PlatformReceipt.of(await platform.erase_account(external_id))


@router.put(
    "/accounts/{external_id}/profiles/{external_profile_id}",
    responses={201: {"model": PlatformProfile, "description": "The profile is new."}},
)
async def put_platform_profile(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    external_id: ExternalId,
    external_profile_id: ExternalId,
    body: ProfileFacts,
    caller: Service,
    platform: Accounts,
    response: Response,
) -> PlatformProfile:
    """Make a profile, or change it. A child has limits from the first moment. Repeating the call does no harm."""
    profile, change = await platform.put_profile(
        external_id,
        external_profile_id,
        name=body.name,
        is_kids=body.is_kids,
        timezone=body.timezone,
        actor=caller.actor,
    )
    _say_created(request, response, change)
    return PlatformProfile.of(profile)


@router.get("/accounts/{external_id}/profiles/{external_profile_id}")
async def get_platform_profile(
    external_id: ExternalId, external_profile_id: ExternalId, _: Service, platform: Accounts
) -> PlatformProfile:
    """A profile of an account."""
    return PlatformProfile.of(await platform.profile(external_id, external_profile_id))


@router.delete("/accounts/{external_id}/profiles/{external_profile_id}")
async def erase_platform_profile(
    external_id: ExternalId, external_profile_id: ExternalId, caller: Service, platform: Accounts
) -> PlatformReceipt:
    """Erase a profile with everything that was counted for it. This cannot be undone."""
    return PlatformReceipt.of(await platform.erase_profile(external_id, external_profile_id, actor=caller.actor))


@router.get("/shadow-report")
async def shadow_report(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    reader: Support,
    from_date: Day = None,
    to_date: Day = None,
    market: Annotated[str | None, Query(max_length=MAX_MARKET_NAME)] = None,
    cursor: Annotated[str | None, Query(max_length=60)] = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> ShadowPage:
    """Which children in shadow mode would have been blocked, on which days, and for how long.

    Without dates, of the last 28 days; at most 90 days. It is served from what was flushed. It names
    children by their ids only. The audit log of each account on the page notes the reading.
    """
    report: ShadowReport = request.app.state.services.shadow_report
    last = to_date or utc(request.app.state.services.clock()).date()
    first = from_date or last - timedelta(days=28)
    days, next_cursor = await report.page(reader, first=first, last=last, market=market, cursor=cursor, limit=limit)
    return ShadowPage(days=[ShadowDayAnswer.of(day) for day in days], next_cursor=next_cursor)


@accounts_router.patch("/{external_id}")
async def assign_market(
    external_id: ExternalId, body: MarketChange, caller: Service, platform: Accounts
) -> PlatformAccountAnswer:
    """Move an account into a market of the markets file. Its rules hold within a second, on every process."""
    return PlatformAccountAnswer.of(await platform.assign_market(external_id, body.market, actor=caller.actor))


@accounts_router.patch("/{external_id}/profiles/{external_profile_id}")
async def set_enforcement(
    external_id: ExternalId,
    external_profile_id: ExternalId,
    body: EnforcementChange,
    caller: Service,
    platform: Accounts,
) -> PlatformProfile:
    """Give a profile an enforcement mode of its own: `enforce`, `shadow` or `off`. It holds within a second."""
    profile = await platform.set_enforcement(external_id, external_profile_id, body.enforcement, actor=caller.actor)
    return PlatformProfile.of(profile)


def _say_created(request: Request, response: Response, change: Change) -> None:
    if change is Change.CREATED:
        response.status_code = status.HTTP_201_CREATED
        response.headers["Location"] = request.scope["raw_path"].decode("ascii")
