"""Signing in and out, and unlocking parents' rights with the PIN."""

import contextlib
from urllib.parse import quote

from starlette.responses import Response

from app.auth.schemas import GivenPin, Login, Registration
from app.auth.service import HouseholdTokens
from app.domain.viewing_day import TIMEZONES
from app.errors import DatabaseUnavailable, EmailTaken, HourglassError, WrongCredentials
from app.web.forms import FormRefused, checked
from app.web.i18n import LANGUAGES
from app.web.security import LANGUAGE_COOKIE, YEAR_SECONDS, is_plain_loopback
from app.web.visit import Visit

_DEVICE = "Web browser"
"""How the account's list of sign-ins names one at the console."""
_CARRIED = frozenset({"csrf", "pin", "once"})
"""Fields of a form that a page which asks for the PIN does not repeat as they are."""


async def sign_in(visit: Visit) -> Response:
    if visit.request.method == "GET":
        if visit.session is not None:
            return visit.redirect(visit.next_path)
        return visit.render("sign_in.html", next=visit.next_path, expired="expired" in visit.request.query_params)
    try:
        body = checked(Login, {"email": visit.form.get("email", ""), "password": visit.form.get("password", "")})
        signed_in = await visit.services.households.login(email=body.email, password=body.password, device_name=_DEVICE)
    except (FormRefused, HourglassError) as error:
        errors = await visit.errors_of(error, pin_field="")
        return visit.render(
            "sign_in.html", status=422, errors=errors, values=visit.form, next=visit.next_path, expired=False
        )
    return await visit.signed_in_response(signed_in, email=body.email, path=visit.next_path)


async def register(visit: Visit) -> Response:
    zones = sorted(zone for zone in TIMEZONES if "/" in zone and not zone.startswith(("Etc/", "SystemV/", "US/")))
    if visit.request.method == "GET":
        if visit.session is not None:
            return visit.redirect("/")
        return visit.render("register.html", zones=zones, values={"timezone": ""})
    form = visit.form
    fields = {name: form.get(name, "") for name in ("email", "password", "timezone")}
    try:
        body = checked(Registration, fields)
        signed_in = await _registered(visit, body)
    except (FormRefused, HourglassError) as error:
        errors = await visit.errors_of(error, pin_field="")
        return visit.render("register.html", status=422, errors=errors, values=fields, zones=zones)
    return await visit.signed_in_response(signed_in, email=body.email, path="/household/pin")


async def _registered(visit: Visit, body: Registration) -> HouseholdTokens:
    """A new account; the one of a moment ago when the form was sent twice."""
    households = visit.services.households
    try:
        return await households.register(
            email=body.email, password=body.password, timezone=body.timezone, device_name=_DEVICE
        )
    except EmailTaken:
        try:
            return await households.login(email=body.email, password=body.password, device_name=_DEVICE)
        except WrongCredentials:
            raise EmailTaken from None


async def sign_out(visit: Visit) -> Response:
    """End the session and its sign-in."""
    await visit.sessions.end(visit.token, visit.signed_in)
    if visit.signed_in.sign_in_id:
        with contextlib.suppress(DatabaseUnavailable):  # nobody holds a token of it any more
            await visit.services.account_life.log_out(visit.principal)
    return visit.signed_out_response()


async def sign_out_everywhere(visit: Visit) -> Response:
    """End every session, sign-in, parent device and unlock of the account."""
    await visit.services.account_life.log_out_everywhere(visit.principal)
    await visit.sessions.end_all(visit.account_id)
    return visit.signed_out_response()


async def session(visit: Visit) -> Response:  # noqa: ARG001  that it is asked at all says yes
    """Whether the session is open, for pages whose stream has ended."""
    return Response(status_code=204)


async def language(visit: Visit) -> Response:
    response = visit.redirect(visit.next_path)
    chosen = visit.form.get("language", "")
    if chosen in LANGUAGES:
        # Under the same name everywhere: there is nothing secret or binding about it.
        response.set_cookie(
            LANGUAGE_COOKIE,
            chosen,
            max_age=YEAR_SECONDS,
            path="/",
            secure=not is_plain_loopback(visit.request),
            httponly=True,
            samesite="lax",
        )
    return response


async def unlock(visit: Visit) -> Response:
    """Ask for the PIN, and go on to where it was needed."""
    if not await _has_pin(visit):
        return visit.redirect("/household/pin")
    if visit.request.method == "GET":
        if await visit.is_unlocked():
            return visit.redirect(visit.next_path)
        return await _ask_for_pin(visit, {"next": visit.next_path}, action="/unlock")
    try:
        await visit.unlock(checked(GivenPin, {"pin": visit.form.get("pin", "")}).pin)
    except (FormRefused, HourglassError) as error:
        errors = await visit.errors_of(error)
        return await _ask_for_pin(visit, {"next": visit.next_path}, action="/unlock", errors=errors)
    return visit.redirect(visit.next_path)


async def lock(visit: Visit) -> Response:
    await visit.lock()
    return visit.redirect("/")


async def unlock_first(visit: Visit) -> Response | None:
    """What a page that needs parents' rights answers first; None when the form brought the right PIN along.

    A form is repeated in the page that asks for the PIN, so that nothing that was entered is lost.
    """
    if not await _has_pin(visit):
        return visit.redirect("/household/pin")
    if visit.request.method == "GET":
        url = visit.request.url
        return visit.redirect(f"/unlock?next={quote(url.path + (f'?{url.query}' if url.query else ''))}")
    action = visit.request.url.path
    carried = {name: value for name, value in visit.form.items() if name not in _CARRIED}
    carried["asked"] = "1"
    if "asked" not in visit.form:
        return await _ask_for_pin(visit, carried, action=action)
    try:
        await visit.unlock(checked(GivenPin, {"pin": visit.form.get("pin", "")}).pin)
    except (FormRefused, HourglassError) as error:
        return await _ask_for_pin(visit, carried, action=action, errors=await visit.errors_of(error))
    return None


async def _has_pin(visit: Visit) -> bool:
    return (await visit.services.pins.status(visit.account_id)).has_pin


async def _ask_for_pin(
    visit: Visit, carried: dict[str, str], *, action: str, errors: dict[str, str] | None = None
) -> Response:
    return await visit.page(
        "unlock.html", status=422 if errors else 200, carried=carried, action=action, errors=errors or {}
    )
