"""Routes for export, audit log and erasure."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import StreamingResponse

from app.auth.dependencies import JustSignedIn, ParentRights
from app.auth.external_ids import ProfileRoute
from app.domain.pages import cut_page
from app.http.requests import API_PREFIX
from app.privacy import Privacy
from app.privacy.schemas import AccountErasure, AuditEntryAnswer, AuditPage, Receipt

router = APIRouter(prefix=API_PREFIX, tags=["privacy"], route_class=ProfileRoute)

_EXPORT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "object"}}}}}


async def _privacy(request: Request) -> Privacy:
    privacy: Privacy = request.app.state.services.privacy
    return privacy


Service = Annotated[Privacy, Depends(_privacy)]


@router.get("/parental-controls/profiles/{profile_id}/export", response_class=StreamingResponse, responses=_EXPORT)
async def export(profile_id: str, parent: ParentRights, privacy: Service) -> StreamingResponse:
    """All data of a profile, as docs/reference/privacy.md lists it: rows by kind, oldest first."""
    pieces = await privacy.export.of_profile(parent.account_id, profile_id)
    headers = {"Content-Disposition": 'attachment; filename="hourglass-export.json"'}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.get("/account/export", response_class=StreamingResponse, responses=_EXPORT)
async def export_account(parent: ParentRights, privacy: Service) -> StreamingResponse:
    """All data of the account: e-mail, devices, audit log, reports, and the export of each profile."""
    pieces = await privacy.export.of_account(parent.account_id)
    headers = {"Content-Disposition": 'attachment; filename="hourglass-account-export.json"'}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.get("/account/audit")
async def audit_log(
    parent: ParentRights,
    privacy: Service,
    cursor: Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> AuditPage:
    """The audit log of this account for a year, newest first."""
    before = None if cursor is None else int(cursor)
    found = await privacy.audit.entries(parent.account_id, before=before, limit=limit + 1)
    entries, next_cursor = cut_page(found, limit, lambda entry: str(entry.entry_id))
    return AuditPage(entries=[AuditEntryAnswer.of(entry) for entry in entries], next_cursor=next_cursor)


@router.delete("/profiles/{profile_id}")
async def erase_profile(profile_id: str, parent: ParentRights, privacy: Service) -> Receipt:
    """Erase a profile and all its usage. This cannot be undone."""
    return Receipt.of(await privacy.erasure.profile(parent.account_id, profile_id, actor=parent.actor))


@router.delete("/account")
async def erase_account(
    body: AccountErasure, parent: ParentRights, privacy: Service, has_just_signed_in: JustSignedIn
) -> Receipt:
    """Erase the account with all its profiles. Requires parent rights and the password. This cannot be undone.

    A token of the platform's identity service with an `auth_time` of the last 5 minutes stands for the password. Every
    process refuses the account's tokens within a second.
    """
    receipt = await privacy.erasure.account(
        parent.account_id, password=body.password, has_just_signed_in=has_just_signed_in
    )
    return Receipt.of(receipt)
