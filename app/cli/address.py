"""Where the API listens. Each API process has a socket of its own on the same port, among which the kernel shares."""

import contextlib
import errno
import http.client
import socket

from app.cli.errors import CommandError

READY = 200


def reserve(host: str, port: int) -> tuple[socket.socket, int]:
    """Make sure nobody else listens there and hold the place, also while no API process is alive.

    Args:
        host: name or address.
        port: 0 takes a free one.

    Returns:
        the socket that holds the place, which accepts nothing, and the port.

    Raises:
        CommandError: the place is taken, or no place of ours.
    """
    if port:  # Without SO_REUSEPORT the kernel refuses even a port whose owner would share it.
        _bound(host, port, share=False).close()
    holder = _bound(host, port, share=True)
    return holder, int(holder.getsockname()[1])


def shared(host: str, port: int) -> socket.socket:
    """A socket bound to the port beside others of ours; it takes connections once it listens."""
    return _bound(host, port, share=True)


def _bound(host: str, port: int, *, share: bool) -> socket.socket:
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
                f"port {port} on {host} is in use; choose another with --port (0 takes a free one)"
            ) from error
        raise CommandError(f"cannot listen on {host}, port {port}: {error.strerror}") from error
    return bound


def base_url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def is_ready(host: str, port: int) -> bool:
    """Whether the API answers that it is ready."""
    nearby = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  asked, not bound
    connection = http.client.HTTPConnection(nearby, port, timeout=2)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == READY
    return False
