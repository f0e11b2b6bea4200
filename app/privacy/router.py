"""The calls by which a family takes its data along or takes it away."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse

from app.auth.dependencies import ParentRights
from app.privacy import Privacy
from app.privacy.schemas import AccountErasure, Receipt
from app.requests import API_PREFIX

router = APIRouter(prefix=API_PREFIX, tags=["privacy"])

_EXPORT: dict[int | str, dict[str, Any]] = {200: {"content": {"application/json": {"schema": {"type": "object"}}}}}


async def _privacy(request: Request) -> Privacy:
    privacy: Privacy = request.app.state.services.privacy
    return privacy


Service = Annotated[Privacy, Depends(_privacy)]


@router.get("/parental-controls/profiles/{profile_id}/export", response_class=StreamingResponse, responses=_EXPORT)
async def export(profile_id: str, parent: ParentRights, privacy: Service) -> StreamingResponse:
    """Everything that is kept about a profile, as docs/privacy.md lists it: rows by kind, oldest first."""
    pieces = await privacy.export.of_profile(parent.account_id, profile_id)
    headers = {"Content-Disposition": 'attachment; filename="hourglass-export.json"'}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


@router.delete("/profiles/{profile_id}")
async def erase_profile(profile_id: str, parent: ParentRights, privacy: Service) -> Receipt:
    """Erase a profile with everything that was counted for it. This cannot be undone."""
    return Receipt.of(await privacy.erasure.profile(parent.account_id, profile_id, actor=parent.actor))


@router.delete("/account")
async def erase_account(body: AccountErasure, parent: ParentRights, privacy: Service) -> Receipt:
    """Erase the account with all its profiles, for a parent who knows its password. This cannot be undone.

    Its tokens count no longer, on every process within a second.
    """
    return Receipt.of(await privacy.erasure.account(parent.account_id, password=body.password))
