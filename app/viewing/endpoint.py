"""The endpoints of heartbeats and session ends: plain ASGI callables beside FastAPI.

They need no routing, no pydantic models and no dependency graph per request. ``begin`` is the fast path for a request
that the connection has read whole; ``__call__`` is the ASGI interface for all other requests.
"""

import asyncio
import contextvars
import re
from collections.abc import Awaitable, Callable, Coroutine, MutableMapping, Sequence
from functools import partial
from typing import Any, TypeVar

import msgspec
import structlog

from app.auth.tokens import Pending, Principal, Role
from app.domain.counters import Outcome
from app.errors import (
    Forbidden,
    HourglassError,
    InvalidInput,
    Malformed,
    MethodNotAllowed,
    Unauthenticated,
    Unexpected,
)
from app.http.requests import API_PREFIX, NDJSON, ClientGone, Receive, read_body, require_printable, validation_problem
from app.observability import context, metrics
from app.observability.context import RequestContext, note_account
from app.viewing.beats import PreparedBeat
from app.viewing.effective_policy import EffectivePolicy
from app.viewing.policy_cache import KnownPolicy
from app.viewing.ports import PrincipalReader, ResponseWriter
from app.viewing.schemas import MAX_BATCH, BatchRequest, EndRequest, HeartbeatRequest, RawBatch
from app.viewing.service import ViewingService

Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

HEARTBEAT_PATH = f"{API_PREFIX}/viewing-time/heartbeat"
END_ROUTE = f"{API_PREFIX}/viewing-time/session/{{session_id}}/end"

log = structlog.get_logger(__name__)

Decoded = TypeVar("Decoded")

_decode_beat = msgspec.json.Decoder(HeartbeatRequest).decode
_decode_end = msgspec.json.Decoder(EndRequest).decode
_decode_batch = msgspec.json.Decoder(BatchRequest).decode
_split_batch = msgspec.json.Decoder(RawBatch).decode
_NDJSON = NDJSON.encode()
_encode = msgspec.json.Encoder().encode
SUCCESS_HEADERS = (
    (b"content-type", b"application/json"),
    (b"cache-control", b"no-store"),
    (b"x-content-type-options", b"nosniff"),
)
_PROBLEM = (b"content-type", b"application/problem+json")
_SESSION_ID = re.compile("[0-9a-f-]{36}")


Begin = Callable[[bytes | None, bytes, "ResponseWriter"], None]
"""Starts to answer a request that was read whole. Takes the ``Authorization`` header, the body and the writer."""
Take = Callable[[object, bytes], bool]
"""Queues what a connection has read, if that is one ordinary heartbeat. Answers whether it did."""


class HeartbeatEndpoint:
    """``POST /viewing-time/heartbeat``.

    Attributes:
        callers: the roles that may call.
        take: the native module's, where it is in use.
    """

    callers: tuple[Role, ...] = (Role.HOUSEHOLD, Role.PARENT)

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
        self.take: Take | None = None

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        try:
            if scope["method"] != "POST":
                raise MethodNotAllowed(headers={"Allow": "POST"})  # noqa: TRY301  the handler below answers it
            principal = await self._authenticate(scope)
            body = await read_body(
                receive, limit_bytes=self.body_limit_bytes, timeout_seconds=self._body_timeout_seconds
            )
            answer = await self._answer(principal, body, scope)
        except ClientGone:
            return
        except Exception as error:  # noqa: BLE001  _refusal_of logs what is unexpected
            await _refuse(send, _refusal_of(error))
        else:
            body = _encode(answer)
            headers = [*SUCCESS_HEADERS, (b"content-length", b"%d" % len(body))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            await send({"type": "http.response.body", "body": body})

    def begin(self, authorization: bytes | None, body: bytes, reply: ResponseWriter) -> None:
        """The fast path: queue a beat whose policy and title are remembered. A coroutine answers any other."""
        try:
            principal = self._principal(authorization)
            request = decode_beat(body)
            ready = self._service.prepare(principal, request)
            if ready is None:
                self._answer_with(self._service.beat(principal, request), reply)
            else:
                self._service.enqueue(ready, partial(self._on_outcome, reply, ready))
        except Pending:
            self._answer_with(self._beat_after_look_up(authorization, body), reply)
        except Exception as error:  # noqa: BLE001  _refusal_of logs what is unexpected
            reply.refuse(_refusal_of(error))

    def resume(
        self,
        reply: ResponseWriter,
        *,
        body: bytes,
        known: KnownPolicy,
        effective: EffectivePolicy,
        is_educational: bool,
        outcome: Outcome | None,
        error: BaseException | None,
    ) -> None:
        """Go on with a beat that the native module has queued and does not answer."""
        try:
            ready = self._service.prepare_again(known, effective, decode_beat(body), is_educational=is_educational)
        except Exception as failure:  # noqa: BLE001  likewise
            reply.refuse(_refusal_of(failure))
        else:
            self._on_outcome(reply, ready, outcome, error)

    async def _beat_after_look_up(self, authorization: bytes | None, body: bytes) -> object:
        """The answer to a beat whose token names a key or an account that must be looked up first."""
        return await self._service.beat(await self._looked_up_principal(authorization), decode_beat(body))

    def _on_outcome(
        self, reply: ResponseWriter, ready: PreparedBeat, outcome: Outcome | None, error: BaseException | None
    ) -> None:
        if outcome is None:
            reply.refuse(_refusal_of(error))
            return
        try:
            answer = self._service.try_fast_response(ready, outcome)
            if answer is None:
                self._answer_with(self._service.finish_slow_path(ready, outcome), reply)
            else:
                reply.answer(_encode(answer))
        except Exception as failure:  # noqa: BLE001  likewise
            reply.refuse(_refusal_of(failure))

    def _answer_with(self, answering: Coroutine[Any, Any, object], reply: ResponseWriter) -> None:
        """Run a coroutine and write its result or its error to ``reply``."""

        async def answer() -> None:
            try:
                reply.answer(_encode(await answering))
            except Exception as error:  # noqa: BLE001  likewise
                reply.refuse(_refusal_of(error))

        # A context of its own: a batch serves many requests, and this task must not log or trace as another one.
        task = asyncio.get_running_loop().create_task(answer(), context=contextvars.Context())
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _authenticate(self, scope: MutableMapping[str, Any]) -> Principal:
        authorization = next((value for name, value in scope["headers"] if name == b"authorization"), None)
        principal = await self._looked_up_principal(authorization)
        note_account(principal.account_id)
        return principal

    def _principal(self, authorization: bytes | None) -> Principal:
        if authorization is None:
            raise Unauthenticated
        return self._admitted(self._tokens.principal_of(authorization))

    async def _looked_up_principal(self, authorization: bytes | None) -> Principal:
        if authorization is None:
            raise Unauthenticated
        return self._admitted(await self._tokens.authenticate(authorization))

    def _admitted(self, principal: Principal) -> Principal:
        if principal.role not in self.callers:
            raise Forbidden
        return principal

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:  # noqa: ARG002
        return self._service.beat(principal, decode_beat(body))


class EndEndpoint(HeartbeatEndpoint):
    """``POST /viewing-time/session/{session_id}/end``. It is as frequent as the opening of a session."""

    def begin_for(self, session_id: str) -> Begin:
        """``begin`` for the end of one session."""
        return partial(self._begin_end, session_id)

    def _begin_end(self, session_id: str, authorization: bytes | None, body: bytes, reply: ResponseWriter) -> None:
        try:
            self._answer_with(self._end_session(self._principal(authorization), session_id, body), reply)
        except Pending:
            self._answer_with(self._end_after_look_up(authorization, session_id, body), reply)
        except Exception as error:  # noqa: BLE001  _refusal_of logs what is unexpected
            reply.refuse(_refusal_of(error))

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:
        return self._end_session(principal, scope["path"].split("/")[-2], body)

    async def _end_after_look_up(self, authorization: bytes | None, session_id: str, body: bytes) -> object:
        return await self._end_session(await self._looked_up_principal(authorization), session_id, body)

    def _end_session(self, principal: Principal, session_id: str, body: bytes) -> Coroutine[Any, Any, object]:
        if not _SESSION_ID.fullmatch(session_id):
            raise InvalidInput(
                errors=[{"parameter": "session_id", "in": "path", "detail": "must be the id of a session"}]
            )
        ending = decoded(_decode_end, body) if body else EndRequest()
        return self._service.end(principal, session_id, ending)


class BatchEndpoint(HeartbeatEndpoint):
    """``POST /viewing-time/heartbeats``: many beats from a gateway. Takes JSON or NDJSON, answers JSON."""

    callers = (*HeartbeatEndpoint.callers, Role.SERVICE)

    def _answer(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> Awaitable[object]:
        return self._answer_batch(principal, body, scope)

    async def _answer_batch(self, principal: Principal, body: bytes, scope: MutableMapping[str, Any]) -> object:
        media_type = next((value for name, value in scope["headers"] if name == b"content-type"), b"")
        requests = _decode_lines(body) if media_type.lower().startswith(_NDJSON) else decode_beats(body)
        valid = [beat for beat in requests if isinstance(beat, HeartbeatRequest)]
        answers = iter(await self._service.beats(principal, valid))
        results = (next(answers) if isinstance(beat, HeartbeatRequest) else beat for beat in requests)
        return {"results": [_refusal_of(r).problem() if isinstance(r, HourglassError) else r for r in results]}


def _decode_lines(body: bytes) -> list[HeartbeatRequest | HourglassError]:
    lines = [line for line in body.split(b"\n") if line.strip()]
    if len(lines) > MAX_BATCH:
        raise InvalidInput(f"A batch holds at most {MAX_BATCH} beats.")
    return [_decode_or_refuse(line) for line in lines]


def _decode_or_refuse(raw: bytes | msgspec.Raw) -> HeartbeatRequest | HourglassError:
    try:
        return decode_beat(raw)
    except HourglassError as error:
        return error


def decode_beat(body: bytes | msgspec.Raw) -> HeartbeatRequest:
    """Decode a heartbeat from JSON.

    Raises:
        Malformed: the body is not JSON.
        InvalidInput: the JSON is not a heartbeat. The problem names the field.
    """
    beat = decoded(_decode_beat, body)
    if not (beat.title_id + beat.device_id).isprintable():
        require_printable(beat.title_id, "/title_id")
        require_printable(beat.device_id, "/device_id")
    return beat


def decode_beats(body: bytes) -> Sequence[HeartbeatRequest | HourglassError]:
    """Decode the beats of a JSON body: all at once, or one by one with a refusal for each invalid one.

    Raises:
        Malformed, InvalidInput: the body is not a list of beats, or the list is too long.
    """
    try:
        beats = decoded(_decode_batch, body).beats
    except (Malformed, InvalidInput):
        pass
    else:
        if "".join([beat.title_id + beat.device_id for beat in beats]).isprintable():
            return beats
    return [_decode_or_refuse(beat) for beat in decoded(_split_batch, body).beats]


def decoded(decode: Callable[[bytes | msgspec.Raw], Decoded], body: bytes | msgspec.Raw) -> Decoded:
    """Decode a body. Raises Malformed or InvalidInput."""
    try:
        return decode(body)
    except msgspec.ValidationError as error:
        raise validation_problem(error) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Malformed from None


def _refusal_of(error: BaseException | None) -> HourglassError:
    """The refusal for an error. Unexpected errors are logged, and the client gets a general one."""
    if isinstance(error, HourglassError):
        metrics.BEAT_OUTCOMES.labels(error.code).inc()
        return error
    metrics.BEAT_OUTCOMES.labels(Unexpected.code).inc()
    log.error("heartbeat_failed", exc_info=error)
    return Unexpected()


def problem_of(error: HourglassError, request: RequestContext) -> tuple[list[tuple[bytes, bytes]], bytes]:
    """Headers and body of a refusal."""
    request.code = error.code
    body = _encode({**error.problem(), **request.members()})
    headers = [_PROBLEM, *SUCCESS_HEADERS[1:], (b"content-length", b"%d" % len(body))]
    headers += [(name.lower().encode(), value.encode()) for name, value in error.headers.items()]
    return headers, body


async def _refuse(send: Send, error: HourglassError) -> None:
    headers, body = problem_of(error, context.current() or context.identify(()))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
