"""The hot path as a plain ASGI callable, beside FastAPI: no routing, no models, no dependency graph per heartbeat."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from app.auth.tokens import Principal, Role
from app.errors import Forbidden, HourglassError, InvalidInput, Malformed, Unauthenticated, Unexpected
from app.requests import ClientGone, Receive, read_body, unacceptable_text
from app.viewing.schemas import MAX_BATCH, BatchRequest, HeartbeatRequest
from app.viewing.service import ViewingService

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)

Decoded = TypeVar("Decoded")

_decode_beat = msgspec.json.Decoder(HeartbeatRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode
_NDJSON = b"application/x-ndjson"
_encode = msgspec.json.Encoder().encode
_HEADERS = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_PROBLEM = (b"content-type", b"application/problem+json")


class PrincipalReader(Protocol):
    def principal_of(self, authorization: bytes) -> Principal:
        """Whom a header speaks for. Raises Unauthenticated."""
        ...


class HeartbeatEndpoint:
    """``POST /viewing-time/heartbeat``.

    ``callers`` are the roles that may call.
    """

    callers = frozenset({Role.HOUSEHOLD, Role.PARENT})

    def __init__(
        self,
        *,
        service: ViewingService,
        tokens: PrincipalReader,
        body_limit_bytes: int,
        body_timeout_seconds: float,
    ) -> None:
        self._service = service
        self._tokens = tokens
        self._body_limit_bytes = body_limit_bytes
        self._body_timeout_seconds = body_timeout_seconds

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            principal = self._authenticate(scope)
            body = await read_body(
                receive, limit_bytes=self._body_limit_bytes, timeout_seconds=self._body_timeout_seconds
            )
            answer = await self._answer(principal, body, scope)
        except HourglassError as error:
            await _refuse(send, error)
        except ClientGone:
            return
        except Exception as error:
            log.exception("heartbeat_failed", exc_info=error)
            await _refuse(send, Unexpected())
        else:
            body = _encode(answer)
            headers = [*_HEADERS, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def _authenticate(self, scope: MutableMapping[str, Any]) -> Principal:
        for name, value in scope["headers"]:
            if name == b"authorization":
                principal = self._tokens.principal_of(value)
                if principal.role not in self.callers:
                    raise Forbidden
                return principal
        raise Unauthenticated

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:  # noqa: ARG002
        return self._service.beat(principal, decode_beat(body))


class BatchEndpoint(HeartbeatEndpoint):
    """``POST /viewing-time/heartbeats``: beats of many players, from a gateway; JSON or NDJSON in, JSON out."""

    callers = HeartbeatEndpoint.callers | {Role.SERVICE}

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:
        return self._answers(principal, body, scope)

    async def _answers(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> object:
        media_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        beats = _split_lines(body) if media_type.startswith(_NDJSON) else decoded(_decode_batch, body).beats
        requests = [_beat_or_refusal(beat) for beat in beats]
        sound = [beat for beat in requests if isinstance(beat, HeartbeatRequest)]
        answers = iter(await self._service.beats(principal, sound))
        results = (next(answers) if isinstance(beat, HeartbeatRequest) else beat for beat in requests)
        return {"results": [r.problem() if isinstance(r, HourglassError) else r for r in results]}


def _split_lines(body: bytes) -> list[bytes]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > MAX_BATCH:
        raise InvalidInput(f"A batch holds at most {MAX_BATCH} beats.")
    return lines


def _beat_or_refusal(raw: bytes | msgspec.Raw) -> HeartbeatRequest | HourglassError:
    try:
        return decode_beat(raw)
    except HourglassError as error:
        return error


def decode_beat(body: bytes | msgspec.Raw) -> HeartbeatRequest:
    """A heartbeat from its JSON.

    Raises:
        Malformed: not JSON.
        InvalidInput: JSON, but not a heartbeat; with a pointer to the field.
    """
    beat = decoded(_decode_beat, body)
    require_printable(beat.title_id, "/title_id")
    require_printable(beat.device_id, "/device_id")
    return beat


def require_printable(text: str, pointer: str) -> None:
    """Refuse NUL and other control characters, which no database takes. Raises InvalidInput."""
    if not text.isprintable():
        raise unacceptable_text(pointer)


def decoded(decode: Callable[[bytes | msgspec.Raw], Decoded], body: bytes | msgspec.Raw) -> Decoded:
    """A body as the type that the decoder makes. Raises Malformed or InvalidInput."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise invalid(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed from None


def invalid(error: msgspec.ValidationError) -> InvalidInput:
    """The problem for a value that does not fit; msgspec tells the place as `$.field`, and echoes no value."""
    detail, _, place = str(error).partition(" - at `$")
    pointer = place.rstrip("`").replace(".", "/").replace("[", "/").replace("]", "")
    return InvalidInput(errors=[{"pointer": pointer, "detail": detail}])


async def _refuse(send: Send, error: HourglassError) -> None:
    body = _encode(error.problem())
    headers = [_PROBLEM, *_HEADERS[1:], (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
