"""Turn every error into a problem (RFC 9457), for any input.

No problem contains input of the client. ``app/errors.py`` defines the expected errors. The guard wraps every FastAPI
route: it limits bodies in size and time, validates JSON, reports unexpected errors, and sets the common headers.
Heartbeats do not pass it; ``app/viewing/endpoint.py`` answers them.
"""

from collections.abc import Awaitable, Callable, Collection, Mapping, MutableMapping
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from app.errors import (
    HourglassError,
    InvalidInput,
    Malformed,
    MethodNotAllowed,
    NotFound,
    TooLarge,
    Unexpected,
    UnsupportedMediaType,
)
from app.http.requests import ClientGone, Receive, at_pointer, check_json, read_body
from app.observability import context

Message = MutableMapping[str, Any]
Scope = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

log = structlog.get_logger(__name__)

MEDIA_TYPE = "application/problem+json"
_SECURITY_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
_HARMLESS = frozenset(
    {
        "missing", "string_type", "string_too_short", "string_too_long", "int_type", "int_from_float",
        "int_parsing", "bool_type", "float_type", "greater_than", "greater_than_equal", "less_than",
        "less_than_equal", "multiple_of", "list_type", "tuple_type", "dict_type", "model_attributes_type",
        "model_type", "too_long", "too_short", "literal_error", "enum", "date_type", "value_error",
        "string_pattern_mismatch",
    }
)  # fmt: skip
"""Kinds of validation errors whose message contains no client input."""
_DATE, _INSTANT = "must be a date like 2026-12-24", "must be an instant like 2026-12-24T18:00:00Z"
_EXPECTED = {
    "date_parsing": _DATE, "date_from_datetime_parsing": _DATE, "date_from_datetime_inexact": _DATE,
    "datetime_parsing": _INSTANT, "datetime_from_date_parsing": _INSTANT, "datetime_type": _INSTANT,
    "timezone_aware": _INSTANT, "bool_parsing": "must be true or false", "uuid_parsing": "must be a UUID",
}  # fmt: skip
"""What is said instead of a message that may repeat client input."""


def install(
    app: FastAPI, *, body_limit_bytes: int, body_timeout_seconds: float, streaming_paths: Collection[str]
) -> None:
    """Install the error handlers and the guard on an application.

    Args:
        app: the application.
        body_limit_bytes: maximum size of a body.
        body_timeout_seconds: deadline for a body to arrive.
        streaming_paths: paths whose endpoints read the body themselves with ``app.http.requests.read_body``.
    """
    app.add_exception_handler(HourglassError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_middleware(
        Guard,
        body_limit_bytes=body_limit_bytes,
        body_timeout_seconds=body_timeout_seconds,
        streaming_paths=frozenset(streaming_paths),
    )


def response_of(error: HourglassError) -> Response:
    request = context.current()
    members: dict[str, object] = {}
    if request is not None:
        request.code, members = error.code, request.members()
    return Response(
        msgspec.json.encode({**error.problem(), **members}),
        status_code=error.status,
        headers=error.headers,
        media_type=MEDIA_TYPE,
    )


class Guard:
    """The outermost middleware."""

    def __init__(
        self, app: App, *, body_limit_bytes: int, body_timeout_seconds: float, streaming_paths: frozenset[str]
    ) -> None:
        self._app = app
        self._limit_bytes = body_limit_bytes
        self._timeout_seconds = body_timeout_seconds
        self._self_reading = streaming_paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if context.current() is None:  # no outer middleware has seen the request yet
            context.enter(context.identify(scope["headers"]))
        has_begun = False
        state = scope.setdefault("state", {})

        async def send_guarded(message: Message) -> None:
            nonlocal has_begun
            if message["type"] == "http.response.start":
                has_begun = True
                message["headers"] = _with_headers(message.get("headers", ()), state.get("answer_headers", {}))
            await send(message)

        try:
            guarded = receive if scope["path"] in self._self_reading else await self._checked(scope, receive)
            await self._app(scope, guarded, send_guarded)
        except ClientGone:
            return
        except HourglassError as error:
            if has_begun:
                raise
            await response_of(error)(scope, receive, send_guarded)
        except Exception as error:
            if has_begun:
                raise
            await response_of(_unexpected(error, scope))(scope, receive, send_guarded)

    async def _checked(self, scope: Scope, receive: Receive) -> Receive:
        """Read and check the body, and pass it on as one complete message."""
        headers = dict(scope["headers"])
        declared = headers.get(b"content-length", b"0")
        if declared == b"0" and b"transfer-encoding" not in headers:
            return receive
        if declared.isdigit() and int(declared[:20]) > self._limit_bytes:
            raise TooLarge
        body = await read_body(receive, limit_bytes=self._limit_bytes, timeout_seconds=self._timeout_seconds)
        if body:
            if not is_json(headers.get(b"content-type", b"")):
                raise UnsupportedMediaType
            check_json(body)
        return _replay(body, receive)


def is_json(content_type: bytes) -> bool:
    media_type, _, parameters = content_type.lower().partition(b";")
    charset = parameters.replace(b" ", b"").replace(b'"', b"")
    return media_type.strip() == b"application/json" and charset in {b"", b"charset=utf-8"}


def _replay(body: bytes, receive: Receive) -> Receive:
    is_delivered = False

    async def replayed() -> Message:
        nonlocal is_delivered
        if is_delivered:
            return await receive()
        is_delivered = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replayed


def _with_headers(headers: Collection[tuple[bytes, bytes]], more: Mapping[str, str]) -> list[tuple[bytes, bytes]]:
    """Add the common headers, and headers about the caller.

    A header set by the route wins: the console has a stricter policy, and static files may be cached.
    """
    own = {name.lower() for name, _ in headers}
    found_out = ((name.lower().encode(), value.encode()) for name, value in more.items())
    return [*headers, *(header for header in (*_SECURITY_HEADERS, *found_out) if header[0] not in own)]


def _unexpected(error: Exception, scope: Scope) -> HourglassError:
    request = context.current()
    request_id = None if request is None else request.request_id
    log.error("unexpected_error", request_id=request_id, method=scope["method"], exc_info=error)
    return Unexpected()


async def _refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, HourglassError)  # noqa: S101  registered for this class only
    return response_of(error)


async def _invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)  # noqa: S101  registered for this class only
    return response_of(InvalidInput(errors=[_field_problem(problem) for problem in error.errors()]))


def _field_problem(problem: dict[str, Any]) -> dict[str, str]:
    place, *path = problem["loc"]
    kind = problem["type"]
    if kind == "extra_forbidden":  # the client chose this name, so the problem shows only its position
        return at_pointer(_pointer(path[:-1]), "Unknown fields are not accepted here.")
    detail = _EXPECTED.get(kind, "This value is not accepted.")
    if kind in _HARMLESS:
        detail = problem["msg"].removeprefix("Value error, ")
    if place == "body":
        return at_pointer(_pointer(path), detail)
    return {"parameter": str(path[0]) if path else "", "in": str(place), "detail": detail}


def _pointer(path: Collection[str | int]) -> str:
    return "".join(f"/{str(step).replace('~', '~0').replace('/', '~1')}" for step in path)


async def _http_error(_: Request, error: Exception) -> Response:
    """Problems for errors that the framework raises itself."""
    assert isinstance(error, HTTPException)  # noqa: S101  registered for this class only
    refusal = {404: NotFound, 405: MethodNotAllowed, 413: TooLarge, 415: UnsupportedMediaType}.get(
        error.status_code,
        Malformed if error.status_code < 500 else Unexpected,  # noqa: PLR2004  the first server error
    )()
    refusal.headers |= error.headers or {}
    return response_of(refusal)
