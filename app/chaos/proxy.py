"""The network between the service and a server, and what can go wrong with it."""

import asyncio
import contextlib
import socket
import struct
from enum import Enum
from pathlib import Path

from app.chaos.background import Background

_CHUNK = 64 * 1024
_SLICE = 7
_LINGER_ZERO = struct.pack("ii", 1, 0)
_HOLE_POLL_SECONDS = 0.02


class Weather(Enum):
    """What the network does to whatever passes."""

    FAIR = "fair"
    SLOW = "slow"
    """Everything arrives, later."""
    SLICED = "sliced"
    """Everything arrives, in pieces of a few bytes."""
    BLACK_HOLE = "black hole"
    """Nothing arrives and nobody is told; what was sent before goes on when it clears."""
    REPLIES_LOST = "replies lost"
    """Requests arrive and are carried out; what comes back is dropped."""
    RESET = "reset"
    """Connections are reset, and so is every new one."""


class Proxy:
    """Passes TCP connections on to a unix socket.

    Args:
        background: whose loop carries the bytes.
        upstream: the server's socket; another one takes effect for new connections.
    """

    def __init__(self, background: Background, upstream: Path) -> None:
        self._background = background
        self.upstream = upstream
        self._weather = Weather.FAIR
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.delay_seconds = 0.0
        self.port = 0
        background.run(self._open())

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        was_losing = self._weather is Weather.REPLIES_LOST
        self._weather = weather
        if weather is Weather.RESET or was_losing:  # after lost bytes a connection is of no use any more
            self.cut()

    def cut(self) -> None:
        """Reset every connection."""
        self._background.loop.call_soon_threadsafe(self._reset_all)

    def close(self) -> None:
        self._background.run(self._close())

    async def _open(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, limit=_CHUNK)
        self.port = int(self._server.sockets[0].getsockname()[1])

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
        self._reset_all()

    def _reset_all(self) -> None:
        for writer in list(self._connections):
            _reset(writer)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._weather is Weather.RESET:
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self.upstream, limit=_CHUNK)
        except OSError:  # nobody listens: the client is told the same
            _reset(writer)
            return
        self._connections |= {writer, server_writer}
        try:
            pumps = [
                asyncio.ensure_future(self._pump(reader, server_writer, is_reply=False)),
                asyncio.ensure_future(self._pump(server_reader, writer, is_reply=True)),
            ]
            await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
            for pump in pumps:
                pump.cancel()
            await asyncio.gather(*pumps, return_exceptions=True)
        finally:
            self._connections -= {writer, server_writer}
            for end in (writer, server_writer):
                end.close()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, is_reply: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(_CHUNK):
                while self._weather is Weather.BLACK_HOLE:  # noqa: ASYNC110  set by another thread, which knows no events
                    await asyncio.sleep(_HOLE_POLL_SECONDS)
                if is_reply and self._weather is Weather.REPLIES_LOST:
                    continue
                if self._weather is Weather.SLOW:
                    await asyncio.sleep(self.delay_seconds)
                size = _SLICE if self._weather is Weather.SLICED else len(data)
                for start in range(0, len(data), size):
                    writer.write(data[start : start + size])
                    await writer.drain()
                    if size == _SLICE:
                        await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close without a goodbye: the other side reads ECONNRESET."""
    connected = writer.get_extra_info("socket")
    if connected is not None and connected.family in {socket.AF_INET, socket.AF_INET6}:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
