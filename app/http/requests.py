"""Shared request helpers: path prefix, reading bodies, writing responses, checking JSON."""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Generator, Iterator, MutableMapping
from datetime import datetime
from typing import Annotated, Any, NoReturn

import msgspec
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, PlainSerializer, WithJsonSchema
from starlette.requests import Request
from starlette.responses import Response

from app.domain.viewing_day import TIMEZONES
from app.errors import BodyTimeout, HourglassError, InvalidInput, Malformed, TooLarge, UnsupportedMediaType
from app.timestamps import ms_of, rfc3339

Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]

API_PREFIX = "/api/v1"
"""Prefix of every path except health and metrics."""
NDJSON = "application/x-ndjson"
"""The media type of one JSON value a line."""
MAX_DEPTH = 32
_MAX_DIGITS = 20
_MAX_ZONE = 50
_PLACE = re.compile(r" - at `\$(?P<path>[^`]*)`$")
_STEP = re.compile(r"\[(\d+|\.\.\.)\]|\.(\w+)")
_ECHOES = {
    "Object contains unknown field": "Unknown fields are not accepted here.",
    "Invalid enum value": "This value is not accepted.",
}
"""Beginnings of msgspec messages that repeat client input, and their replacements."""
_UNACCEPTABLE = re.compile("[\x00\ud800-\udfff]")


class ClientGone(Exception):
    """The client closed the connection before its body was complete."""


class RequestModel(BaseModel):
    """A request body: unknown fields and values of another JSON type are refused."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


def _known_zone(value: str) -> str:
    if len(value) > _MAX_ZONE or value not in TIMEZONES:
        raise ValueError("must be a time zone of the IANA list")
    return value


def _printable(value: str) -> str:
    if not value.strip() or any(letter < " " or letter == "\x7f" for letter in value):
        raise ValueError("must be a name without control characters")
    return value.strip()


Name = Annotated[str, Field(max_length=100, examples=["Ada"]), AfterValidator(_printable)]
"""The name of a profile or a device."""


def _rfc3339(at: datetime) -> str:
    return rfc3339(ms_of(at))


Instant = Annotated[
    datetime,
    PlainSerializer(_rfc3339, return_type=str, when_used="json"),
    WithJsonSchema({"type": "string", "format": "date-time"}),
]
"""An instant in a pydantic response, formatted like all others."""

Timezone = Annotated[str, AfterValidator(_known_zone)]
"""An IANA zone name, e.g. ``Europe/Oslo``."""


def as_json(answer: msgspec.Struct) -> Response:
    """A response whose type FastAPI does not check; `app.server.openapi` documents it."""
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def read_body(receive: Receive, *, limit_bytes: int, timeout_seconds: float) -> bytes:
    """Read the whole body.

    Raises:
        TooLarge: the body exceeds ``limit_bytes``; the rest is not read.
        BodyTimeout: the body was incomplete at the deadline.
        ClientGone: the client closed the connection.
    """
    # A small body usually arrives together with its head, like nearly every heartbeat. It needs no deadline timer.
    first = EagerAwaitable(receive())
    if first.is_done and not first.result.get("more_body", False):
        return _chunk(first.result, limit_bytes)
    try:
        async with asyncio.timeout(timeout_seconds):
            message = await first
            chunks = [_chunk(message, limit_bytes)]
            size = len(chunks[0])
            while message.get("more_body", False):
                message = await receive()
                chunks.append(_chunk(message, limit_bytes - size))
                size += len(chunks[-1])
    except TimeoutError:
        raise BodyTimeout from None
    return b"".join(chunks)


async def read_bulk(request: Request) -> tuple[str, bytes]:
    """Read a bulk upload: its media type, which is JSON or NDJSON, and its body.

    Raises:
        UnsupportedMediaType: it is neither; nothing was read.
        TooLarge, BodyTimeout, ClientGone: as for ``read_body``.
    """
    settings = request.app.state.services.settings
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type not in {"application/json", NDJSON}:
        raise UnsupportedMediaType
    body = await read_body(
        request.receive, limit_bytes=settings.bulk_body_limit_bytes, timeout_seconds=settings.body_timeout_seconds
    )
    return media_type, body


def _chunk(message: MutableMapping[str, Any], limit_bytes: int) -> bytes:
    if message["type"] == "http.disconnect":
        raise ClientGone
    chunk: bytes = message.get("body", b"")
    if len(chunk) > limit_bytes:
        raise TooLarge
    return chunk


class EagerAwaitable:
    """A coroutine that runs eagerly until its first suspension; awaiting it continues from there.

    Attributes:
        is_done: whether it finished without suspending.
        result: its return value, once it is done.
    """

    __slots__ = ("_coroutine", "_waits_for", "is_done", "result")

    def __init__(self, coroutine: Awaitable[Any]) -> None:
        self._coroutine: Any = coroutine.__await__()
        self.is_done = False
        self.result: Any = None
        self._waits_for: Any = None
        try:
            self._waits_for = next(self._coroutine)
        except StopIteration as done:
            self.is_done, self.result = True, done.value

    def __await__(self) -> Generator[Any, Any, Any]:
        if self.is_done:
            return self.result
        # Pass the awaited object to the event loop as the coroutine itself would.
        try:
            yield self._waits_for
        except BaseException:
            self._coroutine.close()
            raise
        return (yield from self._coroutine)


def check_json(body: bytes) -> None:
    """Check JSON by RFC 8259 and the limits of the service, before any other code reads it.

    Raises:
        Malformed: not UTF-8, not JSON, NaN or numbers beyond 64 bits, repeated names, nested too deeply.
        InvalidInput: a text contains NUL or an unpaired surrogate, which databases reject.
    """
    try:
        value = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_refuse,
            parse_float=_finite,
            parse_int=_bounded,
        )
    except (ValueError, RecursionError):
        raise Malformed from None
    for pointer, text in _texts(value):
        if _UNACCEPTABLE.search(text):
            raise unacceptable_text(pointer)


def unacceptable_text(pointer: str) -> HourglassError:
    detail = "must not hold NUL or unpaired surrogates"
    return InvalidInput(errors=[at_pointer(pointer, detail)])


def at_pointer(pointer: str, detail: str) -> dict[str, str]:
    """What is wrong at a place of a body. The whole body needs no pointer."""
    return {"pointer": pointer, "detail": detail} if pointer else {"detail": detail}


def require_printable(text: str, pointer: str) -> None:
    """Refuse control characters, which databases reject, and look-alike spaces. Raises InvalidInput."""
    if not text.isprintable():
        raise InvalidInput(errors=[{"pointer": pointer, "detail": "must hold printable characters only"}])


def validation_problem(error: msgspec.ValidationError) -> InvalidInput:
    """The problem for an invalid value. It contains the path from the end of the message, and not the value."""
    message = str(error)
    place = _PLACE.search(message)
    pointer = "".join(f"/{index or name}" for index, name in _STEP.findall(place["path"])) if place else ""
    said = (instead for beginning, instead in _ECHOES.items() if message.startswith(beginning))
    return InvalidInput(errors=[at_pointer(pointer, next(said, _PLACE.sub("", message)))])


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("repeated name")
    return value


def _refuse(_: str) -> NoReturn:
    raise ValueError("not a JSON number")


def _finite(digits: str) -> float:
    value = float(digits)
    if abs(value) == float("inf"):
        raise ValueError("number out of range")
    return value


def _bounded(digits: str) -> int:
    if len(digits) > _MAX_DIGITS:
        raise ValueError("number out of range")
    return int(digits)


def _texts(value: object) -> Iterator[tuple[str, str]]:
    """Yield every text with its JSON pointer, including member names at their position."""
    waiting: list[tuple[str, int, object]] = [("", 0, value)]
    while waiting:
        pointer, depth, item = waiting.pop()
        if depth > MAX_DEPTH:
            raise Malformed
        if isinstance(item, str):
            yield pointer, item
        elif isinstance(item, dict):
            for name, member in item.items():
                yield pointer, name
                waiting.append((f"{pointer}/{name}", depth + 1, member))
        elif isinstance(item, list):
            waiting.extend((f"{pointer}/{place}", depth + 1, member) for place, member in enumerate(item))
