"""A cheap connection to the service: sends prepared requests one at a time, returns status and body."""

import asyncio
from typing import Self, cast
from urllib.parse import urlsplit

_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"content-length:"
LOST = 0
"""Status of a request whose connection broke."""


class LoadConnection(asyncio.Protocol):
    """One keep-alive connection."""

    def __init__(self) -> None:
        self._received = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    @classmethod
    async def opened(cls, url: str) -> Self:
        """Connect to a base address. Raises OSError."""
        parts = urlsplit(url)
        _, connection = await asyncio.get_running_loop().create_connection(cls, parts.hostname or "", parts.port or 80)
        return connection

    @property
    def local_port(self) -> int:
        if self._transport is None:
            return 0
        return int(self._transport.get_extra_info("sockname")[1])

    def send(self, request: bytes) -> "asyncio.Future[tuple[int, bytes]]":
        """Send one request. The future yields status and body, or `LOST`."""
        self._waiting = asyncio.get_running_loop().create_future()
        if self._transport is None:
            self._waiting.set_result((LOST, b""))
        else:
            self._transport.write(request)
        return self._waiting

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # transports of uvloop do not inherit from it

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  the interface of asyncio
        self._transport = None
        self._answer(LOST, b"")

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, found, wait_until_flushed = self._received.partition(_END_OF_HEAD)
        if not found:
            return
        length = _length_in(head)
        if len(wait_until_flushed) >= length:
            self._received = wait_until_flushed[length:]
            self._answer(int(head[9:12]), wait_until_flushed[:length])

    def _answer(self, status: int, body: bytes) -> None:
        waiting, self._waiting = self._waiting, None
        if waiting is not None and not waiting.done():
            waiting.set_result((status, body))


def _length_in(head: bytes) -> int:
    lower = head.lower()
    at = lower.find(_LENGTH)
    if at < 0:
        return 0
    return int(lower[at + len(_LENGTH) :].split(b"\r\n", 1)[0])
