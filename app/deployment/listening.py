"""Sockets of the API. Each API process has its own socket on the same port, and the kernel balances between them."""

import contextlib
import errno
import http.client
import socket

from app.deployment.errors import CommandError

READY = 200
PORT_OPTION = "--port"
LOOPBACK_OF = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  asked, not bound
"""Addresses for probing a process on the same host that listens on all interfaces."""


def reserve(host: str, port: int, *, option: str = PORT_OPTION) -> tuple[socket.socket, int]:
    """Reserve the port, so that it stays taken while no API process runs.

    Args:
        host: name or address.
        port: 0 takes a free one.
        option: name of the port option, for the error message.

    Returns:
        The reserving socket, which accepts no connection, and the port.

    Raises:
        CommandError: the address is taken, or does not belong to this host.
    """
    if port:  # Without SO_REUSEPORT the kernel refuses even a port whose owner would share it.
        _bound(host, port, share=False, option=option).close()
    holder = _bound(host, port, share=True, option=option)
    return holder, int(holder.getsockname()[1])


def shared(host: str, port: int) -> socket.socket:
    """A socket bound to the shared port. It accepts connections once it listens."""
    return _bound(host, port, share=True)


def exclusive(host: str, port: int, *, option: str = PORT_OPTION) -> socket.socket:
    """A socket bound to an unshared port; 0 takes a free one. Raises CommandError."""
    return _bound(host, port, share=False, option=option)


def _bound(host: str, port: int, *, share: bool, option: str = PORT_OPTION) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except socket.gaierror as error:
        raise CommandError(f"cannot listen on {host}: {error.strerror}") from error
    bound = socket.socket(family, kind, protocol)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if share:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        bound.bind(address)
    except OSError as error:
        bound.close()
        if error.errno == errno.EADDRINUSE:
            raise CommandError(
                f"port {port} on {host} is in use; choose another with {option} (0 takes a free one)"
            ) from error
        raise CommandError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return bound


def base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_ready(host: str, port: int) -> bool:
    """Whether the API reports that it is ready."""
    nearby = LOOPBACK_OF.get(host, host)
    connection = http.client.HTTPConnection(nearby, port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == READY
    return False
