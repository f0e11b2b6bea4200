"""Several real servers: a cluster, and a master with a replica and Sentinels."""

import shutil
import socket
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from redis import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from app.embedded.system import wait_until
from tests.servers import Cache, reachable_folder

SLOTS = 16_384
SETTLE_SECONDS = 60.0
SERVICE = "counters"


class Member(Cache):
    """A Valkey on a port of its own, one of several."""

    def __init__(self, folder: Path, port: int, options: Mapping[str, str]) -> None:
        super().__init__(folder, options={"port": str(port), "bind": "127.0.0.1", "protected-mode": "no", **options})
        self.port = port

    def ask(self, *command: str | int) -> Any:
        """The server's answer to a command, as redis-py words it."""
        with Redis(port=self.port, socket_timeout=10, decode_responses=True, protocol=2) as client:
            return client.execute_command(*command)

    def says(self, section: str, field: str) -> str:
        """A line of INFO, '' when it cannot be asked."""
        try:
            return str(self.ask("INFO", section).get(field, ""))
        except (RedisError, OSError):
            return ""

    @property
    def is_master(self) -> bool:
        return self.says("replication", "role") == "master"

    def stands_by(self) -> bool:
        return self.says("replication", "master_link_status") == "up"


class Watch(Member):
    """A Sentinel. It writes its own configuration, so it is given one once."""

    def _prepare(self) -> None:
        super()._prepare()
        lines = self._configuration.read_text().splitlines()
        kept = ("port ", "bind ", "protected-mode ", "unixsocket", "dir ", "set-proc-title ", "sentinel ")
        self._configuration.write_text("".join(f"{line}\n" for line in lines if line.startswith(kept)))

    def _command(self) -> Sequence[str | Path]:
        return [*super()._command(), "--sentinel"]


class ClusterOfServers:
    """Masters and as many replicas; node i + masters stands by for node i."""

    def __init__(self, nodes: Sequence[Member], masters: int) -> None:
        self.nodes = nodes
        self._masters = masters

    @property
    def url(self) -> str:
        return "redis+cluster://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

    def form(self) -> None:
        """Bring the nodes together, and wait until every one of them says so."""
        masters, replicas = self.nodes[: self._masters], self.nodes[self._masters :]
        for place, node in enumerate(masters):
            first, last = place * SLOTS // self._masters, (place + 1) * SLOTS // self._masters - 1
            node.ask("CLUSTER ADDSLOTSRANGE", first, last)
            node.ask("CLUSTER SET-CONFIG-EPOCH", place + 1)
        for node in self.nodes[1:]:
            bus = self.nodes[0].ask("CONFIG GET", "cluster-port")["cluster-port"]
            node.ask("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, bus)
        _settle(lambda: all(len(self._known(node)) == len(self.nodes) for node in self.nodes), "meet")
        for master, replica in zip(masters, replicas, strict=False):
            replica.ask("CLUSTER REPLICATE", master.ask("CLUSTER MYID"))
        self.settle()

    def settle(self) -> None:
        """Wait until all slots are served, and every replica has what its master has."""
        _settle(self._is_whole, "become whole")

    def owner(self, key: str) -> Member:
        """The running node that serves a key."""
        slot = key_slot(key.encode())
        for node in self.nodes:
            if node.running:
                for first, last, served, *_ in node.ask("CLUSTER SLOTS"):
                    if first <= slot <= last:
                        return next(member for member in self.nodes if member.port == served[1])
        raise AssertionError(f"nobody serves slot {slot}")

    def move_by_key(self, slot: int, source: Member, target: Member, *, seconds: float) -> None:
        """Move a slot the way every version can: key after key, and for a while either node has some of them.

        However many keys there are: the moves are spread evenly over so long, as far as the nodes keep up.
        """
        source_id, target_id = source.ask("CLUSTER MYID"), target.ask("CLUSTER MYID")
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
        began, total, moved = time.monotonic(), source.ask("CLUSTER COUNTKEYSINSLOT", slot), 0
        while keys := source.ask("CLUSTER GETKEYSINSLOT", slot, 2):
            source.ask("MIGRATE", "127.0.0.1", target.port, "", 0, 5000, "KEYS", *keys)
            moved += len(keys)
            time.sleep(max(0.0, began + seconds * moved / max(total, moved) - time.monotonic()))
        self.give(slot, target)

    def give(self, slot: int, target: Member) -> None:
        """End a move: the new owner hears of it first."""
        for node in (target, *self.nodes):
            if node.running and node.is_master:
                node.ask("CLUSTER SETSLOT", slot, "NODE", target.ask("CLUSTER MYID"))

    def move_at_once(self, slot: int, source: Member, target: Member) -> None:
        """Move a slot the way Valkey 9 can: as a whole."""
        source.ask("CLUSTER MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", target.ask("CLUSTER MYID"))
        _settle(lambda: self._serves(target, slot), "move a slot")

    def _serves(self, node: Member, slot: int) -> bool:
        ranges = node.ask("CLUSTER SLOTS")
        return any(first <= slot <= last and served[1] == node.port for first, last, served, *_ in ranges)

    def _known(self, node: Member) -> Sequence[object]:
        return node.ask("CLUSTER NODES")  # type: ignore[no-any-return]

    def _is_whole(self) -> bool:
        running = [node for node in self.nodes if node.running]
        if any(node.ask("CLUSTER INFO").get("cluster_state") != "ok" for node in running):
            return False
        if not all(node.is_master or node.stands_by() for node in running):
            return False
        return all(self._seen_by(node) == {member.port for member in running} for node in running)

    def _seen_by(self, node: Member) -> set[int]:
        """The ports of all nodes that have slots or stand by, as one node knows them."""
        return {int(served[1]) for _, _, *nodes in node.ask("CLUSTER SLOTS") for served in nodes}


class SentinelServers:
    """A master, a replica, and three Sentinels that watch them."""

    def __init__(self, servers: Sequence[Member], watches: Sequence[Watch]) -> None:
        self.servers = servers
        self.watches = watches

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{watch.port}" for watch in self.watches)
        return f"redis+sentinel://{hosts}/{SERVICE}"

    @property
    def master(self) -> Member:
        return next(server for server in self.servers if server.is_master)

    def settle(self) -> None:
        """Wait until all know each other, so that a failover can be voted."""
        _settle(lambda: all(self._knows_all(watch) for watch in self.watches), "know each other")

    def _knows_all(self, watch: Watch) -> bool:
        state = watch.ask("SENTINEL MASTER", SERVICE)
        others = (state["num-other-sentinels"], state["num-slaves"])
        replicas = [server for server in self.servers if server is not self.master]
        return others == (len(self.watches) - 1, len(replicas)) and all(server.stands_by() for server in replicas)


@contextmanager
def running_cluster(
    *, masters: int = 3, replicas: bool = True, node_timeout_ms: int = 1500
) -> Iterator[ClusterOfServers]:
    """A cluster on loopback that notices the death of a node quickly."""
    number = masters * 2 if replicas else masters
    ports = free_ports(2 * number)
    with reachable_folder() as folder:
        nodes = [
            Member(
                folder / f"node{place}",
                ports[place],
                {
                    "cluster-enabled": "yes",
                    "cluster-port": str(ports[place + number]),
                    "cluster-node-timeout": str(node_timeout_ms),
                    "cluster-require-full-coverage": "no",
                    "repl-diskless-sync-delay": "0",
                    "enable-debug-command": "local",
                },
            )
            for place in range(number)
        ]
        with _started(nodes):
            cluster = ClusterOfServers(nodes, masters)
            cluster.form()
            yield cluster


@contextmanager
def running_sentinels(*, down_after_ms: int = 1000) -> Iterator[SentinelServers]:
    ports = free_ports(5)
    with reachable_folder() as folder:
        replication = {"repl-diskless-sync-delay": "0"}
        master = Member(folder / "master", ports[0], replication)
        replica = Member(folder / "replica", ports[1], replication | {"replicaof": f"127.0.0.1 {ports[0]}"})
        told = {
            f"sentinel monitor {SERVICE}": f"127.0.0.1 {ports[0]} 2",
            f"sentinel down-after-milliseconds {SERVICE}": str(down_after_ms),
            f"sentinel failover-timeout {SERVICE}": "3000",
        }
        watches = [Watch(folder / f"watch{port}", port, told) for port in ports[2:]]
        with _started([master, replica]), _started(watches):
            servers = SentinelServers([master, replica], watches)
            servers.settle()
            yield servers


@contextmanager
def _started(servers: Sequence[Member]) -> Iterator[None]:
    with ThreadPoolExecutor(len(servers)) as threads:
        try:
            for starting in [threads.submit(server.start) for server in servers]:
                starting.result()
            yield
        finally:
            for server in servers:
                server.kill9()
                shutil.rmtree(server.folder, ignore_errors=True)


def free_ports(number: int) -> list[int]:
    """Ports that nobody listens on."""
    sockets = [socket.socket() for _ in range(number)]
    try:
        for opened in sockets:
            opened.bind(("127.0.0.1", 0))
        return [int(opened.getsockname()[1]) for opened in sockets]
    finally:
        for opened in sockets:
            opened.close()


def _settle(is_done: Any, what: str) -> None:
    if not wait_until(is_done, seconds=SETTLE_SECONDS):
        raise AssertionError(f"the servers do not {what} within {SETTLE_SECONDS} s")
