"""One child: settings with their preview, history, the week, and its data."""

from datetime import date, timedelta
from typing import Any

import msgspec
from starlette.responses import Response, StreamingResponse

from app.domain.profile import Profile
from app.domain.viewing_day import TIMEZONES
from app.errors import HourglassError, InvalidInput
from app.parents.preconditions import Precondition, etag_of
from app.parents.schemas import WEEKDAYS, ViewingTime, ViewingTimeChange
from app.parents.service import Preview
from app.reports.schemas import ChildAnswer, HistoryAnswer, WeeklyAnswer
from app.reports.spreadsheet import MEDIA_TYPE, as_csv
from app.web import week_form
from app.web.forms import FormRefused, checked, number_in
from app.web.i18n import N_
from app.web.visit import Visit

_SESSIONS_A_PAGE = 30
_ALL_SESSIONS = 5000
_HISTORY_DAYS = 29
LIMITS = range(15, 481, 15)
_MINUTE_MS = 60_000
_MAX_SHOWN_DAY = date(2199, 12, 31)


class PreviewDay(msgspec.Struct, frozen=True, kw_only=True):
    """A past day as it would have been: what was watched, and whether a limit would have cut it short."""

    day: date
    watched_min: float
    limit_minutes: int | None
    reason: str | None
    blocked_at_ms: int | None
    is_blocked: bool


class Weekday(msgspec.Struct, frozen=True, kw_only=True):
    """A day of the week: as the API names it, and in the reader's words."""

    name: str
    short: str
    long: str


async def settings(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    if visit.request.method == "GET":
        found = await _viewing_time(visit, profile)
        return await _settings_page(visit, profile, found, values=_values_of(found))
    controls = visit.services.parents
    try:
        change = _change(visit)
        await controls.settings.save(
            account_id=visit.account_id,
            profile_id=profile.id,
            actor=visit.principal.actor,
            change=change.change(),
            precondition=Precondition([etag_of(_version(visit))]),
            at_ms=visit.at_ms,
        )
    except (FormRefused, HourglassError) as error:
        errors = await visit.errors_of(error)
        found = await _viewing_time(visit, profile)
        return await _settings_page(visit, profile, found, values=visit.form, errors=errors, status=422)
    await visit.flash(visit.t("The settings of %(name)s are saved and in force.") % {"name": profile.name})
    return visit.redirect(f"/children/{profile.id}/settings")


async def preview(visit: Visit) -> Response:
    """What the settings in the form would have done to the last 28 days. Nothing is saved."""
    profile = await visit.profile(visit.profile_id)
    found = await _viewing_time(visit, profile)
    days: list[PreviewDay] | None = None
    tried: Preview | None = None
    errors: dict[str, str] = {}
    try:
        change = _change(visit)
        tried = await visit.services.parents.settings.preview(
            account_id=visit.account_id, profile_id=profile.id, change=change.change(), at_ms=visit.at_ms
        )
        days = await _preview_days(visit, profile, tried)
    except (FormRefused, HourglassError) as error:
        errors = await visit.errors_of(error)
    if visit.request.headers.get("hx-target") == "preview":
        return visit.finish(visit.render("_preview.html", days=days, tried=tried, errors=errors, zone=found.timezone))
    return await _settings_page(
        visit, profile, found, values=visit.form, errors=errors, days=days, tried=tried, status=422 if errors else 200
    )


async def _preview_days(visit: Visit, profile: Profile, tried: Preview) -> list[PreviewDay]:
    page = await visit.services.reports.history.page(
        account_id=visit.account_id,
        profile_id=profile.id,
        first=tried.first,
        last=tried.last,
        cursor=None,
        limit=_ALL_SESSIONS,
        empty_days=False,
        at_ms=visit.at_ms,
    )
    watched = {day.totals.day: day.totals.total_ms for day in page.days}
    blocked = {hit.day: hit for hit in tried.blocked}
    span = (tried.last - tried.first).days + 1
    days = []
    for day in (tried.first + timedelta(days=age) for age in range(span)):
        hit = blocked.get(day)
        days.append(
            PreviewDay(
                day=day,
                watched_min=watched.get(day, 0) / _MINUTE_MS,
                limit_minutes=hit.limit_minutes if hit else None,
                reason=hit.reason if hit else None,
                blocked_at_ms=hit.at_ms if hit else None,
                is_blocked=hit is not None,
            )
        )
    return days


async def _viewing_time(visit: Visit, profile: Profile) -> ViewingTime:
    settings = visit.services.parents.settings
    config, market = await settings.read(account_id=visit.account_id, profile_id=profile.id)
    return ViewingTime.of(profile.id, config, market=market, at_ms=visit.at_ms)


def _values_of(found: ViewingTime) -> dict[str, str]:
    def limit(minutes: int | None) -> str:
        return "" if minutes is None else str(minutes)

    return {
        "weekday_limit_minutes": limit(found.weekday_limit_minutes),
        "weekend_limit_minutes": limit(found.weekend_limit_minutes),
        "reset_hour": str(found.reset_hour),
        "timezone": found.timezone,
        "educational_exempt": "1" if found.educational_exempt else "",
        "warning_minutes": ", ".join(map(str, found.warning_minutes)),
        "version": str(found.version),
        **week_form.fields_of(found),
    }


def _change(visit: Visit) -> ViewingTimeChange:
    """The form as the API's body. Raises FormRefused."""
    form = visit.form
    warnings = [part.strip() for part in form.get("warning_minutes", "").replace(";", ",").split(",") if part.strip()]
    values: dict[str, Any] = {
        name: _number(form.get(name, "")) for name in ("weekday_limit_minutes", "weekend_limit_minutes")
    }
    values |= {
        "reset_hour": _number(form.get("reset_hour", "")),
        "timezone": form.get("timezone", ""),
        "educational_exempt": form.get("educational_exempt") == "1",
        "warning_minutes": [_number(part) for part in warnings],
        **week_form.change_in(form),
    }
    return checked(ViewingTimeChange, values)


def _number(text: str) -> int | str | None:
    if text == "":
        return None
    number = number_in(text)
    return text if number is None else number


def _version(visit: Visit) -> int:
    text = visit.form.get("version", "")
    if not (text.isascii() and text.isdecimal()):
        raise InvalidInput(errors=[{"pointer": "/version", "detail": "is needed"}])
    return int(text[:20])


async def _settings_page(
    visit: Visit,
    profile: Profile,
    found: ViewingTime,
    *,
    values: dict[str, str],
    errors: dict[str, str] | None = None,
    days: list[PreviewDay] | None = None,
    tried: Preview | None = None,
    status: int = 200,
) -> Response:
    return await visit.page(
        "settings.html",
        status=status,
        profile=profile,
        found=found,
        values=values,
        errors=errors or {},
        days=days,
        tried=tried,
        zone=found.timezone,
        limits=LIMITS,
        weekdays=[
            Weekday(name=day, short=visit.words.weekday_of(day, is_short=True), long=visit.words.weekday_of(day))
            for day in WEEKDAYS
        ],
        week=week_form.shown(values),
        zones=sorted(TIMEZONES),
    )


async def history(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    cursor = visit.request.query_params.get("cursor") or None
    page = await visit.services.reports.history.page(
        account_id=visit.account_id,
        profile_id=profile.id,
        first=None,
        last=None,
        cursor=cursor,
        limit=_SESSIONS_A_PAGE,
        empty_days=False,
        at_ms=visit.at_ms,
    )
    answer = HistoryAnswer.of(page, max_gap_ms=visit.services.reports.max_gap_ms)
    return await visit.page("history.html", profile=profile, page=answer, is_first=cursor is None)


async def week(visit: Visit) -> Response:
    profile = await visit.profile(visit.profile_id)
    asked = visit.request.query_params.get("ending")
    report = await _report(visit, asked)
    weeks = [week for week in report.profiles if week.profile_id == profile.id]
    found: ChildAnswer | None = weeks[0] if weeks else None
    newer = report.week_end + timedelta(days=7)
    latest = report if asked is None else await _report(visit, None)
    return await visit.page(
        "week.html",
        profile=profile,
        report=report,
        week=found,
        older=report.week_end - timedelta(days=7),
        newer=newer if newer <= latest.week_end else latest.week_end if report.week_end < latest.week_end else None,
    )


async def _report(visit: Visit, ending: str | None) -> WeeklyAnswer:
    """Raises InvalidInput for what is no day, or has not ended."""
    try:
        day = None if ending is None else date.fromisoformat(ending)
    except ValueError:
        raise InvalidInput from None
    if day is not None and not date(2000, 1, 1) <= day <= _MAX_SHOWN_DAY:
        raise InvalidInput
    report = await visit.services.reports.weekly.report(account_id=visit.account_id, week_ending=day, at_ms=visit.at_ms)
    return WeeklyAnswer.of(report)


async def week_csv(visit: Visit) -> Response:
    report = await _report(visit, visit.request.query_params.get("ending"))
    name = f"weekly-report-{report.week_end}.csv"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return Response(as_csv(report), media_type=MEDIA_TYPE, headers=headers)


async def data(visit: Visit) -> Response:
    return await visit.page("data.html", profile=await visit.profile(visit.profile_id))


async def export(visit: Visit) -> Response:
    pieces = await visit.services.privacy.export.of_profile(visit.account_id, visit.profile_id)
    headers = {"Content-Disposition": 'attachment; filename="hourglass-export.json"'}
    return StreamingResponse(pieces, media_type="application/json", headers=headers)


_NAME_WRONG = N_("Type the name exactly as it is written above.")


async def erase(visit: Visit) -> Response:
    """Erase a profile whose name was typed, and show the receipt."""
    profile = await visit.profile(visit.profile_id)
    if visit.form.get("confirmation", "").strip() != profile.name:
        errors = {"confirmation": visit.t(_NAME_WRONG)}
        return await visit.page("data.html", status=422, profile=profile, errors=errors)
    receipt = await visit.services.privacy.erasure.profile(visit.account_id, profile.id, actor=visit.principal.actor)
    await visit.keep_receipt(receipt)
    return visit.redirect("/household/receipt")
