"""One request to the console: who it is from, in which language, and how it is answered."""

import contextlib
import re
import secrets
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote
from zlib import crc32

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.auth.devices import Devices
from app.auth.pins import UNLOCK_SECONDS, Pins
from app.auth.rates import RateLimit
from app.auth.service import AccountService, HouseholdTokens
from app.auth.sign_ins import AccountLife
from app.auth.tokens import Principal, Role, TokenCache
from app.clock import Clock
from app.domain.erasure import ErasureReceipt
from app.domain.profile import Profile
from app.errors import DatabaseUnavailable, HourglassError, Locked, ProfileAccessDenied
from app.parents import Parents
from app.parents.grants import Actor
from app.privacy import Privacy
from app.profiles.service import ProfileService
from app.reports import Reports
from app.settings.settings import Settings
from app.timestamps import utc
from app.viewing.active_sessions import ActiveSessions
from app.viewing.service import ViewingService
from app.web import i18n, words
from app.web.assets import assets
from app.web.forms import FormRefused, refusal
from app.web.security import (
    FORM_COOKIE,
    LANGUAGE_COOKIE,
    SESSION_COOKIE,
    address_parts,
    cookie_of,
    delete_cookie,
    is_plain_loopback,
    local_path,
    set_cookie,
)
from app.web.sessions import CaregiverSession, Flash, WebSession

_TEMPLATES = Path(__file__).parent / "templates"
_KEY = re.compile(r"[0-9a-f]{32}")
FAR_FUTURE_S = 2**32


class ViewingParts(Protocol):
    @property
    def service(self) -> ViewingService: ...

    @property
    def active_sessions(self) -> ActiveSessions: ...


class ConsoleParts(Protocol):
    """As ``app.web.Console``."""

    @property
    def sessions(self) -> Any: ...  # noqa: ANN401  Sessions; named so to keep the modules apart

    @property
    def caregiver_sessions(self) -> Any: ...  # noqa: ANN401  likewise

    @property
    def live(self) -> Any: ...  # noqa: ANN401  Live

    @property
    def title_names(self) -> Any: ...  # noqa: ANN401  TtlCache


class Services(Protocol):
    """The part of ``app.wiring.api.Services`` that pages use."""

    @property
    def settings(self) -> Settings: ...
    @property
    def clock(self) -> Clock: ...
    @property
    def rate_limit(self) -> RateLimit: ...
    @property
    def token_cache(self) -> TokenCache: ...
    @property
    def households(self) -> AccountService: ...
    @property
    def account_life(self) -> AccountLife: ...
    @property
    def pins(self) -> Pins: ...
    @property
    def devices(self) -> Devices: ...
    @property
    def members(self) -> ProfileService: ...
    @property
    def parents(self) -> Parents: ...
    @property
    def reports(self) -> Reports: ...
    @property
    def privacy(self) -> Privacy: ...
    @property
    def viewing(self) -> ViewingParts: ...
    @property
    def console(self) -> ConsoleParts: ...


class Visit:
    """One request, with the session it belongs to, if any.

    Attributes:
        cookie: the name of the cookie that holds the token of the session.
        home: the page of those who are signed in.
        entrance: the page of those who are not.
        language_path: where the form of the language goes to.
    """

    cookie = SESSION_COOKIE
    home = "/"
    entrance = "/sign-in"
    language_path = "/language"

    def __init__(self, request: Request) -> None:
        self.request = request
        self.services: Services = request.app.state.services
        self.sessions = self._sessions()
        self.language = i18n.choose(request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language", ""))
        self.t = i18n.translations(self.language).gettext
        self.words = words.Words(i18n.translations(self.language), i18n.locale_of(self.language))
        self.token = cookie_of(request, self.cookie)
        self.session: WebSession | CaregiverSession | None = None
        self.form: dict[str, str] = {}
        self._form_cookie = cookie_of(request, FORM_COOKIE)
        self._new_form_cookie = ""

    def _sessions(self) -> Any:  # noqa: ANN401  Sessions; named so to keep the modules apart
        return self.services.console.sessions

    async def find_session(self) -> None:
        """Raises CountersUnavailable."""
        self.session = await self.sessions.find(self.token)

    # --- who

    @property
    def signed_in(self) -> WebSession:
        assert isinstance(self.session, WebSession)  # noqa: S101  views of households and parents run only with one
        return self.session

    @property
    def account_id(self) -> str:
        return self.signed_in.account_id

    @property
    def principal(self) -> Principal:
        sign_in_id = self.signed_in.sign_in_id or None
        return Principal(self.account_id, Role.PARENT, FAR_FUTURE_S, sign_in_id=sign_in_id)

    @property
    def actor(self) -> Actor:
        return Actor(self.account_id, self.principal.actor)

    @property
    def at_ms(self) -> int:
        return self.services.clock()

    @property
    def now(self) -> datetime:
        return utc(self.at_ms)

    async def is_unlocked(self) -> bool:
        """Whether this browser holds parents' rights. Raises CountersUnavailable."""
        session = self.session
        if not isinstance(session, WebSession) or not session.pin_token or self.at_ms >= session.unlocked_until_ms:
            return False
        is_unlocked: bool = await self.services.pins.is_unlocked(session.account_id, session.pin_token)
        return is_unlocked

    async def unlock(self, pin: str) -> None:
        """Parents' rights for a right PIN. Raises what ``Pins.unlock`` raises."""
        pin_token = await self.services.pins.unlock(self.account_id, pin)
        await self._keep(pin_token=pin_token, unlocked_until_ms=self.at_ms + UNLOCK_SECONDS * 1000)

    async def lock(self) -> None:
        await self._keep(pin_token="", unlocked_until_ms=0)

    async def flash(self, text: str, *, undo: str = "", kind: str = "done") -> None:
        """Say something on the next page."""
        await self._keep(flash=Flash(text=text, undo=undo, kind=kind))

    async def keep_receipt(self, receipt: ErasureReceipt) -> None:
        """Show a receipt on the page of receipts."""
        await self._keep(receipt=receipt)

    async def _keep(self, **changes: object) -> None:
        assert self.session is not None  # noqa: S101  as for ``signed_in``
        self.session = msgspec.structs.replace(self.session, **changes)
        await self.sessions.replace(self.token, self.session)

    async def profiles(self) -> list[Profile]:
        """Everybody of the household. Raises DatabaseUnavailable."""
        return await self.services.members.of_account(self.account_id)

    async def profile(self, profile_id: str) -> Profile:
        """One of them. Raises ProfileAccessDenied."""
        for profile in await self.profiles():
            if profile.id == profile_id:
                return profile
        raise ProfileAccessDenied

    @property
    def profile_id(self) -> str:
        profile_id: str = self.request.path_params["profile_id"]
        return profile_id

    # --- forms

    @property
    def browser_cookie(self) -> str:
        """What ties forms to this browser: its session, or before there is one a cookie of its own."""
        if self.session is not None:
            return self.token
        if not self._form_cookie:
            self._form_cookie = self._new_form_cookie = secrets.token_urlsafe(32)
        return self._form_cookie

    def is_csrf_safe(self, *, before_signing_in: bool) -> bool:
        """Whether the form that was sent stood on a page of this browser.

        Those for signing in may be from before: sent twice, the second comes when the first has signed in.
        """
        cookies = [self.token] if self.session is not None else []
        if self._form_cookie and (before_signing_in or self.session is None):
            cookies.append(self._form_cookie)
        token = self.form.get("csrf", "")
        return any(self.sessions.is_csrf_token(cookie, token) for cookie in cookies)

    @property
    def form_key(self) -> str | None:
        """The idempotency key of the form that was sent."""
        key = self.form.get("once", "")
        return key if _KEY.fullmatch(key) else None

    @property
    def next_path(self) -> str:
        """Where to go on to, within this host."""
        return local_path(self.form.get("next") or self.request.query_params.get("next"), self.home)

    @property
    def came_from(self) -> str:
        """The page on which a form stood."""
        referer = address_parts(self.request.headers.get("referer", ""))
        return local_path(referer.path + (f"?{referer.query}" if referer.query else ""), self.home)

    @property
    def origin(self) -> str:
        """This host as the browser names it with a form, which a proxy in front cannot hide."""
        url = self.request.url
        return self.request.headers.get("origin") or f"{url.scheme}://{url.netloc}"

    async def errors_of(self, error: HourglassError | FormRefused, *, pin_field: str = "pin") -> dict[str, str]:
        """Translated messages by field. Raises the error itself when it is no form's matter."""
        found = error.errors if isinstance(error, FormRefused) else refusal(error, pin_field=pin_field)
        if found is None:
            raise error
        if isinstance(error, Locked):
            return dict.fromkeys(found, await self._locked(error))
        return {field: self.t(text) for field, text in found.items()}

    async def _locked(self, error: Locked) -> str:
        seconds = int(error.headers.get("Retry-After", "0"))
        zone = "UTC"
        if self.session is not None:
            with contextlib.suppress(DatabaseUnavailable):
                zone = next((profile.timezone for profile in await self.profiles()), zone)
        return self.t("Too many wrong tries. Try again at %(time)s (%(zone)s), in %(duration)s.") % {
            "time": self.words.time(self.at_ms + (seconds + 59) * 1000, zone),
            "zone": zone,
            "duration": self.words.duration(seconds + 59),
        }

    # --- answers

    def render(self, template: str, *, status: int = 200, **values: object) -> Response:
        """A page."""
        response = HTMLResponse(self.text(template, **values), status_code=status)
        return self.finish(response)

    async def page(self, template: str, *, status: int = 200, **values: object) -> Response:
        """A page for a signed-in household, with what the last form had to say."""
        flash = self.session.flash if self.session is not None else None
        if flash is not None:
            await self._keep(flash=None)
        is_unlocked = isinstance(self.session, WebSession) and self.at_ms < self.session.unlocked_until_ms
        return self.render(template, status=status, flash=flash, is_unlocked=is_unlocked, **values)

    def text(self, template: str, **values: object) -> str:
        base: dict[str, object] = {
            "errors": {},
            "values": {},
            "flash": None,
            "is_unlocked": False,
            "visit": self,
            "session": self.session if isinstance(self.session, WebSession) else None,
            "path": self.request.url.path,
            "here": local_path(self.request.url.path),
            "home": self.home,
            "language_path": self.language_path,
            "language": self.language,
            "languages": i18n.LANGUAGES,
            "words": self.words,
            "now": self.now,
            "is_insecure": self.request.url.scheme == "http" and not is_plain_loopback(self.request),
        }
        return _environment(self.language).get_template(template).render(base | values)

    def csrf(self) -> str:
        token: str = self.sessions.csrf_token(self.browser_cookie)
        return token

    @staticmethod
    def once() -> str:
        return secrets.token_hex(16)

    def redirect(self, path: str) -> Response:
        """Go on with GET: reloading the page that follows repeats nothing."""
        return self.finish(RedirectResponse(path, status_code=303))

    def finish(self, response: Response) -> Response:
        """Add the cookie that forms without a session need."""
        if self._new_form_cookie:
            set_cookie(response, self.request, FORM_COOKIE, self._new_form_cookie)
        return response

    async def signed_in_response(self, tokens: HouseholdTokens, *, email: str, path: str) -> Response:
        """Begin a session under a fresh token, whatever the browser came with. Raises CountersUnavailable."""
        session = WebSession(
            account_id=tokens.account_id, email=email, signed_in_ms=self.at_ms, sign_in_id=tokens.sign_in_id
        )
        return await self.begin_session(session, path=path)

    async def begin_session(
        self, session: WebSession | CaregiverSession, *, path: str, max_age: int | None = None
    ) -> Response:
        """Begin a session under a fresh token in place of the one before. Raises CountersUnavailable."""
        if self.session is not None:
            await self.sessions.end(self.token, self.session)
        response = RedirectResponse(path, status_code=303)
        set_cookie(response, self.request, self.cookie, await self.sessions.begin(session), max_age=max_age)
        return response

    def signed_out_response(self) -> Response:
        return self.signed_out(RedirectResponse(self.entrance, status_code=303))

    def signed_out(self, response: Response) -> Response:
        """Let the browser forget its session."""
        delete_cookie(response, self.request, self.cookie)
        return response


def to_sign_in(path: str) -> str:
    return "/sign-in" if path == "/" else f"/sign-in?next={quote(path)}"


def _tint(name: str) -> int:
    """Which of the six colours stands behind an initial."""
    return crc32(name.encode()) % 6


@cache
def _environment(language: str) -> Environment:
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=["jinja2.ext.i18n"],
        auto_reload=False,
    )
    found: dict[str, Any] = {"asset": lambda name: assets()[name], "iso": words.iso, "tint": _tint}
    environment.globals.update(found)
    environment.install_gettext_translations(i18n.translations(language), newstyle=True)  # type: ignore[attr-defined]
    return environment
