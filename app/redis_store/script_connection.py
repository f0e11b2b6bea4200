"""One connection for script calls: many under way at once, answered in order.

redis-py opens it, with address, TLS, credentials and database as for any other connection. From then on a protocol of
our own owns the transport: a pool, streams and a timer for each call would cost more than the rest of a small call.
"""

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable

import hiredis
from redis import RedisError
from redis._parsers import BaseParser
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import InvalidResponse, ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from app.kit.single_flight import SingleFlight
from app.observability import metrics
from app.redis_store.breaker import Breaker

MAX_REPLY_BYTES = 256 * 2**20
"""A longer reply ends the connection."""
_INCOMPLETE = object()
_READ_ONLY = "READONLY"


class ScriptConnection:
    """Sends commands over one connection, which is opened for the first of them and again after a loss.

    A command that fails may have run, unless no connection could be opened.

    Args:
        connect: opens a connection and hands over its stream; nothing has been read from it that belongs to a command.
        breaker: refuses calls while the server does not answer.
        timeout_seconds: for each reply.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[asyncio.StreamWriter]], breaker: Breaker, *, timeout_seconds: float
    ) -> None:
        self._connect = connect
        self._breaker = breaker
        self._timeout_seconds = timeout_seconds
        self._opening: SingleFlight[None, _Replies] = SingleFlight(self._open)
        self._replies: _Replies | None = None

    async def run(self, *commands: bytes) -> object:
        """Send packed commands right after each other. Answers the reply to the last.

        Raises:
            redis.exceptions.RedisError: a refusal of the server, or no reply in time.
        """
        replies = await self.opened()
        return await replies.to(commands)

    async def opened(self) -> "_Replies":
        """The open connection. Raises redis.exceptions.RedisError if there can be none."""
        self._breaker.require_closed()
        replies = self._replies
        return replies if replies is not None and replies.is_open else await self._opening.get(None)

    def close(self) -> None:
        """Close the connection. Calls under way fail."""
        if self._replies is not None:
            self._replies.fail(RedisConnectionError, "the client was closed")

    async def _open(self, _: None) -> "_Replies":
        try:
            writer = await self._connect()
        except RedisTimeoutError:
            self._breaker.trip()
            raise
        self._replies = _Replies(writer, self._breaker, timeout_seconds=self._timeout_seconds)
        return self._replies


class _Replies(asyncio.Protocol):
    """The owner of a transport: matches replies to calls by their order."""

    def __init__(self, writer: asyncio.StreamWriter, breaker: Breaker, *, timeout_seconds: float) -> None:
        self._writer = writer  # it closes the transport when it is collected
        self._transport = writer.transport
        self._breaker = breaker
        self._timeout_seconds = timeout_seconds
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=BaseParser.parse_error,
            notEnoughData=_INCOMPLETE,
        )
        self._calls: deque[tuple[float, asyncio.Future[object] | None]] = deque()
        """Until their replies come: when each was sent, and where its reply goes."""
        self._deadline: asyncio.TimerHandle | None = None
        self._unfinished_bytes = 0
        self._is_open = True
        self._transport.set_protocol(self)

    @property
    def is_open(self) -> bool:
        """Whether it takes further calls."""
        return self._is_open and not self._transport.is_closing()

    def to(self, commands: tuple[bytes, ...]) -> "asyncio.Future[object]":
        """Send commands; a future of the reply to the last. A cancelled call keeps its place until its reply comes.

        Raises:
            redis.exceptions.ConnectionError: it was closed since it was opened.
        """
        if not self.is_open:
            raise RedisConnectionError("the connection was closed")
        sent_seconds = time.perf_counter()
        self._calls.extend([(sent_seconds, None)] * (len(commands) - 1))
        future = self._loop.create_future()
        self._calls.append((sent_seconds, future))
        self._transport.write(commands[0] if len(commands) == 1 else b"".join(commands))
        if self._deadline is None:
            self._deadline = self._loop.call_later(self._timeout_seconds, self._require_reply)
        return future

    def data_received(self, data: bytes) -> None:
        self._unfinished_bytes += len(data)
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._unfinished_bytes = 0
                self._take(reply)
        except RedisError as error:
            self.fail(type(error), str(error))
        if self._unfinished_bytes > MAX_REPLY_BYTES:
            self.fail(InvalidResponse, "the reply is too long")

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(RedisConnectionError, f"the connection was lost: {exc or 'closed by the server'}")

    def fail(self, error_class: type[RedisError], text: str) -> None:
        """Close the connection and fail its calls: a reply that comes late must not be taken for another one's."""
        self._is_open = False
        self._transport.abort()
        if self._deadline is not None:
            self._deadline.cancel()
        calls, self._calls = self._calls, deque()
        for _, future in calls:
            if future is not None and not future.done():
                future.set_exception(error_class(text))

    def _take(self, reply: object) -> None:
        if not self._calls:
            raise InvalidResponse("a reply to no command")
        sent_seconds, future = self._calls.popleft()
        metrics.REDIS_SECONDS.observe(time.perf_counter() - sent_seconds)
        if isinstance(reply, Exception) and (isinstance(reply, ReadOnlyError) or _READ_ONLY in str(reply)):
            self._is_open = False  # the address may lead to a writable server by now
        if not self._is_open and not self._calls:
            self._transport.close()
        if future is None or future.done():
            return  # nobody waits for it, or its caller was cancelled
        if isinstance(reply, Exception):
            future.set_exception(reply)
        else:
            future.set_result(reply)

    def _require_reply(self) -> None:
        """Called when the oldest call should have been answered, or one before it."""
        self._deadline = None
        if not self._calls:
            return
        left_seconds = self._calls[0][0] + self._timeout_seconds - time.perf_counter()
        if left_seconds > 0:
            self._deadline = self._loop.call_later(left_seconds, self._require_reply)
        else:
            self._breaker.trip()
            self.fail(RedisTimeoutError, "no reply in time")
