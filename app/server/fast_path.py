"""The HTTP protocol of the server, with deadlines and a fast path for heartbeats and session ends.

uvicorn's protocol makes a scope, a task, an event and two writes per request, and a timer per pause between requests. A
heartbeat needs none of these: once it was read whole, its endpoint gets it, and the answer is one write. All other
requests use uvicorn's protocol: other routes, pipelined requests, cross-origin requests, ``Expect: 100-continue``.

An idle connection is closed after the keep-alive time. A connection whose request head, or heartbeat body, does not
arrive in time is closed too. The readers of other bodies set their own deadlines.
"""

import asyncio
import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from email.utils import formatdate
from itertools import islice
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app.clock import Clock, now_ms
from app.errors import BodyTimeout, HeadTooLarge, HourglassError, TooLarge
from app.observability import metrics
from app.observability.access_log import LOGGED_REFUSALS
from app.observability.context import (
    REQUEST_ID_HEADER,
    TRACEPARENT_HEADER,
    RequestContext,
    identify,
    is_sound_id,
)
from app.observability.requests import CHOICE, Choice
from app.server.known_heads import KnownHeads
from app.viewing.endpoint import END_ROUTE, HEARTBEAT_PATH, SUCCESS_HEADERS, Begin, Take, problem_of
from app.viewing.ports import NativeBeat, ResponseWriter

_MAX_HEAD_BYTES = 32_768
_TICKS_A_ROUND = 10


def _lines(headers: Collection[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


_SUCCESS_LINES = _lines(SUCCESS_HEADERS) + b"content-length: "
_BEAT_URL = HEARTBEAT_PATH.encode()
_ANSWERED_BEATS = metrics.requests_of("POST", HEARTBEAT_PATH, 200)
_ANSWERED_ENDS = metrics.requests_of("POST", END_ROUTE, 200)
_KEEP, _CLOSE = b"", b"connection: close\r\n"


def _nothing(_: bytes | None, __: bytes, ___: ResponseWriter) -> None:
    """The ``begin`` of a request that never arrived whole."""


class _NullEvent:
    """Replaces the event that uvicorn sets for the reader of a request. A heartbeat has no such reader."""

    def set(self) -> None:
        return


class FastRequest:
    """A heartbeat or session end under way. It replaces uvicorn's request cycle."""

    __slots__ = (
        "_began_seconds",
        "_connection",
        "authorization",
        "begin",
        "body",
        "disconnected",
        "headers",
        "keep_alive",
        "more_body",
        "request_id",
        "response_complete",
        "url",
    )
    message_event = _NullEvent()

    def __init__(
        self, connection: "FastPathProtocol", begin: Begin, *, authorization: bytes | None, keep_alive: bool
    ) -> None:
        self._connection = connection
        self.begin = begin
        self.authorization = authorization
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False
        self._began_seconds = 0.0
        self.url, self.headers = connection.url, connection.headers  # those of the next request replace them there
        self.request_id: bytes | None = None

    @property
    def is_usual(self) -> bool:
        """Whether it waits for its answer, keeps its connection, and carries no id or trace of its own."""
        is_waiting = not (self.more_body or self.response_complete)
        names = {name for name, _ in self.headers}
        return is_waiting and self.keep_alive and names.isdisjoint({REQUEST_ID_HEADER, TRACEPARENT_HEADER})

    def start(self) -> None:
        """Pass the request to its endpoint: it was read whole."""
        self.more_body = False
        self._began_seconds = time.perf_counter()
        self.begin(self.authorization, self.body, self)

    def resume(self, began_seconds: float) -> None:
        """Go on with a heartbeat that was read whole, when its native beat began."""
        self.url, self.headers, self.more_body = _BEAT_URL, [], False
        self._began_seconds = began_seconds

    def answer(self, body: bytes) -> None:
        seconds = time.perf_counter() - self._began_seconds
        if seconds > metrics.LATE_SECONDS:
            metrics.LATE_BEATS.count += 1
        (_ANSWERED_BEATS if self.url == _BEAT_URL else _ANSWERED_ENDS).observe(seconds)
        more = _KEEP if self.keep_alive else _CLOSE
        if self.request_id is not None:
            more = b"x-request-id: %b\r\n%b" % (self.request_id, more)
        self._send(b"%b%d\r\n%b\r\n%b" % (FastPathProtocol.success, len(body), more, body))

    def refuse(self, error: HourglassError) -> None:
        request = identify(self.headers)
        headers, body = problem_of(error, request)
        headers.append((REQUEST_ID_HEADER, request.request_id.encode("ascii")))
        if not self.response_complete:
            self._note_refusal(error, request)
        if self.more_body or "Connection" in error.headers:
            self.keep_alive = False  # what may still come is not read
        end = _KEEP if self.keep_alive or "Connection" in error.headers else _CLOSE
        self._send(STATUS_LINE[error.status] + FastPathProtocol.date + _lines(headers) + end + b"\r\n" + body)

    def _note_refusal(self, error: HourglassError, request: RequestContext) -> None:
        seconds = time.perf_counter() - self._began_seconds if self._began_seconds else 0.0
        route = HEARTBEAT_PATH if self.url == _BEAT_URL else END_ROUTE
        metrics.observe_request("POST", route, error.status, seconds)
        metrics.count_late(seconds)
        if error.status in LOGGED_REFUSALS:
            front = self._connection.front
            request.account_id = front.account_of(self.authorization)
            front.access_log.answered(
                request, method="POST", route=route, status=error.status, seconds=seconds, is_chosen=False
            )

    def _send(self, response: bytes) -> None:
        if self.response_complete:
            return
        self.response_complete = True
        connection = self._connection
        if self.disconnected or connection.transport.is_closing():
            return
        connection.transport.write(response)
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


class FastPathProtocol(HttpToolsProtocol):
    """One connection.

    ``config.app.fast_path`` names the requests of the fast path and their endpoints.
    """

    # The interpreter finds attributes quickly in objects of at most 30, and uvicorn's protocol has nearly as many.
    __slots__ = (
        "_beat",
        "_begin_at",
        "_begin_beat",
        "_body_limit_bytes",
        "_choice",
        "_choose",
        "_follows_beat",
        "_head_bytes",
        "_is_idle",
        "_take",
        "_waits_since",
        "front",
        "url",
    )
    now = 0.0
    """Seconds on the loop's clock, as of the last tick: exact enough for deadlines."""
    max_connections = sys.maxsize
    """Most connections of this process. One more is closed at once, to leave descriptors for servers and files."""
    date = b""
    """The ``Date`` line of every answer, renewed once a second."""
    success = STATUS_LINE[200] + _SUCCESS_LINES
    """The head of a success response, up to its length."""
    known_heads = KnownHeads()
    """Heads of heartbeats that the parser need not see again."""

    @classmethod
    def renew_date(cls, at_s: int) -> None:
        """Date answers with an instant (UTC seconds) from now on."""
        cls.date = b"date: %b\r\n" % formatdate(at_s, usegmt=True).encode()
        cls.success = STATUS_LINE[200] + cls.date + _SUCCESS_LINES

    is_draining = False
    """Whether this process is about to end. Then each answer closes its connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        front: Any = config.app  # this module cannot name it
        self.front = front
        self._begin_at: Callable[[bytes], Begin | None] = front.fast_path()
        self._begin_beat = self._begin_at(_BEAT_URL) or _nothing
        self._take: Take | None = front.take_beat()
        self._choose: Callable[[Sequence[tuple[bytes, bytes]]], Choice | None] | None = front.beat_choice()
        self._choice: Choice | None = None
        self._body_limit_bytes: int = front.body_limit_bytes
        self._beat: FastRequest | None = None
        self._waits_since: float | None = None
        self._is_idle = True
        self._follows_beat = True
        """Whether the parser has read nothing since it found the end of a heartbeat, or nothing at all."""
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waits_since = self.now
        if len(self.connections) > self.max_connections:
            metrics.REFUSED_CONNECTIONS.inc()
            transport.close()

    def data_received(self, data: bytes) -> None:
        if not (self._is_idle and self._follows_beat) or self._choose is not None or FastPathProtocol.is_draining:
            self._parse(data)
            return
        if self._take is not None and self._take(self, data):
            return
        known = self.known_heads.find(data)
        if known is None:
            self._parse(data)
            self._learn(data)
            return
        self.url, self.headers = _BEAT_URL, []
        self._waits_since, self._is_idle = None, False
        beat = FastRequest(self, self._begin_beat, authorization=known.authorization, keep_alive=True)
        self.cycle = beat  # type: ignore[assignment]
        beat.body = known.body
        beat.start()

    def begin(self, beat: NativeBeat) -> None:
        """A native beat was read, and is under way."""
        self.url, self.headers = _BEAT_URL, []
        self._waits_since, self._is_idle = None, False
        self.cycle = beat  # type: ignore[assignment]

    def take_back(self, beat: NativeBeat, authorization: bytes, began_seconds: float) -> FastRequest:
        """Replace a native beat by a request that Python answers."""
        request = FastRequest(self, self._begin_beat, authorization=authorization, keep_alive=beat.keep_alive)
        request.resume(began_seconds)
        request.disconnected, request.response_complete = beat.disconnected, beat.response_complete
        if self.cycle is beat:
            self.cycle = request  # type: ignore[assignment]
        return request

    def _learn(self, data: bytes) -> None:
        """Remember the head of a read that was one usual heartbeat: nothing in it is meant for this request alone."""
        beat: Any = self.cycle
        if self._follows_beat and isinstance(beat, FastRequest) and beat.is_usual and self.url == _BEAT_URL:
            self.known_heads.learn(data, beat.authorization, beat.body)

    def _parse(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits_since is not None and not self._is_idle and self._beat is None:  # its head is not complete
            self._head_bytes += len(data)
            if self._head_bytes > _MAX_HEAD_BYTES:
                self._give_up(HeadTooLarge())

    # --- what the parser finds

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = 0
        self._follows_beat = False
        self._waits_since, self._is_idle = self.now, False

    def on_headers_complete(self) -> None:
        beat = self._beat = self._begun_beat()
        if beat is not None:
            self.cycle = beat  # type: ignore[assignment]
            return
        self._waits_since = None
        url, headers, expects = self.url, self.headers, self.expect_100_continue
        super().on_message_begin()
        self.url, self.expect_100_continue = url, expects
        self.headers.extend(headers)
        if self._choice is not None:
            self.scope["state"][CHOICE], self._choice = self._choice, None
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        beat = self._beat
        if beat is None:
            super().on_body(body)
        elif not beat.response_complete:
            beat.body += body
            if len(beat.body) > self._body_limit_bytes:
                beat.refuse(TooLarge())

    def on_message_complete(self) -> None:
        beat, self._beat = self._beat, None
        if beat is None:
            super().on_message_complete()
        elif not beat.response_complete:
            self._waits_since = None
            self._follows_beat = True
            beat.start()

    def _begun_beat(self) -> FastRequest | None:
        """The fast request that begins with this head; None if uvicorn's protocol must handle it."""
        begin = self._begin_at(self.url)
        if begin is None or self.parser.get_method() != b"POST" or self.expect_100_continue or self._is_answering():
            return None
        authorization = request_id = None
        for name, value in self.headers:
            if name == b"authorization":
                authorization = authorization or value
            elif name in {b"origin", b"upgrade", REQUEST_ID_HEADER}:
                if name != REQUEST_ID_HEADER:
                    return None
                request_id = value
        if self._choose is not None:
            self._choice = self._choose(self.headers)
            if self._choice is not None:
                return None
        keeps = (
            self.parser.get_http_version() != "1.0"
            and self.parser.should_keep_alive()
            and not FastPathProtocol.is_draining
        )
        beat = FastRequest(self, begin, authorization=authorization, keep_alive=keeps)
        if request_id is not None and is_sound_id(request_id):
            beat.request_id = request_id
        return beat

    def _is_answering(self) -> bool:
        cycle: Any = self.cycle  # None before the first request, whatever its type says
        return cycle is not None and not cycle.response_complete

    # --- deadlines

    def on_response_complete(self) -> None:
        """As the server's own, but without a timer for each pause."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
        elif self._waits_since is None:  # else the next request has begun
            self._waits_since, self._is_idle = self.now, True

    def close_if_late(self, *, keep_alive_seconds: float, arrival_seconds: float) -> None:
        """Close the connection if what is awaited on it is overdue."""
        if self._waits_since is None or self.transport.is_closing():
            return
        waited_seconds = self.now - self._waits_since
        if self._is_idle:
            has_asked = self.cycle is not None
            if waited_seconds > (keep_alive_seconds if has_asked else arrival_seconds):
                self.transport.close()
        elif waited_seconds > arrival_seconds:
            self._give_up(BodyTimeout())

    def _give_up(self, error: HourglassError) -> None:
        """Refuse a request that has not arrived, unless an earlier one is still being answered."""
        self._waits_since = None
        if self._is_answering() and self._beat is None:
            self.transport.close()
        else:
            (self._beat or FastRequest(self, _nothing, authorization=None, keep_alive=False)).refuse(error)


class Deadlines:
    """Looks at every connection about once a second, some at each tick, so that many of them do not hold up the loop.

    Args:
        connections: those that are open; it changes all the time.
        keep_alive_seconds: between two requests.
        arrival_seconds: for the head of a request, and for the body of a heartbeat.
        clock: dates answers.
    """

    def __init__(
        self,
        connections: Collection[Any],
        *,
        keep_alive_seconds: float,
        arrival_seconds: float,
        clock: Clock = now_ms,
    ) -> None:
        self._connections = connections
        self._clock = clock
        self._dated_s = 0
        self._keep_alive_seconds = keep_alive_seconds
        self._arrival_seconds = arrival_seconds
        self._waiting: Iterator[FastPathProtocol] = iter(())
        self._ticks = 0
        self._share = 0

    def tick(self, at_seconds: float) -> None:
        """Look at the next tenth. Called about ten times a second, with the loop's clock."""
        FastPathProtocol.now = at_seconds
        dated_s = self._clock() // 1000
        if dated_s != self._dated_s:
            self._dated_s = dated_s
            FastPathProtocol.renew_date(dated_s)
        if self._ticks % _TICKS_A_ROUND == 0:
            present = list(self._connections)
            self._waiting, self._share = iter(present), len(present) // _TICKS_A_ROUND + 1
        self._ticks += 1
        for connection in islice(self._waiting, self._share):
            connection.close_if_late(keep_alive_seconds=self._keep_alive_seconds, arrival_seconds=self._arrival_seconds)
