"""Whether the installed uvicorn is one that we extend: its inner classes are no public interface."""

from collections.abc import Iterator
from types import FunctionType, ModuleType

import uvicorn
from uvicorn.protocols.http import httptools_impl

_METHODS = (
    *("connection_made", "data_received", "on_url", "on_header", "on_body", "on_message_begin", "on_headers_complete"),
    *("on_message_complete", "on_response_complete", "_start_asgi_task"),
)
_ATTRIBUTES = (
    *("config", "connections", "cycle", "expect_100_continue", "flow", "headers", "parser", "pipeline", "scope"),
    *("server_state", "transport", "url"),
)
"""What `app.server.fast_path.FastPathProtocol` extends, and what it reads."""
_SERVER_METHODS = ("startup", "on_tick", "main_loop", "shutdown", "serve")
_SERVER_ATTRIBUTES = ("server_state", "force_exit")
"""Likewise `app.deployment.serving.DrainingServer`."""


def missing(protocols: ModuleType = httptools_impl, server: type = uvicorn.Server) -> list[str]:
    """What we extend and the installed uvicorn does not have; empty for one that fits."""
    protocol = getattr(protocols, "HttpToolsProtocol", object)
    return [
        *(name for name in ("STATUS_LINE", "HttpToolsProtocol") if not hasattr(protocols, name)),
        *(f"HttpToolsProtocol.{name}" for name in _lacking(protocol, _METHODS, _ATTRIBUTES)),
        *(f"Server.{name}" for name in _lacking(server, _SERVER_METHODS, _SERVER_ATTRIBUTES)),
    ]


def _lacking(owner: type, methods: tuple[str, ...], attributes: tuple[str, ...]) -> Iterator[str]:
    """Methods must be there; attributes of an instance are those that the code of its class names."""
    yield from (name for name in methods if not hasattr(owner, name))
    functions = [member for member in vars(owner).values() if isinstance(member, FunctionType)]
    named = {name for function in functions for name in function.__code__.co_names}
    yield from (name for name in attributes if name not in named)
