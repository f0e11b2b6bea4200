"""The connection to Redis or Valkey, with every wait bounded.

redis-py retries a command ten times by default, scripts included; here it retries none. A call that fails is reported
as unavailable, and the player's next beat makes up for it. After an answer that did not come, calls are refused at once
until the server answers a probe.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from app import metrics
from app.errors import CountersUnavailable
from app.redis_store.breaker import Breaker
from app.redis_store.keys import PROBE

_AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    OutOfMemoryError,
    ReadOnlyError,
    TryAgainError,
)
_AWAY_CODES = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "READONLY", "OOM", "LOADING", "UNBLOCKED", "BUSY")
"""Replies of a server that cannot write at the moment, some of them told inside a script's error."""

_CLOSED_HANDLE = "the handler is closed"
"""uvloop's word for a connection that the other side reset while it lay idle in the pool: a bare RuntimeError."""

_PROBE_PAUSE_SECONDS = 0.1


class GuardedPool(BlockingConnectionPool):
    """A pool that hands out nothing while the server does not answer.

    Only waiting in vain opens the breaker: a connection that is refused or cut fails at once by itself.
    """

    def __init__(self, connection_class: type[AbstractConnection] = Connection, **arguments: Any) -> None:  # noqa: ANN401  the pool's own
        self.breaker = Breaker(self._probe, pause_seconds=_PROBE_PAUSE_SECONDS)
        self._plain_class = connection_class
        super().__init__(connection_class=_watched(connection_class, self.breaker), **arguments)

    async def get_connection(self, *_: object, **__: object) -> AbstractConnection:
        """Raises redis.exceptions.ConnectionError at once while the breaker is open."""
        self.breaker.require_closed()
        try:
            connection: AbstractConnection = await super().get_connection()  # type: ignore[no-untyped-call]
        except RedisTimeoutError:
            self.breaker.trip()
            raise
        return connection

    async def aclose(self) -> None:
        self.breaker.close()
        await super().aclose()

    async def _probe(self) -> None:
        """Publish to nobody: a server that is paused, be it for writers only, does not answer that."""
        connection = self._plain_class(**self.connection_kwargs)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("PUBLISH", PROBE, "")
            await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


def _watched(connection_class: type[AbstractConnection], breaker: Breaker) -> type[AbstractConnection]:
    """The same kind of connection; it tells the breaker when an answer does not come."""

    class Watched(connection_class):  # type: ignore[misc, valid-type]  # the address decides which class it is
        _is_renewed = False

        async def send_packed_command(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  whatever is sent
            try:
                await super().send_packed_command(*args, **options)
            except RuntimeError as error:
                if _CLOSED_HANDLE not in str(error):
                    raise
                await self.disconnect(nowait=True)
                if self._is_renewed:
                    raise RedisConnectionError("closed as soon as it was opened") from error
                self._is_renewed = True  # nothing has been sent yet: a new connection takes it, once
                try:
                    await self.connect()
                    await self.send_packed_command(*args, **options)
                finally:
                    self._is_renewed = False

        async def read_response(self, *args: Any, **options: Any) -> Any:  # noqa: ANN401  whatever was asked for
            try:
                return await super().read_response(*args, **options)
            except RedisTimeoutError:
                breaker.trip()
                raise
            except ReadOnlyError:
                await self.disconnect(nowait=True)  # the address may lead to a writable server by now
                raise

    return Watched


def create_client(url: str, *, timeout_seconds: float, connections: int) -> Redis:
    """A client for commands: bytes in, bytes out.

    Args:
        url: ``redis://…``, ``rediss://…`` or ``unix:///…``.
        timeout_seconds: for connecting, for a connection from the pool and for each answer.
        connections: most connections of this process.
    """
    pool = GuardedPool.from_url(
        url,
        max_connections=connections,
        timeout=timeout_seconds,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 0),
        decode_responses=False,
        protocol=2,
    )
    return Redis.from_pool(pool)


@contextmanager
def unavailability_named() -> Iterator[None]:
    """Turn a server that is away, full or read-only into CountersUnavailable; a defect of ours stays what it is."""
    try:
        yield
    except _AWAY as error:
        metrics.COUNTERS_UNAVAILABLE.inc()
        raise CountersUnavailable from error
    except ResponseError as error:
        if not any(code in str(error) for code in _AWAY_CODES):
            raise
        metrics.COUNTERS_UNAVAILABLE.inc()
        raise CountersUnavailable from error
