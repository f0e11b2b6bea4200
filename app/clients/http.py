"""A small HTTP/1.1 client for the own service: JSON requests and answers, pooled connections."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlsplit

from app.deployment.errors import CommandError

MAX_HEAD = 64 * 1024
FIRST_ERROR = 400

type_of_body = Mapping[str, Any] | list[Any] | None
Stream = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Unreachable(CommandError):
    """No answer: nothing listens, the connection broke, or the time ran out."""


class Refused(CommandError):
    """The service answered with an unexpected error."""


@dataclass(frozen=True, kw_only=True)
class Reply:
    """An answer. ``headers`` by lower-case name; ``body`` decoded from JSON, or else text."""

    status: int
    headers: Mapping[str, str]
    body: Any

    @property
    def code(self) -> str:
        """The problem's code, or the status as text."""
        return str(self.body.get("code", self.status)) if isinstance(self.body, dict) else str(self.status)

    @property
    def retry_after_seconds(self) -> float:
        value = self.headers.get("retry-after", "")
        return float(value) if value.isdigit() else 1.0

    def expect(self, what: str) -> Any:  # noqa: ANN401  JSON
        """The body of a successful answer.

        Raises:
            Refused: the answer is an error.
        """
        if self.status >= FIRST_ERROR:
            detail = self.body.get("detail", "") if isinstance(self.body, dict) else ""
            raise Refused(f"cannot {what}: {self.status} {self.code} {detail}".rstrip())
        return self.body


class Client:
    """Requests to one base address over a pool of connections."""

    def __init__(self, base_url: str, *, timeout_seconds: float = 10.0) -> None:
        parts = urlsplit(base_url)
        self._tls = ssl.create_default_context() if parts.scheme == "https" else None
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if self._tls else 80)
        self._authority = parts.netloc
        self._path = parts.path.rstrip("/")
        self._timeout = timeout_seconds
        self._idle: list[Stream] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        while self._idle:
            self._idle.pop()[1].close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        token: str | None = None,
        body: type_of_body = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request and read its answer.

        A pooled connection may be closed already; the request then uses a new one.

        Raises:
            Unreachable: no answer in time.
        """
        message = self._message(method, path, token=token, body=body, headers=headers or {})
        try:
            async with asyncio.timeout(self._timeout):
                while self._idle:
                    try:
                        return await self._exchange(self._idle.pop(), message)
                    except (OSError, EOFError):
                        continue
                connection = await asyncio.open_connection(self._host, self._port, ssl=self._tls, limit=MAX_HEAD)
                return await self._exchange(connection, message)
        except (OSError, EOFError, TimeoutError, ValueError) as error:
            raise Unreachable(f"no answer from {self._authority}: {str(error) or type(error).__name__}") from error

    def _message(
        self, method: str, path: str, *, token: str | None, body: type_of_body, headers: Mapping[str, str]
    ) -> bytes:
        content = b"" if body is None else json.dumps(body).encode()
        lines = {"host": self._authority, "content-length": str(len(content)), **headers}
        if body is not None:
            lines["content-type"] = "application/json"
        if token is not None:
            lines["authorization"] = f"Bearer {token}"
        head = f"{method} {self._path}{path} HTTP/1.1\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
        return head.encode("ascii") + b"\r\n" + content

    async def _exchange(self, connection: Stream, message: bytes) -> Reply:
        reader, writer = connection
        keep = False
        try:
            writer.write(message)
            await writer.drain()
            status, headers = await _head(reader)
            content = await _content(reader, headers)
            keep = headers.get("connection", "").lower() != "close"
        finally:
            if keep:
                self._idle.append(connection)
            else:
                writer.close()
        is_json = "json" in headers.get("content-type", "") and content
        return Reply(status=status, headers=headers, body=json.loads(content) if is_json else content.decode())


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
    return int(first.split(" ", 2)[1]), headers


async def _content(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", "0")))
    content = b""
    while size := int((await reader.readline()).split(b";")[0], 16):
        content += await reader.readexactly(size + 2)
        content = content[:-2]
    await reader.readline()
    return content
