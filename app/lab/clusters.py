"""A Valkey cluster on this machine, for benchmarks and tests."""

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from redis import Redis
from redis.exceptions import RedisError

from app.embedded.server import ServerFailed
from app.embedded.system import wait_until
from app.embedded.valkey import Valkey

HOST = "127.0.0.1"
SLOTS = 16_384
SETTLE_SECONDS = 60.0


class ClusterNode(Valkey):
    """A Valkey that also listens on a port."""

    def __init__(self, folder: Path, port: int, options: Mapping[str, str], *, binary: Path | None = None) -> None:
        listening = {"port": str(port), "bind": HOST, "protected-mode": "no"}
        super().__init__(folder, binary=binary, options={**listening, **options})
        self.port = port

    def ask(self, *command: str | int) -> Any:  # noqa: ANN401  as redis-py
        """The server's answer to a command, in the form that redis-py gives it."""
        with Redis(port=self.port, socket_timeout=10, decode_responses=True, protocol=2) as client:
            return client.execute_command(*command)

    def info(self, section: str, field: str) -> str:
        """A line of INFO, or '' if the server does not answer."""
        try:
            return str(self.ask("INFO", section).get(field, ""))
        except (RedisError, OSError):
            return ""

    @property
    def is_master(self) -> bool:
        return self.info("replication", "role") == "master"

    def is_linked(self) -> bool:
        """Whether this replica has what its master has."""
        return self.info("replication", "master_link_status") == "up"


class ValkeyCluster:
    """Masters and at most as many replicas: node ``i + masters`` is the replica of node ``i``."""

    def __init__(self, nodes: Sequence[ClusterNode], masters: int) -> None:
        self.nodes = nodes
        self._masters = masters

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"{HOST}:{node.port}" for node in self.nodes)

    def form(self) -> None:
        """Join the running nodes, and wait until each of them knows the whole cluster."""
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        for place, node in enumerate(masters):
            first, last = place * SLOTS // self._masters, (place + 1) * SLOTS // self._masters - 1
            node.ask("CLUSTER ADDSLOTSRANGE", first, last)
            node.ask("CLUSTER SET-CONFIG-EPOCH", place + 1)
        for node in self.nodes[1:]:
            bus = self.nodes[0].ask("CONFIG GET", "cluster-port")["cluster-port"]
            node.ask("CLUSTER MEET", HOST, self.nodes[0].port, bus)
        settle(lambda: all(len(node.ask("CLUSTER NODES")) == len(self.nodes) for node in self.nodes), "meet")
        for master, replica in zip(masters, replicas, strict=False):
            replica.ask("CLUSTER REPLICATE", master.ask("CLUSTER MYID"))
        self.settle()

    def settle(self) -> None:
        """Wait until all slots are served, and every replica has what its master has."""
        settle(self._is_whole, "become whole")

    def _is_whole(self) -> bool:
        running = [node for node in self.nodes if node.running]
        if any(node.ask("CLUSTER INFO").get("cluster_state") != "ok" for node in running):
            return False
        if not all(node.is_master or node.is_linked() for node in running):
            return False
        return all(self._seen_by(node) == {member.port for member in running} for node in running)

    def _seen_by(self, node: ClusterNode) -> set[int]:
        """The ports of all masters and replicas, as one node knows them."""
        return {int(served[1]) for _, _, *nodes in node.ask("CLUSTER SLOTS") for served in nodes}


def cluster_options(*, bus_port: int, node_timeout_ms: int) -> dict[str, str]:
    return {
        "cluster-enabled": "yes",
        "cluster-port": str(bus_port),
        "cluster-node-timeout": str(node_timeout_ms),
        "cluster-require-full-coverage": "no",
        "repl-diskless-sync-delay": "0",
    }


@contextlib.contextmanager
def started(servers: Sequence[Valkey]) -> Iterator[None]:
    """Start servers at the same time. They are killed at the end."""
    with ThreadPoolExecutor(len(servers)) as threads:
        try:
            for starting in [threads.submit(server.start) for server in servers]:
                starting.result()
            yield
        finally:
            for server in servers:
                server.kill9()


def free_ports(number: int) -> list[int]:
    """Ports on which nothing listens."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for opened in sockets:
            opened.bind((HOST, 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def settle(is_done: Callable[[], bool], what: str) -> None:
    """Wait for the servers. Raises ServerFailed."""
    if not wait_until(is_done, seconds=SETTLE_SECONDS):
        raise ServerFailed(f"the servers do not {what} within {SETTLE_SECONDS:.0f} s")
