"""The connection to Redis or Valkey, with every wait bounded.

redis-py retries a command ten times by default, scripts included; here it retries none. A call that fails is reported
as unavailable, and the player's next beat makes up for it.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from redis.asyncio import BlockingConnectionPool, Redis
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
_AWAY_CODES = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "READONLY", "OOM", "LOADING", "UNBLOCKED")
"""Replies of a server that cannot write at the moment, some of them told inside a script's error."""


def create_client(url: str, *, timeout_seconds: float, connections: int) -> Redis:
    """A client for commands: bytes in, bytes out.

    Args:
        url: ``redis://…``, ``rediss://…`` or ``unix:///…``.
        timeout_seconds: for connecting, for a connection from the pool and for each answer.
        connections: most connections of this process.
    """
    pool = BlockingConnectionPool.from_url(
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
