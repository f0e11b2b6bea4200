"""Routes of the reports. They only read, and only from PostgreSQL."""

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query, Request, Response

from app.auth.dependencies import ParentRights
from app.auth.external_ids import ProfileRoute
from app.http.requests import API_PREFIX, as_json
from app.reports import Reports
from app.reports.schemas import HistoryAnswer, WeeklyAnswer
from app.reports.spreadsheet import MEDIA_TYPE, as_csv

router = APIRouter(prefix=f"{API_PREFIX}/parental-controls", tags=["reports"], route_class=ProfileRoute)

_Day = Annotated[date | None, Query(ge=date(2000, 1, 1), le=date(2199, 12, 31))]
_CSV: dict[int | str, dict[str, Any]] = {200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}}}


async def _reports(request: Request) -> Reports:
    reports: Reports = request.app.state.services.reports
    return reports


Service = Annotated[Reports, Depends(_reports)]


@router.get("/profiles/{profile_id}/history")
async def history(  # noqa: PLR0917  FastAPI passes these by name
    profile_id: str,
    parent: ParentRights,
    reports: Service,
    from_date: _Day = None,
    to_date: _Day = None,
    cursor: Annotated[str | None, Query(max_length=300)] = None,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
    empty_days: Annotated[bool, Query()] = False,
) -> Response:
    """Watched time by viewing day, newest first: the last 30 days by default, 90 at most.

    ``limit`` counts sessions. ``next_cursor`` of a page is the ``cursor`` of the next one and contains the dates. With
    ``empty_days``, repeated for each page, days without usage are included.
    """
    page = await reports.history.page(
        account_id=parent.account_id,
        profile_id=profile_id,
        first=from_date,
        last=to_date,
        cursor=cursor,
        limit=limit,
        empty_days=empty_days,
        at_ms=reports.clock(),
    )
    return as_json(HistoryAnswer.of(page, max_gap_ms=reports.max_gap_ms))


@router.get("/weekly-report", responses=_CSV)
async def weekly_report(
    request: Request,
    parent: ParentRights,
    reports: Service,
    week_ending: _Day = None,
    format: Annotated[Literal["json", "csv"] | None, Query()] = None,  # noqa: A002  the name in the contract
) -> Response:
    """All children of the account: seven viewing days up to ``week_ending``, or up to the last finished one.

    The answer is CSV with ``format=csv`` or ``Accept: text/csv``.
    """
    found = await reports.weekly.report(account_id=parent.account_id, week_ending=week_ending, at_ms=reports.clock())
    answer = WeeklyAnswer.of(found)
    if (format or _format_accepted(request)) == "json":
        return as_json(answer)
    name = f"weekly-report-{answer.week_end}.csv"
    return Response(
        as_csv(answer), media_type=MEDIA_TYPE, headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def _format_accepted(request: Request) -> str:
    """Whether the ``Accept`` header names CSV before JSON or a wildcard that includes JSON."""
    accepted = request.headers.get("accept", "").lower().split(",")
    for media_range in accepted:
        media_type = media_range.partition(";")[0].strip()
        if media_type == MEDIA_TYPE:
            return "csv"
        if media_type in {"application/json", "application/*", "*/*"}:
            return "json"
    return "json"
