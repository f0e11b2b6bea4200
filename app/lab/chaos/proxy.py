"""A proxy between the service and a server that injects network faults."""

import asyncio
import contextlib
import socket
import struct
from enum import Enum
from pathlib import Path

from app.lab.chaos.background import Background

_CHUNK = 64 * 1024
_SLICE = 7
_LINGER_ZERO = struct.pack("ii", 1, 0)
_HOLE_POLL_SECONDS = 0.02


class NetworkFault(Enum):
    """The behaviour of the network."""

    FAIR = "fair"
    SLOW = "slow"
    """All data arrives late."""
    SLICED = "sliced"
    """All data arrives in pieces of a few bytes."""
    BLACK_HOLE = "black hole"
    """No data arrives and no error is reported; held data continues afterwards."""
    REPLIES_LOST = "replies lost"
    """Requests arrive and are executed, but replies are dropped."""
    RESET = "reset"
    """Existing and new connections are reset."""


class Proxy:
    """Forwards TCP connections to a unix socket.

    Args:
        background: runs the proxy's event loop.
        upstream: the server's socket; a changed one applies to new connections.
    """

    def __init__(self, background: Background, upstream: Path) -> None:
        self._background = background
        self.upstream = upstream
        self._weather = NetworkFault.FAIR
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()
        self.delay_seconds = 0.0
        self.port = 0
        background.run(self._open())

    @property
    def weather(self) -> NetworkFault:
        return self._weather

    @weather.setter
    def weather(self, weather: NetworkFault) -> None:
        was_losing = self._weather is NetworkFault.REPLIES_LOST
        self._weather = weather
        if weather is NetworkFault.RESET or was_losing:  # after lost bytes a connection is unusable
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
        if self._weather is NetworkFault.RESET:
            _reset(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(self.upstream, limit=_CHUNK)
        except OSError:  # nothing listens: the client gets the same error
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
                while self._weather is NetworkFault.BLACK_HOLE:  # noqa: ASYNC110  set by another thread, which knows no events
                    await asyncio.sleep(_HOLE_POLL_SECONDS)
                if is_reply and self._weather is NetworkFault.REPLIES_LOST:
                    continue
                if self._weather is NetworkFault.SLOW:
                    await asyncio.sleep(self.delay_seconds)
                size = _SLICE if self._weather is NetworkFault.SLICED else len(data)
                for start in range(0, len(data), size):
                    writer.write(data[start : start + size])
                    await writer.drain()
                    if size == _SLICE:
                        await asyncio.sleep(0)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close abruptly: the other side reads ECONNRESET."""
    connected = writer.get_extra_info("socket")
    if connected is not None and connected.family in {socket.AF_INET, socket.AF_INET6}:
        with contextlib.suppress(OSError):
            connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_ZERO)
    writer.transport.abort()
