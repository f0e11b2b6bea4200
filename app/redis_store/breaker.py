"""The circuit breaker: refuses calls while a server does not answer, so that no queue grows behind it."""

import asyncio
from collections.abc import Awaitable, Callable

import structlog
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError, ResponseError

from app.observability import metrics

log = structlog.get_logger(__name__)


class Breaker:
    """Opens at the first answer that does not come in time, and closes when a probe is answered.

    Args:
        probe: asks the server something that it answers only when it would answer anything; bounds its own time.
        pause_seconds: between probes.
    """

    def __init__(self, probe: Callable[[], Awaitable[object]], *, pause_seconds: float) -> None:
        self._probe = probe
        self._pause_seconds = pause_seconds
        self._probing: asyncio.Task[None] | None = None

    @property
    def is_open(self) -> bool:
        return self._probing is not None

    def require_closed(self) -> None:
        """Raises redis.exceptions.ConnectionError while probes are not answered."""
        if self._probing is not None:
            raise RedisConnectionError("waiting for the server to answer again")

    def trip(self) -> None:
        """An answer did not come: refuse calls from now on, and ask until one comes."""
        if self._probing is None:
            metrics.BREAKER_OPENED.inc()
            self._probing = asyncio.create_task(self._probe_until_answered(), name="redis probe")

    def close(self) -> None:
        if self._probing is not None:
            self._probing.cancel()
            self._probing = None

    async def _probe_until_answered(self) -> None:
        while not await self._is_answered():  # noqa: ASYNC110  the server will not tell us by itself
            await asyncio.sleep(self._pause_seconds)
        self._probing = None

    async def _is_answered(self) -> bool:
        try:
            await self._probe()
        except RedisConnectionError:  # some of these are answers, too: "loading"
            return False
        except ResponseError:
            return True  # it refuses, but it does so at once
        except (RedisError, OSError, TimeoutError, RuntimeError):  # the last is uvloop's, on a connection just reset
            return False
        return True
