"""The least that a Python process can do: find the end of a request and write a fixed answer, without a web server.

Its rate is the limit of the machine with this load generator, because everything else does more for a request.
"""

import asyncio
import signal
import socket
from typing import cast

from app.lab.bench.baselines.answer import BODY, HEADERS

BACKLOG = 4096
_END_OF_HEAD = b"\r\n\r\n"
_LENGTH = b"Content-Length: "
"""As the load generator spells it."""
ANSWER = b"".join(
    (
        b"HTTP/1.1 200 OK\r\ndate: Thu, 01 Jan 2026 17:00:00 GMT\r\n",
        *(b"%b: %b\r\n" % header for header in HEADERS),
        b"\r\n",
        BODY,
    )
)


class EchoProtocol(asyncio.Protocol):
    """One connection: as many answers as requests."""

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # transports of uvloop do not inherit from it

    def data_received(self, data: bytes) -> None:
        received = self._received + data if self._received else data
        while end := end_of_request(received):
            received = received[end:]
            if self._transport is not None:
                self._transport.write(ANSWER)
        self._received = received


def end_of_request(received: bytes) -> int:
    """The length of the first request, or 0 while it is incomplete."""
    head = received.find(_END_OF_HEAD)
    if head < 0:
        return 0
    end = head + len(_END_OF_HEAD)
    at = received.find(_LENGTH, 0, head)
    if at >= 0:
        end += int(received[at + len(_LENGTH) : received.index(b"\r\n", at)])
    return end if len(received) >= end else 0


async def serve(listening: socket.socket) -> None:
    """Answer on this socket until SIGTERM."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    server = await loop.create_server(EchoProtocol, sock=listening, backlog=BACKLOG)
    await ended.wait()
    server.close()
