"""The Redis servers of an environment: one, or the nodes of a cluster."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import redis
from redis.cluster import RedisCluster

from app.embedded.valkey import Valkey
from app.settings.redis_url import Arrangement, parse_redis_url


class RedisServers:
    """Running servers.

    Args:
        url: their address, as `REDIS_URL` has it.
        nodes: the servers themselves; several form a cluster.
    """

    def __init__(self, url: str, nodes: Sequence[Valkey]) -> None:
        self.url = url
        self._nodes = nodes
        self._address = parse_redis_url(url)

    @property
    def pids(self) -> Sequence[int]:
        return [node.pid for node in self._nodes]

    @contextmanager
    def client(self) -> Iterator["redis.Redis | RedisCluster"]:
        """A client that finds the node of each key."""
        client: redis.Redis | RedisCluster
        if self._address.arrangement is Arrangement.CLUSTER:
            client = RedisCluster.from_url(self._address.plain, protocol=2)
        else:
            client = redis.Redis.from_url(self._address.plain, protocol=2)
        try:
            yield client
        finally:
            client.close()

    def flush_all(self) -> None:
        """Remove all keys."""
        for node in self._nodes:
            with _client_of(node) as client:
                client.flushall()

    def used_memory(self) -> int:
        """Bytes in use, of all servers together."""
        return sum(int(self._info(node, "memory")["used_memory"]) for node in self._nodes)

    def version(self) -> str:
        found = self._info(self._nodes[0], "server")
        return str(found.get("valkey_version") or found["redis_version"])

    @staticmethod
    def _info(node: Valkey, section: str) -> dict[str, Any]:
        with _client_of(node) as client:
            found: dict[str, Any] = client.info(section)
        return found


@contextmanager
def _client_of(node: Valkey) -> Iterator["redis.Redis"]:
    """A client of one server, over its socket."""
    client = redis.Redis.from_url(node.url, protocol=2)
    try:
        yield client
    finally:
        client.close()
