"""The calls under ``/admin``: read only, for tokens of the role admin."""

from datetime import date
from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response

from app.admin.schemas import AdminProfile, DeadLetterAnswer, DeadLetterPage, FlushAnswer
from app.admin.service import AdminReadings
from app.auth.dependencies import Admin
from app.auth.external_ids import ExternalIds, ExternalRoute
from app.domain.external_ids import MAX_EXTERNAL_ID, canonical, is_uuid
from app.domain.pages import cut_page
from app.domain.support import ProfileKind
from app.errors import NotFound, ProfileAccessDenied
from app.http.requests import API_PREFIX, as_json
from app.privacy.schemas import AuditEntryAnswer, AuditPage
from app.reports.schemas import HistoryAnswer

if TYPE_CHECKING:
    from app.reports import Reports

router = APIRouter(prefix=f"{API_PREFIX}/admin", tags=["admin"], route_class=ExternalRoute)

_Id = Annotated[str, Path(min_length=1, max_length=MAX_EXTERNAL_ID, description="ours, or the platform's")]
_Day = Annotated[date | None, Query(ge=date(2000, 1, 1), le=date(2199, 12, 31))]
_EntryCursor = Annotated[str | None, Query(pattern=r"^[0-9]{1,18}$")]
_Limit = Annotated[int, Query(ge=1, le=500)]


async def _readings(request: Request) -> AdminReadings:
    readings: AdminReadings = request.app.state.services.admin
    return readings


async def _account(request: Request, _: Admin, account_id: _Id) -> str:
    """Our id of an account. Only an admin learns whether there is one."""
    ids: ExternalIds = request.app.state.services.external_ids
    found = await ids.account(account_id)
    if found is not None:
        return found
    if not is_uuid(canonical(account_id)):
        raise NotFound
    return canonical(account_id)  # an erased account still has an audit log


Account = Annotated[str, Depends(_account)]


async def _profile(request: Request, account: Account, profile_id: _Id) -> str:
    """Our id of a profile."""
    ids: ExternalIds = request.app.state.services.external_ids
    found = await ids.profile(account, profile_id)
    if found is not None:
        return found
    if not is_uuid(canonical(profile_id)):
        raise ProfileAccessDenied
    return canonical(profile_id)


Profile = Annotated[str, Depends(_profile)]
Readings = Annotated[AdminReadings, Depends(_readings)]


@router.get("/accounts/{account_id}/profiles", response_model=list[AdminProfile])
async def admin_profiles(account_id: Account, admin: Admin, readings: Readings) -> list[ProfileKind]:
    """The profiles of an account, without their names."""
    return await readings.profiles(admin, account_id)


@router.get("/accounts/{account_id}/profiles/{profile_id}/balance")
async def admin_balance(account_id: Account, profile_id: Profile, admin: Admin, readings: Readings) -> Response:
    """The running day of a profile, as its parents see it."""
    return as_json(await readings.balance(admin, account_id, profile_id))


@router.get("/accounts/{account_id}/profiles/{profile_id}/why")
async def admin_why(account_id: Account, profile_id: Profile, admin: Admin, readings: Readings) -> Response:
    """The decision on the running day of a child, spelled out."""
    return as_json(await readings.why(admin, account_id, profile_id))


@router.get("/accounts/{account_id}/profiles/{profile_id}/history")
async def admin_history(  # noqa: PLR0917  FastAPI passes these by name
    request: Request,
    account_id: Account,
    profile_id: Profile,
    admin: Admin,
    readings: Readings,
    from_date: _Day = None,
    to_date: _Day = None,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
    limit: _Limit = 100,
) -> Response:
    """What was watched, as the parents' own history shows it."""
    reports: Reports = request.app.state.services.reports
    page = await readings.history(
        admin, account_id, profile_id, first=from_date, last=to_date, cursor=cursor, limit=limit
    )
    return as_json(HistoryAnswer.of(page, max_gap_ms=reports.max_gap_ms))


@router.get("/accounts/{account_id}/audit")
async def admin_audit(
    account_id: Account, admin: Admin, readings: Readings, cursor: _EntryCursor = None, limit: _Limit = 100
) -> AuditPage:
    """The audit log of an account, newest first. This reading is its first entry."""
    found = await readings.audit(admin, account_id, before=_entry_id(cursor), limit=limit + 1)
    entries, next_cursor = cut_page(found, limit, lambda entry: str(entry.entry_id))
    return AuditPage(entries=[AuditEntryAnswer.of(entry) for entry in entries], next_cursor=next_cursor)


@router.get("/accounts/{account_id}/dead-letters")
async def admin_dead_letters(
    account_id: Account, admin: Admin, readings: Readings, cursor: _EntryCursor = None, limit: _Limit = 100
) -> DeadLetterPage:
    """Counters of an account that PostgreSQL can never take as they are, newest first."""
    found = await readings.dead_letters(admin, account_id, before=_entry_id(cursor), limit=limit + 1)
    letters, next_cursor = cut_page(found, limit, lambda letter: str(letter.id))
    return DeadLetterPage(dead_letters=[DeadLetterAnswer.of(letter) for letter in letters], next_cursor=next_cursor)


@router.get("/flush")
async def admin_flush(admin: Admin, readings: Readings) -> FlushAnswer:
    """How far the flush is, for the whole deployment."""
    return FlushAnswer.of(await readings.flush_state(admin))


def _entry_id(cursor: str | None) -> int | None:
    return None if cursor is None else int(cursor)
