"""A cluster of Redis or Valkey.

redis-py's cluster client maps slots to nodes and sends the ordinary commands. Scripts are the hot path and use a
connection per node, as for a single server. redis-py alone does not suffice: it sends one command at a time, and raises
at once if a pool is empty. It closes the connections to all nodes if one node reports
that the cluster is down. It sends ASKING on another connection than the command that needs it.
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any, cast

from hiredis import pack_command
from redis.asyncio import Redis, RedisCluster
from redis.asyncio.client import PubSub
from redis.asyncio.cluster import ClusterNode
from redis.exceptions import (
    AskError,
    ClusterCrossSlotError,
    ClusterDownError,
    MovedError,
    RedisClusterException,
    RedisError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import (
    ConnectionError as RedisConnectionError,
)
from redis.exceptions import (
    TimeoutError as RedisTimeoutError,
)

_AWAY = (RedisConnectionError, RedisTimeoutError, OSError)
_ASKING = cast("bytes", pack_command(("ASKING",)))
_LOOK_PAUSE_SECONDS = 0.2
_APART_SECONDS = 5.0
"""For how long a node gets no calls over several slots after one of its slots was not wholly there."""
_ELSEWHERE = (MovedError, AskError, TryAgainError, ClusterDownError, ClusterCrossSlotError)
_ELSEWHERE_TEXTS = ("non local key", "same slot", "cluster is down", "CROSSSLOT", "MOVED ", "ASK ", "TRYAGAIN")
"""What a script says of a key whose slot is not wholly there; the code of the error is another one."""
_PUBLISHERS = 3
_PATIENCE_SECONDS = (0, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.0)
"""Pauses before each repetition of a script that a node refused because its slot is on the move."""


class Cluster:
    """Every node of a cluster behind one client. What it does not define is the cluster client's of redis-py.

    Args:
        commands: for ordinary commands, and for the map of slots and nodes.
        connect: a client for one node, by host and port, its waits bounded.
    """

    def __init__(self, commands: RedisCluster, connect: Callable[[str, int], Redis]) -> None:
        self.commands = commands
        self._connect = connect
        self._nodes: dict[str, _Node] = {}
        self._looking: asyncio.Task[None] | None = None
        self._looked_at = 0.0
        self._apart_until: dict[str, float] = {}
        """By node, until when (on the loop's clock) each call must stay within a slot."""
        self._turns = count()

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401  redis-py's commands are typed where they are used
        return getattr(self.commands, name)

    async def run(self, key: str, packed: bytes) -> object:
        """Run a packed command on the node that has a key; all its keys lie in one slot.

        A node that refuses because the slot is moving has not run it, so it is sent again for about two seconds. So it
        is when no connection could be had and another node has taken the place. One that does not answer may have run
        it: that is for the caller to judge.

        Raises:
            redis.exceptions.RedisError: it was refused, or not answered.
        """
        if not self.commands.nodes_manager.slots_cache:
            await self._find_nodes()
        for pause_seconds in _PATIENCE_SECONDS:
            if pause_seconds:
                await asyncio.sleep(pause_seconds)
            owner = self.owner(key)
            try:
                return await self._run_once(key, packed)
            except NeverSent:
                await asyncio.wait([self._look_again()])
                if self.owner(key) == owner:
                    raise
            except MovedError as error:
                self._keep_apart(owner)
                await self._note_move(error)
            except TryAgainError:
                self._keep_apart(owner)
            except ClusterDownError:
                self._look_again()
            except (RedisClusterException, *_AWAY):
                self._look_again()
                raise
        raise ClusterDownError("the slot is on the move")

    async def run_at(self, name: str, packed: bytes) -> object:
        """Run a packed command at a node, by its address. Its keys are undeclared and may lie in several slots.

        Raises:
            SlotsElsewhere: the node does not have all keys, and nothing was done.
            redis.exceptions.RedisError: it was refused, or not answered.
        """
        try:
            return await self._nodes[name].run(packed)
        except (NeverSent, *_ELSEWHERE) as error:
            cause: Exception = error
        except ResponseError as error:
            if not any(text in str(error) for text in _ELSEWHERE_TEXTS):
                raise
            cause = error
        except _AWAY:
            self._look_again()
            raise
        self._keep_apart(name)
        self._look_again()
        raise SlotsElsewhere from cause

    def whole_node(self, slot: int) -> str:
        """The address of the node that has a slot, where it may be asked for several slots at once; else ''."""
        nodes = self.commands.nodes_manager.slots_cache.get(slot)
        if not nodes:
            return ""
        name: str = nodes[0].name
        until = self._apart_until.get(name)
        if until is not None:
            if asyncio.get_running_loop().time() < until:
                return ""
            del self._apart_until[name]
        if name not in self._nodes:
            self._node(nodes[0].host, int(nodes[0].port))
        return name

    def _keep_apart(self, name: str) -> None:
        self._apart_until[name] = asyncio.get_running_loop().time() + _APART_SECONDS

    def pubsub(self) -> PubSub:
        """A subscription at one node, another one each time: a published message reaches all nodes."""
        self._look_again()
        return self._nodes_in_turn()[0].pubsub()

    async def publish(self, channel: str, message: str) -> int:
        """Publish at the first node that answers. Raises redis.exceptions.RedisError."""
        failure: Exception = RedisConnectionError("no node is known")
        for node in self._nodes_in_turn()[:_PUBLISHERS]:
            try:
                return await node.publish(channel, message)
            except _AWAY as error:
                failure = error
        raise failure

    def owner(self, key: str) -> str:
        """The address of the node that has a key, as far as is known; '' when it is not."""
        nodes = self.commands.nodes_manager.slots_cache.get(self.commands.keyslot(key))
        return nodes[0].name if nodes else ""

    async def nodes(self) -> tuple[dict[str, Redis], dict[str, Redis]]:
        """A client for each node that has slots, and for each that stands by, by address, as far as is known.

        Raises:
            redis.exceptions.ConnectionError: no node answers.
        """
        if not self.commands.nodes_manager.slots_cache:
            await self._find_nodes()
        return self._clients(self.commands.get_primaries()), self._clients(self.commands.get_replicas())

    async def aclose(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for node in self._nodes.values():
            await node.redis.aclose()
        await self.commands.aclose()
        for nodes in ("nodes_cache", "startup_nodes"):  # redis-py leaves them open when it was about to look again
            await self.commands.nodes_manager.aclose(nodes)

    def _nodes_in_turn(self) -> list[Redis]:
        """All nodes, each time beginning with the next."""
        nodes = list(self.commands.nodes_manager.startup_nodes.values())
        first = next(self._turns) % len(nodes)
        return [self._node(node.host, int(node.port)).redis for node in (*nodes[first:], *nodes[:first])]

    async def _run_once(self, key: str, packed: bytes) -> object:
        owner = cast("ClusterNode", self.commands.get_node_from_key(key))
        try:
            return await self._node(owner.host, int(owner.port)).run(packed)
        except AskError as error:
            if isinstance(error, MovedError):
                raise
            self._keep_apart(owner.name)
            return await self._node(error.host, error.port).run(_ASKING, packed)

    async def _note_move(self, error: MovedError) -> None:
        if error.slot_id in self.commands.nodes_manager.slots_cache:
            await self.commands.nodes_manager.move_slot(error)
        self._look_again()

    def _node(self, host: str, port: int) -> "_Node":
        name = f"{host}:{port}"
        node = self._nodes.get(name)
        if node is None:
            node = self._nodes[name] = _Node(self._connect(host, port))
        return node

    def _clients(self, nodes: Sequence[ClusterNode]) -> dict[str, Redis]:
        return {node.name: self._node(node.host, int(node.port)).redis for node in nodes}

    def _look_again(self) -> asyncio.Task[None]:
        """Read the slot map from the nodes, once at a time and not too often. Answers the last read."""
        now = asyncio.get_running_loop().time()
        if self._looking is None or (self._looking.done() and now > self._looked_at + _LOOK_PAUSE_SECONDS):
            self._looking, self._looked_at = asyncio.create_task(self._look(), name="cluster-look"), now
        return self._looking

    async def _look(self) -> None:
        with contextlib.suppress(RedisError, OSError):
            await self._find_nodes()

    async def _find_nodes(self) -> None:
        manager = self.commands.nodes_manager
        try:
            if manager.slots_cache:
                await manager.initialize()
            else:
                await self.commands.initialize()
        except RedisClusterException as error:
            # Every node it has learnt of is away: perhaps the names it was given lead to others by now.
            manager.startup_nodes.update({node.name: node for node in self.commands.startup_nodes})
            raise RedisConnectionError(str(error)) from error
        for name in set(self._nodes) - set(manager.nodes_cache):
            if self._nodes[name].is_away:  # it has left; else it may be the one that slots are moving to
                await self._nodes.pop(name).redis.aclose()


class SlotsElsewhere(Exception):
    """A node does not have all keys of a call over several slots. Repeat it slot by slot."""


class NeverSent(RedisConnectionError):
    """There was no connection to send a command over."""


class _Node:
    """Scripts on one node."""

    def __init__(self, redis: Redis) -> None:
        self.redis = redis
        self._pool: Any = redis.connection_pool  # a guarded one, which this module cannot name

    @property
    def is_away(self) -> bool:
        """Whether it did not answer, and is asked again and again until it does."""
        return bool(self._pool.breaker.is_open)

    async def run(self, *commands: bytes) -> object:
        """Send commands right after each other; the reply to the last. Raises redis.exceptions.RedisError."""
        try:
            await self._pool.scripts.opened()
        except _AWAY as error:
            raise NeverSent from error
        return await self._pool.scripts.run(*commands)


def as_cluster(redis: object) -> Cluster | None:
    """The client as that of a cluster, if it is one: adapters take any for a ``Redis``."""
    return redis if isinstance(redis, Cluster) else None
