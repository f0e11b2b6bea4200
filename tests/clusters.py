"""Several real servers: a cluster, and a master with a replica and Sentinels."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from redis.crc import key_slot

from app.lab.clusters import ClusterNode, ValkeyCluster, cluster_options, free_ports, settle, started
from tests.servers import Cache, reachable_folder

SERVICE = "counters"


class Member(Cache, ClusterNode):
    """A Valkey on a port of its own, one of several, that does not outlive the tests."""


class Watch(Member):
    """A Sentinel. It writes its own configuration, so it is given one once."""

    def _prepare(self) -> None:
        super()._prepare()
        lines = self._configuration.read_text().splitlines()
        kept = ("port ", "bind ", "protected-mode ", "unixsocket", "dir ", "set-proc-title ", "sentinel ")
        self._configuration.write_text("".join(f"{line}\n" for line in lines if line.startswith(kept)))

    def _command(self) -> Sequence[str | Path]:
        return [*super()._command(), "--sentinel"]


class ClusterOfServers(ValkeyCluster):
    """A cluster whose slots move."""

    nodes: Sequence[Member]

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
        settle(lambda: self._serves(target, slot), "move a slot")

    def _serves(self, node: Member, slot: int) -> bool:
        ranges = node.ask("CLUSTER SLOTS")
        return any(first <= slot <= last and served[1] == node.port for first, last, served, *_ in ranges)


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
        settle(lambda: all(self._knows_all(watch) for watch in self.watches), "know each other")

    def _knows_all(self, watch: Watch) -> bool:
        state = watch.ask("SENTINEL MASTER", SERVICE)
        others = (state["num-other-sentinels"], state["num-slaves"])
        replicas = [server for server in self.servers if server is not self.master]
        return others == (len(self.watches) - 1, len(replicas)) and all(server.is_linked() for server in replicas)


@contextmanager
def running_cluster(
    *, masters: int = 3, replicas: bool = True, node_timeout_ms: int = 1500, binary: Path | None = None
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
                    **cluster_options(bus_port=ports[place + number], node_timeout_ms=node_timeout_ms),
                    "enable-debug-command": "local",
                },
                binary=binary,
            )
            for place in range(number)
        ]
        with started(nodes):
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
        with started([master, replica]), started(watches):
            servers = SentinelServers([master, replica], watches)
            servers.settle()
            yield servers
