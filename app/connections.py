"""Connections as the server keeps them: with deadlines, and with a short way for heartbeats and ends of sessions.

The server's own protocol makes a scope, a task, an event and two writes for each request, and a timer for each pause
between two; a heartbeat needs none of these. One that has arrived whole is handed to its endpoint, and its answer is
one write. Anything else (other routes, pipelined requests, pages of other origins, clients that wait to be told to go
on) goes the server's own way.

A connection on which nothing moves is closed: between requests after the keep-alive time; in the head of a request, or
in the body of a heartbeat, after the time in which it must arrive. Other bodies are watched by those who read them.
"""

import asyncio
import sys
from collections.abc import Callable, Collection, Iterator
from itertools import islice
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from app import metrics
from app.errors import BodyTimeout, HeadTooLarge, HourglassError, TooLarge
from app.viewing.endpoint import SUCCESS_HEADERS, Begin, Reply, problem_of

_LONGEST_HEAD_BYTES = 32_768
_TICKS_A_ROUND = 10


def _lines(headers: Collection[tuple[bytes, bytes]]) -> bytes:
    return b"".join(b"%b: %b\r\n" % header for header in headers)


_SUCCESS = STATUS_LINE[200] + _lines(SUCCESS_HEADERS) + b"content-length: %d\r\n%b\r\n"
_KEEP, _CLOSE = b"", b"connection: close\r\n"


def _nothing(_: bytes | None, __: bytes, ___: Reply) -> None:
    """What is begun with a request that never arrived."""


class _Nobody:
    """In the place of the event that the server sets for whoever reads a request; nobody reads a heartbeat's."""

    def set(self) -> None:
        return


class _Beat:
    """A heartbeat, or the end of a session, under way: it stands where the server has a cycle of its own."""

    __slots__ = (
        "_connection",
        "authorization",
        "begin",
        "body",
        "disconnected",
        "keep_alive",
        "more_body",
        "response_complete",
    )
    message_event = _Nobody()

    def __init__(
        self, connection: "Connection", begin: Begin, *, authorization: bytes | None, keep_alive: bool
    ) -> None:
        self._connection = connection
        self.begin = begin
        self.authorization = authorization
        self.keep_alive = keep_alive
        self.body = b""
        self.more_body = True
        self.disconnected = False
        self.response_complete = False

    def answer(self, body: bytes) -> None:
        self._send(_SUCCESS % (len(body), _KEEP if self.keep_alive else _CLOSE) + body)

    def refuse(self, error: HourglassError) -> None:
        headers, body = problem_of(error)
        if self.more_body or "Connection" in error.headers:
            self.keep_alive = False  # what may still come is not read
        end = _KEEP if self.keep_alive or "Connection" in error.headers else _CLOSE
        self._send(STATUS_LINE[error.status] + _lines(headers) + end + b"\r\n" + body)

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


class Connection(HttpToolsProtocol):
    """One connection.

    ``config.app`` tells by ``short_ways`` which requests go a short way, and to whom.
    """

    now = 0.0
    """Seconds on the loop's clock, as of the last tick: exact enough for deadlines."""
    most = sys.maxsize
    """Connections of this process; one more is closed at once, so that descriptors are left for servers and files."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._begin_at: Callable[[bytes], Begin | None] = config.app.short_ways()  # type: ignore[union-attr]
        self._body_limit_bytes: int = config.app.body_limit_bytes  # type: ignore[union-attr]
        self._beat: _Beat | None = None
        self._waits_since: float | None = None
        self._is_idle = True
        self._head_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._waits_since = self.now
        if len(self.connections) > self.most:
            metrics.REFUSED_CONNECTIONS.inc()
            transport.close()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._waits_since is not None and not self._is_idle and self._beat is None:  # its head is not complete
            self._head_bytes += len(data)
            if self._head_bytes > _LONGEST_HEAD_BYTES:
                self._give_up(HeadTooLarge())

    # --- what the parser finds

    def on_message_begin(self) -> None:
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._head_bytes = 0
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
            beat.more_body = False
            beat.begin(beat.authorization, beat.body, beat)

    def _begun_beat(self) -> _Beat | None:
        """The heartbeat that begins with this head; None when it must go the server's own way."""
        begin = self._begin_at(self.url)
        if begin is None or self.parser.get_method() != b"POST" or self.expect_100_continue or self._is_answering():
            return None
        authorization = None
        for name, value in self.headers:
            if name == b"authorization":
                authorization = authorization or value
            elif name in {b"origin", b"upgrade"}:
                return None
        keeps = self.parser.get_http_version() != "1.0" and self.parser.should_keep_alive()
        return _Beat(self, begin, authorization=authorization, keep_alive=keeps)

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
            (self._beat or _Beat(self, _nothing, authorization=None, keep_alive=False)).refuse(error)


class Deadlines:
    """Looks at every connection about once a second, some at each tick, so that many of them do not hold up the loop.

    Args:
        connections: those that are open; it changes all the time.
        keep_alive_seconds: between two requests.
        arrival_seconds: for the head of a request, and for the body of a heartbeat.
    """

    def __init__(self, connections: Collection[Any], *, keep_alive_seconds: float, arrival_seconds: float) -> None:
        self._connections = connections
        self._keep_alive_seconds = keep_alive_seconds
        self._arrival_seconds = arrival_seconds
        self._waiting: Iterator[Connection] = iter(())
        self._ticks = 0
        self._share = 0

    def tick(self, at_seconds: float) -> None:
        """Look at the next tenth. Called about ten times a second, with the loop's clock."""
        Connection.now = at_seconds
        if self._ticks % _TICKS_A_ROUND == 0:
            present = list(self._connections)
            self._waiting, self._share = iter(present), len(present) // _TICKS_A_ROUND + 1
        self._ticks += 1
        for connection in islice(self._waiting, self._share):
            connection.close_if_late(keep_alive_seconds=self._keep_alive_seconds, arrival_seconds=self._arrival_seconds)
