"""The key set of the platform's identity service at a URL, fetched in the background."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Protocol

import httpx
import structlog

from app.auth.key_sets import SEEK_SECONDS, KeySet, KeysUnusable, VerifyingKey
from app.auth.tokens import Pending
from app.clock import Clock
from app.errors import IdentityUnavailable
from app.observability import metrics

MAX_SET_BYTES = 256 * 1024
REFRESH_SECONDS = 300
STALE_SECONDS = 86_400
FETCH_SECONDS = 5.0
_RETRY_SECONDS = 10
_MAX_REDIRECTS = 3

log = structlog.get_logger(__name__)


class Fetch(Protocol):
    async def __call__(self) -> bytes:
        """The key set as it is now. Raises KeysUnusable."""
        ...


class JwksFetcher:
    """Fetches a key set over HTTPS, or over plain HTTP from this machine.

    Certificates are verified. Redirects are followed only on the same host and port. A body that is too large, too
    slow or compressed is refused, whatever its headers say.

    Args:
        url: its address.
        ca_file: certificates to trust, instead of the system's.
    """

    def __init__(self, url: str, *, ca_file: Path | None = None) -> None:
        self._url = httpx.URL(url)
        context: ssl.SSLContext | bool = True if ca_file is None else ssl.create_default_context(cafile=str(ca_file))
        self._client = httpx.AsyncClient(
            verify=context,
            follow_redirects=False,
            timeout=httpx.Timeout(FETCH_SECONDS, connect=2.0),
            headers={"Accept": "application/jwk-set+json, application/json", "Accept-Encoding": "identity"},
            limits=httpx.Limits(max_connections=1, max_keepalive_connections=0),
        )

    async def __call__(self) -> bytes:
        try:
            async with asyncio.timeout(FETCH_SECONDS):
                return await self._fetched()
        except TimeoutError:
            raise KeysUnusable("did not come in time") from None
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            raise KeysUnusable(f"cannot be fetched: {type(error).__name__}") from None

    async def close(self) -> None:
        await self._client.aclose()

    async def _fetched(self) -> bytes:
        url = self._url
        for _ in range(_MAX_REDIRECTS + 1):
            async with self._client.stream("GET", url) as response:
                if not response.has_redirect_location:
                    return await _body_of(response)
                url = url.join(response.headers["location"])
            if (url.scheme, url.host, url.port) != (self._url.scheme, self._url.host, self._url.port):
                raise KeysUnusable("leads to another host")
        raise KeysUnusable("leads round in circles")


async def _body_of(response: httpx.Response) -> bytes:
    if response.status_code != httpx.codes.OK:
        raise KeysUnusable(f"was answered with {response.status_code}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise KeysUnusable("came compressed")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > MAX_SET_BYTES:
            raise KeysUnusable("is too large")
    return bytes(body)


class RemoteKeySet:
    """Keys that are fetched every five minutes, and at an unknown ``kid`` at most once in 10 s.

    When fetches fail, the last keys stay valid for a day. A set without any fitting key counts as a failed fetch.

    Args:
        fetch: gets the set.
        algorithm: the one that keys must fit.
        monotonic: milliseconds that never fall.

    Attributes:
        generation: grows when a key was removed or replaced, and when all keys have become too old.
    """

    def __init__(self, fetch: Fetch, *, algorithm: str, monotonic: Clock) -> None:
        self._fetch = fetch
        self._algorithm = algorithm
        self._monotonic = monotonic
        self._known = KeySet({})
        self._fetched_ms = 0
        self._sought_ms: int | None = None
        self._fetching: asyncio.Task[bool] | None = None
        self._is_stale = True
        self.generation = 0

    @contextlib.asynccontextmanager
    async def kept_fresh(self) -> AsyncIterator[None]:
        """Fetch the keys, and again and again as long as the block runs."""
        await self._load()
        refreshing = asyncio.create_task(self._refresh_for_ever(), name="key set")
        try:
            yield
        finally:
            refreshing.cancel()
            running = [task for task in (refreshing, self._fetching) if task is not None]
            for task in running:
                task.cancel()
            await asyncio.wait(running)

    def find(self, kid: str, *, at_s: int) -> VerifyingKey | None:
        """A key by its name.

        Raises:
            Pending: it is unknown, and may have been added since the last look.
            IdentityUnavailable: there are no keys.
        """
        self.look(at_s)
        if not self._is_stale and kid in self._known:
            return self._known.find(kid)
        if self._may_seek():
            raise Pending(self._seek)
        if self._is_stale:
            raise IdentityUnavailable
        return None

    def look(self, at_s: int) -> None:  # noqa: ARG002  wall clocks step; the age of keys is measured by another
        """Let go of keys that have become too old."""
        age_ms = self._monotonic() - self._fetched_ms
        if not self._is_stale and age_ms > STALE_SECONDS * 1000:
            self._is_stale = True
            self.generation += 1
            log.error("key_set_too_old", age_seconds=age_ms // 1000)

    def _may_seek(self) -> bool:
        is_running = self._fetching is not None and not self._fetching.done()
        now_ms = self._monotonic()
        return is_running or self._sought_ms is None or now_ms - self._sought_ms >= SEEK_SECONDS * 1000

    async def _seek(self) -> None:
        """Fetch now, together with all who ask at the same time."""
        if self._fetching is None or self._fetching.done():
            self._sought_ms = self._monotonic()
            self._fetching = asyncio.create_task(self._load(), name="key set wanted")
        await asyncio.shield(self._fetching)

    async def _load(self) -> bool:
        """Fetch once; whether that went well."""
        try:
            known = KeySet.read(await self._fetch(), self._algorithm)
            if not known:
                raise KeysUnusable(f"holds no key for {self._algorithm}")  # noqa: TRY301  it is logged below
        except KeysUnusable as error:
            age_seconds = (self._monotonic() - self._fetched_ms) // 1000 if not self._is_stale else None
            log.warning("key_set_unusable", reason=str(error), age_seconds=age_seconds)
            metrics.KEY_SET_AGE.set(age_seconds or 0)
            return False
        except Exception:
            log.exception("key_set_failed")
            return False
        if known.lacks_some_of(self._known):
            self.generation += 1
        self._known, self._is_stale, self._fetched_ms = known, False, self._monotonic()
        metrics.KEY_SET_AGE.set(0)
        return True

    async def _refresh_for_ever(self) -> None:
        is_good = not self._is_stale
        while True:
            await asyncio.sleep(REFRESH_SECONDS if is_good else _RETRY_SECONDS)
            is_good = await self._load()
