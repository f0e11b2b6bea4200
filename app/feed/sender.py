"""One attempt of a delivery over HTTP.

The host is resolved first, and the connection is made to the address that was checked. A name that resolves to another
address a moment later changes nothing. Certificates are verified for the name. Redirects are not followed.
"""

import asyncio
import socket
import ssl
from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from app.domain.webhooks import Attempt, is_public
from app.timestamps import ms_of, utc

TOTAL_SECONDS = 15.0
_CONNECT_SECONDS = 5.0
_MAX_ANSWER_BYTES = 64 * 1024
_MAX_CONNECTIONS = 10
_RESOLVERS = 8
_OK, _REDIRECT, _GONE = 200, 300, 410
_BUSY = (429, 503)


class HttpSender:
    """Sends requests to one receiver at a time of many.

    Args:
        private_allowed: whether receivers may have private addresses.
        ca_file: certificates to trust, instead of the system's.
        total_seconds: deadline of an attempt, from resolving the name to the end of the answer.
    """

    def __init__(
        self, *, private_allowed: bool, ca_file: Path | None = None, total_seconds: float = TOTAL_SECONDS
    ) -> None:
        self._private_allowed = private_allowed
        self._total_seconds = total_seconds
        self._context = ssl.create_default_context(cafile=None if ca_file is None else str(ca_file))
        self._clients: dict[str, httpx.AsyncClient] = {}
        # Names are resolved apart, so that a dead name server keeps nobody else waiting.
        self._resolvers = ThreadPoolExecutor(_RESOLVERS, thread_name_prefix="resolve")

    async def send(self, url: str, *, body: bytes, headers: Mapping[str, str], at_ms: int) -> Attempt:
        """Send a request. No error of the receiver or the network leaves this call."""
        try:
            async with asyncio.timeout(self._total_seconds):
                return await self._sent(url, body, headers, at_ms=at_ms)
        except TimeoutError:
            return Attempt(error="timeout")
        except ssl.SSLError:
            return Attempt(error="tls")
        except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
            return Attempt(error=_name_of(error))

    async def close(self) -> None:
        for client in self._clients.values():
            await client.aclose()
        self._clients.clear()
        self._resolvers.shutdown(wait=False, cancel_futures=True)

    async def close_others(self, urls: Collection[str]) -> None:
        """Close the connections to all receivers but these."""
        for url in self._clients.keys() - set(urls):
            await self._clients.pop(url).aclose()

    async def _sent(self, url: str, body: bytes, headers: Mapping[str, str], *, at_ms: int) -> Attempt:
        parts = urlsplit(url)
        host = parts.hostname or ""
        address = await self._address(host, parts.port or (443 if parts.scheme == "https" else 80))
        if address is None:
            return Attempt(error="private_address")
        target = httpx.URL(url).copy_with(host=address)
        sent = {**headers, "Host": parts.netloc, "Accept-Encoding": "identity"}
        client = self._client(url)
        async with client.stream(
            "POST", target, content=body, headers=sent, extensions={"sni_hostname": host}
        ) as response:
            await _drained(response)
            return _judged(response, at_ms=at_ms)

    async def _address(self, host: str, port: int) -> str | None:
        """The address to connect to; None if all are private."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(self._resolvers, _resolved, host, port)
        return next((address for address in found if self._private_allowed or is_public(address)), None)

    def _client(self, url: str) -> httpx.AsyncClient:
        """A client for one receiver, so that no connection serves two names at one address."""
        client = self._clients.get(url)
        if client is None:
            client = self._clients[url] = httpx.AsyncClient(
                verify=self._context,
                trust_env=False,  # a proxy would resolve the name again
                follow_redirects=False,
                timeout=httpx.Timeout(self._total_seconds, connect=_CONNECT_SECONDS),
                limits=httpx.Limits(max_connections=_MAX_CONNECTIONS, keepalive_expiry=30.0),
            )
        return client


def _resolved(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for _, _, _, _, address in found]


async def _drained(response: httpx.Response) -> None:
    """Read the answer, so that its connection can be used again; a long one is cut off."""
    size = 0
    async for chunk in response.aiter_raw():
        size += len(chunk)
        if size > _MAX_ANSWER_BYTES:
            return


def _judged(response: httpx.Response, *, at_ms: int) -> Attempt:
    status = response.status_code
    if _OK <= status < _REDIRECT:
        return Attempt()
    wait_ms = _retry_after_ms(response.headers.get("retry-after", ""), at_ms=at_ms) if status in _BUSY else None
    return Attempt(error=f"status_{status}", is_gone=status == _GONE, retry_after_ms=wait_ms)


def _retry_after_ms(value: str, *, at_ms: int) -> int | None:
    """The pause that a receiver asks for, in seconds or as a date; None if it is not understood."""
    if value.isascii() and value.isdecimal():
        return int(value[:9]) * 1000
    try:
        until = parsedate_to_datetime(value)
        return max(0, ms_of(until if until.tzinfo else until.replace(tzinfo=utc(0).tzinfo)) - at_ms)
    except (ValueError, TypeError, OverflowError):
        return None


def _name_of(error: BaseException) -> str:
    """A short word for an error. What the receiver sent is not part of it."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return "tls"
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, socket.gaierror | UnicodeError):
        return "name_not_resolved"
    if isinstance(error, httpx.TimeoutException):
        return "timeout"
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "not_connected"
    return "broken_answer" if isinstance(error, httpx.RemoteProtocolError | httpx.DecodingError) else "network"
