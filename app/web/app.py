"""The console as an ASGI application beside the API: its routes, and what every one of them goes through."""

import contextlib
from collections.abc import Awaitable, Callable, MutableMapping
from enum import Enum
from typing import Any
from urllib.parse import quote

import structlog
from starlette.applications import Starlette
from starlette.datastructures import State
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from app.errors import (
    CountersUnavailable,
    DatabaseUnavailable,
    Forbidden,
    HourglassError,
    NotFound,
    TooManyStreams,
    Unauthenticated,
    Unexpected,
)
from app.http.requests import ClientGone
from app.web.assets import PREFIX, assets
from app.web.caregiver_visit import HOME as CARE
from app.web.caregiver_visit import CaregiverVisit
from app.web.forms import read_form
from app.web.security import HEADERS, is_same_origin, local_path
from app.web.stream import open_stream
from app.web.views import caregiver, child, day, household, play, signing
from app.web.views.style import style
from app.web.visit import Visit, to_sign_in

log = structlog.get_logger(__name__)

View = Callable[[Visit], Awaitable[Response]]
Scope = MutableMapping[str, Any]
_YEAR_SECONDS = 365 * 86_400
_FIRST_REFUSAL = 400
_FOR_SCRIPTS = {"/live", "/session", "/play/token"}
"""Paths that scripts ask: refusals are statuses, not pages."""

_HARMLESS = frozenset({child.preview})
"""Forms that change nothing: they may be sent again and again with one key."""


class RouteAccess(Enum):
    """Who may see a page."""

    ANYONE = "anyone"
    HOUSEHOLD = "household"
    """The caller of a page that needs a session."""
    PARENT = "parent"
    """Such a caller who has entered the PIN within the last 15 minutes."""
    CAREGIVER_LINK = "caregiver_link"
    """Anybody, at the page of caregivers."""
    CAREGIVER = "caregiver"
    """A caregiver that has opened its link."""


_BEFORE_SIGNING_IN = frozenset({RouteAccess.ANYONE, RouteAccess.CAREGIVER_LINK})
_OF_CAREGIVERS = frozenset({RouteAccess.CAREGIVER_LINK, RouteAccess.CAREGIVER})


class ConsoleApp:
    """Serves the paths that belong to the console.

    Args:
        state: holds ``services`` once the application has started; shared with the API.
        has_style_page: whether the page with every component is there.
    """

    def __init__(self, state: State, *, has_style_page: bool) -> None:
        routes = _routes(has_style_page=has_style_page)
        self._app = Starlette(routes=routes, exception_handlers={HTTPException: _unknown})
        self._app.state = state
        self._heads = frozenset(route.path.split("/")[1] for route in self._app.routes if isinstance(route, Route))

    def owns(self, path: str) -> bool:
        """Whether a path is one of the console's."""
        return path.split("/", 2)[1] in self._heads if path.startswith("/") else False

    async def __call__(self, scope: Scope, receive: Any, send: Any) -> None:  # noqa: ANN401  ASGI's own
        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                given = {name.lower() for name, _ in message["headers"]}
                ours = ((name.lower().encode(), value.encode()) for name, value in HEADERS.items())
                message["headers"] = [*message["headers"], *(header for header in ours if header[0] not in given)]
            await send(message)

        with contextlib.suppress(ClientGone):
            await self._app(scope, receive, send_guarded)


def _routes(*, has_style_page: bool) -> list[Route]:
    anyone, household_only, parent = RouteAccess.ANYONE, RouteAccess.HOUSEHOLD, RouteAccess.PARENT
    get, post = ["GET"], ["POST"]
    both = [*get, *post]
    one = "/children/{profile_id}"
    routes: list[tuple[str, View, RouteAccess, list[str]]] = [
        ("/", day.overview, household_only, get),
        ("/live", open_stream, household_only, get),
        ("/session", signing.session, household_only, get),
        ("/play", play.play, household_only, get),
        ("/play/token", play.play_token, household_only, get),
        ("/sign-in", signing.sign_in, anyone, both),
        ("/register", signing.register, anyone, both),
        ("/sign-out", signing.sign_out, household_only, post),
        ("/sign-out-everywhere", signing.sign_out_everywhere, household_only, post),
        ("/language", signing.language, anyone, post),
        ("/unlock", signing.unlock, household_only, both),
        ("/lock", signing.lock, household_only, post),
        (one, day.child, household_only, get),
        (f"{one}/grants", day.give, parent, post),
        (f"{one}/grants/{{grant_id}}/revoke", day.revoke, parent, post),
        (f"{one}/pause", day.pause, parent, post),
        (f"{one}/pause/lift", day.lift, parent, post),
        ("/pause", day.pause_all, parent, post),
        ("/pause/lift", day.lift_all, parent, post),
        (f"{one}/requests/{{request_id}}/approve", day.approve, parent, post),
        (f"{one}/requests/{{request_id}}/deny", day.deny, parent, post),
        (f"{one}/settings", child.settings, parent, both),
        (f"{one}/settings/preview", child.preview, parent, post),
        (f"{one}/history", child.history, parent, get),
        (f"{one}/week", child.week, parent, get),
        ("/week.csv", child.week_csv, parent, get),
        (f"{one}/data", child.data, parent, get),
        (f"{one}/export", child.export, parent, get),
        (f"{one}/erase", child.erase, parent, post),
        ("/household", household.overview, parent, get),
        ("/household/pin", household.pin, household_only, both),
        ("/household/pin/forgotten", household.forgotten_pin, household_only, both),
        ("/household/profiles", household.add_profile, parent, post),
        ("/household/profiles/{profile_id}", household.change_profile, parent, post),
        ("/household/profiles/{profile_id}/erase", household.erase_profile, parent, post),
        ("/household/devices", household.add_device, parent, post),
        ("/household/caregivers", household.add_caregiver, parent, post),
        ("/household/devices/{device_id}/revoke", household.revoke_device, parent, post),
        ("/household/erase", household.erase_account, parent, post),
        ("/household/receipt", household.receipt, household_only, get),
    ]
    link, carer = RouteAccess.CAREGIVER_LINK, RouteAccess.CAREGIVER
    cared = f"{CARE}/children/{{profile_id}}"
    routes += [
        (CARE, caregiver.overview, link, get),
        (f"{CARE}/link", caregiver.open_link, link, post),
        (f"{CARE}/language", signing.language, link, post),
        (f"{CARE}/sign-out", caregiver.sign_out, carer, post),
        (f"{cared}/grants", caregiver.give, carer, post),
        (f"{cared}/requests/{{request_id}}/approve", caregiver.approve, carer, post),
    ]
    if has_style_page:
        routes.append(("/style", style, anyone, get))
    found = [Route(path, _page(view, access), methods=methods) for path, view, access, methods in routes]
    return [*found, Route(PREFIX + "{name:path}", _static, methods=get)]


def _page(view: View, access: RouteAccess) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        visit = CaregiverVisit(request) if access in _OF_CAREGIVERS else Visit(request)
        try:
            return await _served(visit, view, access)
        except HourglassError as error:
            return _refused(visit, error)
        except Exception:
            log.exception("unexpected_error", view=view.__name__)
            return _refused(visit, Unexpected())

    return endpoint


async def _served(visit: Visit, view: View, access: RouteAccess) -> Response:
    await visit.find_session()
    is_form = visit.request.method == "POST"
    if is_form:
        settings = visit.services.settings
        visit.form = await read_form(
            visit.request, limit_bytes=settings.body_limit_bytes, timeout_seconds=settings.body_timeout_seconds
        )
        if not is_same_origin(visit.request.headers):
            raise Forbidden
    if visit.session is None:
        if access not in _BEFORE_SIGNING_IN:
            return _sign_in_first(visit, is_form=is_form)
    else:
        await visit.services.rate_limit.admit(visit.account_id, visit.token.encode())
    if is_form and not visit.is_csrf_safe(before_signing_in=access in _BEFORE_SIGNING_IN):
        raise Forbidden
    if access is RouteAccess.PARENT and not await visit.is_unlocked():
        refusal = await signing.unlock_first(visit)
        if refusal is not None:
            return refusal
    return await (_once(visit, view) if is_form and view not in _HARMLESS else view(visit))


def _sign_in_first(visit: Visit, *, is_form: bool) -> Response:
    path = visit.request.url.path
    if path in _FOR_SCRIPTS:
        raise Unauthenticated
    if isinstance(visit, CaregiverVisit):
        return visit.signed_out_response()
    if is_form:
        came_from = visit.came_from
        return visit.redirect(f"/sign-in?expired=1&next={quote(came_from)}")
    query = visit.request.url.query
    return visit.redirect(to_sign_in(local_path(path + (f"?{query}" if query else ""))))


async def _once(visit: Visit, view: View) -> Response:
    """Handle a form unless it was sent before: then lead to where its first sending led."""
    key = visit.form_key
    if key is None or visit.session is None:
        return await view(visit)
    outcome = await visit.sessions.claim(visit.token, key)
    if outcome is not None:
        return visit.redirect(outcome or visit.came_from)
    try:
        response = await view(visit)
    except BaseException:
        await visit.sessions.release(visit.token, key)
        raise
    if response.status_code >= _FIRST_REFUSAL:  # nothing was done
        await visit.sessions.release(visit.token, key)
    else:
        await visit.sessions.store_outcome(visit.token, key, response.headers.get("location", visit.came_from))
    return response


def _refused(visit: Visit, error: HourglassError) -> Response:
    if isinstance(error, Unauthenticated) and visit.request.url.path not in _FOR_SCRIPTS:
        return visit.signed_out_response()
    if visit.request.url.path in _FOR_SCRIPTS:
        return PlainTextResponse(error.code, status_code=error.status, headers=error.headers)
    kind = {
        CountersUnavailable: "away",
        DatabaseUnavailable: "away",
        TooManyStreams: "away",
        NotFound: "missing",
        Unexpected: "unexpected",
    }.get(type(error))
    if kind is None:
        kind = {403: "refused", 404: "missing", 429: "busy", 413: "refused"}.get(error.status, "refused")
        if error.status >= 500:  # noqa: PLR2004  the first server error
            kind = "away"
    response = visit.render("error.html", status=error.status, kind=kind, code=error.code)
    response.headers.update({name: value for name, value in error.headers.items() if name == "Retry-After"})
    return response


async def _unknown(request: Request, error: Exception) -> Response:
    """What the framework refuses: there is no such page, or it takes no form."""
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class only
    status = error.status_code
    return Visit(request).render("error.html", status=status, kind="missing", code=NotFound.code)


async def _static(request: Request) -> Response:
    asset = assets().get(request.path_params["name"])
    if asset is None:
        return PlainTextResponse("not found", status_code=404)
    is_pinned = request.query_params.get("v") == asset.digest
    headers = {
        "Cache-Control": f"public, max-age={_YEAR_SECONDS}, immutable" if is_pinned else "no-cache",
        "Vary": "Accept-Encoding",
        "ETag": f'"{asset.digest}"',
    }
    if request.headers.get("if-none-match") == headers["ETag"]:
        return Response(status_code=304, headers=headers)
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(asset.compressed, media_type=asset.media_type, headers=headers | {"Content-Encoding": "gzip"})
    return Response(asset.content, media_type=asset.media_type, headers=headers)
