"""The connection to Redis or Valkey, with every wait bounded.

redis-py retries a command ten times by default, scripts included; here it retries none. A call that fails is reported
as unavailable, and the player's next beat makes up for it. After an answer that did not come, calls are refused at once
until the server answers a probe. On a cluster ordinary commands, all of which may be repeated, are tried again after a
look at which node has what.
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis, RedisCluster, Sentinel
from redis.asyncio.cluster import ClusterNode
from redis.asyncio.connection import AbstractConnection, SSLConnection, parse_url
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
    SlotNotCoveredError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

from app.errors import CountersUnavailable
from app.observability import metrics
from app.redis_store.breaker import Breaker
from app.redis_store.cluster import Cluster
from app.redis_store.keys import PROBE
from app.redis_store.script_connection import ScriptConnection
from app.settings.redis_url import Arrangement, RedisAddress, parse_redis_url

_AWAY = (
    RedisConnectionError,
    RedisTimeoutError,
    OSError,
    BusyLoadingError,
    ClusterError,
    OutOfMemoryError,
    ReadOnlyError,
    SlotNotCoveredError,
    TryAgainError,
)
_AWAY_CODES = ("MISCONF", "NOREPLICAS", "CLUSTERDOWN", "READONLY", "OOM", "LOADING", "UNBLOCKED", "BUSY")
"""Error replies of a server that cannot write now. Some are quoted inside the error of a script."""
_CLOSED_HANDLE = "the handler is closed"
"""The text of uvloop's RuntimeError for a connection that the server reset while it was idle in the pool."""
_PROBE_PAUSE_SECONDS = 0.1
_TRIES_ON_A_CLUSTER = 2
_ORDINARY_CONNECTIONS = 8
"""redis-py's cluster client does not wait for a free connection, so it may have several times as many."""


class GuardedPool(BlockingConnectionPool):
    """A pool that hands out nothing while the server does not answer.

    Only waiting in vain opens the breaker: a connection that is refused or cut fails at once by itself.

    Attributes:
        scripts: the connection for script calls, which no other command uses.
    """

    def __init__(self, connection_class: type[AbstractConnection] = Connection, **arguments: Any) -> None:  # noqa: ANN401  the pool's own
        self.breaker = Breaker(self._probe, pause_seconds=_PROBE_PAUSE_SECONDS)
        self._plain_class = connection_class
        super().__init__(connection_class=_watched(connection_class, self.breaker), **arguments)
        timeout_seconds = self.connection_kwargs["socket_timeout"]
        self.scripts = ScriptConnection(self._open_stream, self.breaker, timeout_seconds=timeout_seconds)

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
        self.scripts.close()
        await super().aclose()

    async def _open_stream(self) -> asyncio.StreamWriter:
        """Open a connection as for any command, outside of the pool, and hand over its stream."""
        connection: Any = self.make_connection()  # type: ignore[no-untyped-call]
        try:
            await connection.connect()
        except BaseException:
            await connection.disconnect(nowait=True)
            raise
        return cast("asyncio.StreamWriter", connection.release_stream())

    async def _probe(self) -> None:
        """Publish on an unused channel. A server that is paused, even for writes only, does not answer."""
        connection = self._plain_class(**self.connection_kwargs)
        try:
            await connection.connect()  # type: ignore[no-untyped-call]
            await connection.send_command("PUBLISH", PROBE, "")
            await connection.read_response()
        finally:
            await connection.disconnect(nowait=True)


def _watched(connection_class: type[AbstractConnection], breaker: Breaker) -> type[AbstractConnection]:
    """The same class of connection, which reports missing replies to the breaker and can hand over its stream."""

    class Watched(connection_class):  # type: ignore[misc, valid-type]  # the address decides which class it is
        _is_renewed = False
        _sent_seconds = 0.0
        """When the command under way was sent; 0 once its first reply arrived."""

        def release_stream(self) -> asyncio.StreamWriter:
            """The stream of the open connection, which it no longer uses."""
            writer, self._reader, self._writer = self._writer, None, None  # type: ignore[has-type]
            return cast("asyncio.StreamWriter", writer)

        async def send_packed_command(self, *args: Any, **options: Any) -> None:  # noqa: ANN401  whatever is sent
            self._sent_seconds = time.perf_counter()
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
                reply = await super().read_response(*args, **options)
                if self._sent_seconds:
                    metrics.REDIS_SECONDS.observe(time.perf_counter() - self._sent_seconds)
                    self._sent_seconds = 0.0
                return reply  # noqa: TRY300  what is refused was not timed either
            except RedisTimeoutError:
                breaker.trip()
                raise
            except ReadOnlyError:
                await self.disconnect(nowait=True)  # the address may lead to a writable server by now
                raise

    return Watched


def create_client(url: str, *, timeout_seconds: float, connections: int) -> Redis:
    """A client for commands: bytes in, bytes out. A cluster's answers the same commands.

    Args:
        url: an address as ``app.settings.redis_url`` describes it.
        timeout_seconds: for connecting, for a connection from the pool and for each answer.
        connections: most connections of this process to a server.
    """
    address = parse_redis_url(url)
    options: dict[str, Any] = {
        "timeout": timeout_seconds,
        "max_connections": connections,
        "socket_timeout": timeout_seconds,
        "socket_connect_timeout": timeout_seconds,
        "decode_responses": False,
        "protocol": 2,
        **parse_url(address.plain),
    }
    match address.arrangement:
        case Arrangement.CLUSTER:
            return cast("Redis", _cluster(address, options))
        case Arrangement.SENTINEL:
            return _master(address, options)
        case Arrangement.SINGLE:
            return _server(options)


def connection_gauges(redis: Redis) -> Callable[[], None]:
    """Reads how many connections are in use, and how many there may be; on a cluster nothing."""
    pool = getattr(redis, "connection_pool", None)
    in_use, limit = metrics.REDIS_CONNECTIONS.labels("in_use"), metrics.REDIS_CONNECTIONS.labels("limit")

    def read() -> None:
        if isinstance(pool, GuardedPool):
            in_use.set(len(pool._in_use_connections))  # noqa: SLF001  the library tells it nowhere else
            limit.set(pool.max_connections)

    return read


def _server(options: Mapping[str, Any]) -> Redis:
    return Redis.from_pool(GuardedPool(**options, retry=_no_retry()))


def _master(address: RedisAddress, options: dict[str, Any]) -> Redis:
    """The server that Sentinel names the master; a new connection asks again."""
    of_sentinels = {
        name: options.pop(f"sentinel_{name}") for name in ("username", "password") if f"sentinel_{name}" in options
    }
    of_sentinels |= {name: value for name, value in options.items() if name.startswith(("socket_", "ssl_"))}
    is_encrypted = options.pop("connection_class", None) is SSLConnection
    of_sentinels |= {"ssl": is_encrypted, "retry": _no_retry()}
    sentinel = Sentinel(address.hosts, sentinel_kwargs=of_sentinels)  # type: ignore[no-untyped-call]
    of_master = {name: value for name, value in options.items() if name not in {"host", "port"}}
    of_master |= {"ssl": is_encrypted, "retry": _no_retry()}
    return Redis.from_pool(_MasterPool(address.service, sentinel, **of_master))  # type: ignore[no-untyped-call]


def _cluster(address: RedisAddress, options: dict[str, Any]) -> Cluster:
    of_nodes = {name: value for name, value in options.items() if name not in {"host", "port", "db"}}

    def connect(host: str, port: int) -> Redis:
        return _server({**of_nodes, "host": host, "port": port})

    of_commands = {name: value for name, value in of_nodes.items() if name not in {"connection_class", "timeout"}}
    of_commands["max_connections"] *= _ORDINARY_CONNECTIONS
    commands = RedisCluster(
        startup_nodes=[ClusterNode(host, port) for host, port in address.hosts],
        require_full_coverage=False,
        reinitialize_steps=0,  # else every fifth redirection closes the connections to all nodes
        retry=Retry(NoBackoff(), _TRIES_ON_A_CLUSTER),
        ssl=of_nodes.get("connection_class") is SSLConnection,
        **of_commands,
    )
    return Cluster(commands, connect)


def _no_retry() -> Retry:
    return Retry(NoBackoff(), 0)


class _MasterPool(SentinelConnectionPool, GuardedPool):
    """Connections to whichever server Sentinel names the master, bounded as those to a single server."""

    async def aclose(self) -> None:
        await super().aclose()
        await self.sentinel_manager.aclose()


@contextmanager
def translate_errors() -> Iterator[None]:
    """Turn errors of a server that is away, full or read-only into CountersUnavailable. Other errors pass."""
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
