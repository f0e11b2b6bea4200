"""The hot path as plain ASGI callables, beside FastAPI: no routing, no models, no dependency graph per heartbeat."""

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

import msgspec
import structlog

from app.auth.tokens import Principal, Role
from app.domain.accounting import Outcome
from app.errors import (
    Forbidden,
    HourglassError,
    InvalidInput,
    Malformed,
    MethodNotAllowed,
    ProfileAccessDenied,
    Unauthenticated,
    Unexpected,
)
from app.requests import ClientGone, Receive, misfit, read_body, require_printable
from app.viewing.policies import Met
from app.viewing.schemas import MAX_BATCH, BatchRequest, EndRequest, HeartbeatRequest, RawBatch
from app.viewing.service import Ready, ViewingService

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

log = structlog.get_logger(__name__)

Decoded = TypeVar("Decoded")

_decode_beat = msgspec.json.Decoder(HeartbeatRequest).decode
_decode_end = msgspec.json.Decoder(EndRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode
_split_batch = msgspec.json.Decoder(RawBatch).decode
_NDJSON = b"application/x-ndjson"
_encode = msgspec.json.Encoder().encode
SUCCESS_HEADERS = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_PROBLEM = (b"content-type", b"application/problem+json")
_SESSION_ID = re.compile("[0-9a-f-]{36}")


Begin = Callable[[bytes | None, bytes, "Reply"], None]
"""Begins to answer a request that has arrived whole: its ``Authorization``, its body, and where the answer goes."""


class PrincipalReader(Protocol):
    def principal_of(self, authorization: bytes) -> Principal:
        """Whom a header speaks for. Raises Unauthenticated."""
        ...


class Reply(Protocol):
    """Where one answer goes. The client may be gone by then."""

    def answer(self, body: bytes) -> None: ...

    def refuse(self, error: HourglassError) -> None: ...


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
        self.body_limit_bytes = body_limit_bytes
        self._body_timeout_seconds = body_timeout_seconds
        self._answering: set[asyncio.Task[None]] = set()

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(headers={"Allow": "POST"})  # noqa: TRY301  it is answered below
            principal = self._authenticate(scope)
            body = await read_body(
                receive, limit_bytes=self.body_limit_bytes, timeout_seconds=self._body_timeout_seconds
            )
            answer = await self._answer(principal, body, scope)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  named below
            await _refuse(send, _refusal_of(error))
        else:
            body = _encode(answer)
            headers = [*SUCCESS_HEADERS, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def begin(self, authorization: bytes | None, body: bytes, reply: Reply) -> None:
        """Answer a beat that has arrived whole, through ``reply``: without a task where only the counters are asked."""
        try:
            principal = self._principal(authorization)
            request = decode_beat(body)
            ready = self._service.ready(principal, request)
            if ready is not None:
                self._service.count(ready, partial(self._conclude, reply, ready))
            else:
                self._service.meet(request, partial(self._met, reply, principal, request))
        except Exception as error:  # noqa: BLE001  named below
            reply.refuse(_refusal_of(error))

    def _met(
        self,
        reply: Reply,
        principal: Principal,
        request: HeartbeatRequest,
        met: Met | None,
        error: BaseException | None,
    ) -> None:
        """Count a beat whose profile is known by now."""
        if met is None:
            reply.refuse(_refusal_of(error))
            return
        known, is_new = met
        try:
            ready = self._service.ready(principal, request)
            if ready is not None:
                self._service.count(ready, partial(self._conclude, reply, ready, is_new=is_new))
            elif known is None:
                reply.refuse(ProfileAccessDenied())
            else:
                self._go_on(self._service.beat(principal, request), reply)
        except Exception as failure:  # noqa: BLE001  likewise
            reply.refuse(_refusal_of(failure))

    def _conclude(
        self,
        reply: Reply,
        ready: Ready,
        outcome: Outcome | None,
        error: BaseException | None,
        *,
        is_new: bool = False,
    ) -> None:
        """Answer a beat that was counted, or could not be."""
        if outcome is None:
            reply.refuse(_refusal_of(error))
            return
        try:
            answer = self._service.answer_at_once(ready, outcome)
            if answer is not None:
                reply.answer(_encode(answer))
            else:
                self._go_on(self._service.conclude(ready, outcome, is_new=is_new), reply)
        except Exception as failure:  # noqa: BLE001  likewise
            reply.refuse(_refusal_of(failure))

    def _go_on(self, answering: Coroutine[Any, Any, object], reply: Reply) -> None:
        """Answer with what a coroutine will return."""

        async def answered() -> None:
            try:
                reply.answer(_encode(await answering))
            except Exception as error:  # noqa: BLE001  likewise
                reply.refuse(_refusal_of(error))

        task = asyncio.get_running_loop().create_task(answered())
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    def _authenticate(self, scope: MutableMapping[str, Any]) -> Principal:
        return self._principal(next((value for name, value in scope["headers"] if name == b"authorization"), None))

    def _principal(self, authorization: bytes | None) -> Principal:
        if authorization is None:
            raise Unauthenticated
        principal = self._tokens.principal_of(authorization)
        if principal.role not in self.callers:
            raise Forbidden
        return principal

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:  # noqa: ARG002
        return self._service.beat(principal, decode_beat(body))


class EndEndpoint(HeartbeatEndpoint):
    """``POST /viewing-time/session/{session_id}/end``: as frequent as the opening of a session."""

    def begin_for(self, session_id: str) -> Begin:
        """What begins to end one session."""
        return partial(self._begin_end, session_id)

    def _begin_end(self, session_id: str, authorization: bytes | None, body: bytes, reply: Reply) -> None:
        try:
            self._go_on(self._ended(self._principal(authorization), session_id, body), reply)
        except Exception as error:  # noqa: BLE001  named below
            reply.refuse(_refusal_of(error))

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:
        return self._ended(principal, scope["path"].split("/")[-2], body)

    def _ended(self, principal: Principal, session_id: str, body: bytes) -> Coroutine[Any, Any, object]:
        if not _SESSION_ID.fullmatch(session_id):
            raise InvalidInput(
                errors=[{"parameter": "session_id", "in": "path", "detail": "must be the id of a session"}]
            )
        ending = decoded(_decode_end, body) if body else EndRequest()
        return self._service.end(principal, session_id, ending.watched_seconds)


class BatchEndpoint(HeartbeatEndpoint):
    """``POST /viewing-time/heartbeats``: beats of many players, from a gateway; JSON or NDJSON in, JSON out."""

    callers = HeartbeatEndpoint.callers | {Role.SERVICE}

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:
        return self._answers(principal, body, scope)

    async def _answers(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> object:
        media_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        requests = _beats_of_lines(body) if media_type.lower().startswith(_NDJSON) else decode_beats(body)
        sound = [beat for beat in requests if isinstance(beat, HeartbeatRequest)]
        answers = iter(await self._service.beats(principal, sound))
        results = (next(answers) if isinstance(beat, HeartbeatRequest) else beat for beat in requests)
        return {"results": [r.problem() if isinstance(r, HourglassError) else r for r in results]}


def _beats_of_lines(body: bytes) -> list[HeartbeatRequest | HourglassError]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > MAX_BATCH:
        raise InvalidInput(f"A batch holds at most {MAX_BATCH} beats.")
    return [_beat_or_refusal(line) for line in lines]


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
    if not (beat.title_id + beat.device_id).isprintable():
        require_printable(beat.title_id, "/title_id")
        require_printable(beat.device_id, "/device_id")
    return beat


def decode_beats(body: bytes) -> Sequence[HeartbeatRequest | HourglassError]:
    """The beats of a JSON body, in one go; each on its own, beat or refusal, where one is not as it should be.

    Raises:
        Malformed, InvalidInput: the whole is no list of beats, or too long.
    """
    try:
        beats = decoded(_decode_batch, body).beats
    except (Malformed, InvalidInput):
        pass
    else:
        if "".join([beat.title_id + beat.device_id for beat in beats]).isprintable():
            return beats
    return [_beat_or_refusal(beat) for beat in decoded(_split_batch, body).beats]


def decoded(decode: Callable[[bytes | msgspec.Raw], Decoded], body: bytes | msgspec.Raw) -> Decoded:
    """A body as the type that the decoder makes. Raises Malformed or InvalidInput."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise misfit(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed from None


def _refusal_of(error: BaseException | None) -> HourglassError:
    """What a client is told of a failure; the log has what nobody foresaw."""
    if isinstance(error, HourglassError):
        return error
    log.error("heartbeat_failed", exc_info=error)
    return Unexpected()


def problem_of(error: HourglassError) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a refusal."""
    body = _encode(error.problem())
    headers = [_PROBLEM, *SUCCESS_HEADERS[1:], (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return headers, body


async def _refuse(send: Send, error: HourglassError) -> None:
    headers, body = problem_of(error)
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
