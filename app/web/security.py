"""What a browser is told and asked so that nobody else can act in a parent's name."""

import re
from urllib.parse import SplitResult, urlsplit

from starlette.datastructures import Headers
from starlette.requests import HTTPConnection
from starlette.responses import Response

from app.web.assets import PREFIX

SESSION_COOKIE = "hourglass"
CAREGIVER_COOKIE = "hourglass-caregiver"
FORM_COOKIE = "hourglass-form"
LANGUAGE_COOKIE = "hourglass-language"
YEAR_SECONDS = 365 * 86_400
_HOST_PREFIX = "__Host-"
_LOOPBACK = re.compile(r"(localhost|127(?:\.\d{1,3}){3}|\[::1\])(?::\d{1,5})?", re.IGNORECASE)
_MAX_PATH = 500

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "manifest-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    # Not "no-referrer": with it browsers send "Origin: null" with forms, which says nothing.
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=()",
}


def is_plain_loopback(connection: HTTPConnection) -> bool:
    """Whether this is plain http to this very machine: nobody can listen, and browsers keep no secure cookies there."""
    return connection.url.scheme == "http" and _LOOPBACK.fullmatch(connection.headers.get("host", "")) is not None


def cookie_name(connection: HTTPConnection, name: str) -> str:
    """A cookie's name. The prefix makes browsers refuse it from anywhere but this host over https."""
    return name if is_plain_loopback(connection) else _HOST_PREFIX + name


def cookie_of(connection: HTTPConnection, name: str) -> str:
    return connection.cookies.get(cookie_name(connection, name), "")


def set_cookie(
    response: Response, connection: HTTPConnection, name: str, value: str, *, max_age: int | None = None
) -> None:
    """Set a cookie; without ``max_age`` it lasts until the browser is closed."""
    response.set_cookie(
        cookie_name(connection, name),
        value,
        max_age=max_age,
        path="/",
        secure=not is_plain_loopback(connection),
        httponly=True,
        samesite="lax",
    )


def delete_cookie(response: Response, connection: HTTPConnection, name: str) -> None:
    response.delete_cookie(
        cookie_name(connection, name),
        path="/",
        secure=not is_plain_loopback(connection),
        httponly=True,
        samesite="lax",
    )


def address_parts(text: str) -> SplitResult:
    """The parts of an address that a browser sent; all are empty if it is no address."""
    try:
        return urlsplit(text)
    except ValueError:
        return SplitResult("", "", "", "", "")


def is_same_origin(headers: Headers) -> bool:
    """Whether a form was sent from a page of this host: by ``Origin``, else by what else the browser says.

    Schemes are not compared: a proxy in front may have ended TLS.
    """
    host = headers.get("host", "").lower()
    origin = headers.get("origin")
    if origin is not None:
        return bool(host) and address_parts(origin).netloc.lower() == host
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    referer = headers.get("referer")
    return referer is not None and bool(host) and address_parts(referer).netloc.lower() == host


def local_path(path: str | None, default: str = "/") -> str:
    """A path of this host to go on to, or the default: nobody is led elsewhere by a link."""
    if (
        not path
        or len(path) > _MAX_PATH
        or not path.startswith("/")
        or path.startswith(("//", "/\\", PREFIX, "/api/", "/live"))
        or not path.isascii()
        or not path.isprintable()
        or "\\" in path
    ):
        return default
    return path
