"""Several Redis servers: one fails, or moves a slot, while children watch."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from uuid import uuid4

import pytest
from redis.crc import key_slot
from sqlalchemy import text

from app.auth.lockout_rules import PIN, Reservation
from app.auth.tokens import Role
from app.errors import CountersUnavailable
from app.redis_store import keys
from app.redis_store.attempts import RedisAttempts
from app.redis_store.client import create_client
from app.redis_store.keys import INVALIDATE, Keys
from app.settings.settings import Settings
from app.wiring.worker import WorkerServices, open_worker
from tests.builders import settings_for
from tests.clusters import ClusterOfServers, Member, running_cluster, running_sentinels
from tests.scenes.api import Api, running
from tests.scenes.households import Household, registered_at_noon
from tests.scenes.players import Player
from tests.servers import Databases

CHILDREN = 18
NOW_MS = 1_772_452_800_000
PATIENCE_SECONDS = 40.0
PROMISED_SECONDS = 5.0
KEYS = Keys(64)
FEW_BUCKETS = 3
"""So that several children share one."""
MOVE_SECONDS = 1.2
"""A while, and less than the two seconds for which a call waits for a slot on the move."""


@dataclass
class Evening:
    """Children of one household who watch, each on a player with a ledger."""

    api: Api
    home: Household
    players: Sequence[Player]
    worker: WorkerServices
    stop: asyncio.Event

    def players_at(self, children: Sequence[str]) -> list[Player]:
        return [player for player in self.players if player.child in children]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not is_so():  # noqa: ASYNC110  players change what is looked at, not a task of ours
                await asyncio.sleep(0.05)

    async def until_all_are_answered(self) -> None:
        """Until each player has been answered once more."""
        before = [player.answered for player in self.players]
        await self.until(lambda: all(player.answered > n for player, n in zip(self.players, before, strict=True)))

    async def written_ms(self) -> dict[str, int]:
        async with self.api.services.engine.connect() as database:
            rows = await database.execute(
                text("SELECT profile_id::text, sum(used_ms) FROM viewing_time_balances GROUP BY profile_id")
            )
            return {row[0]: int(row[1]) for row in rows}


@asynccontextmanager
async def evening(settings: Settings) -> AsyncIterator[Evening]:
    """Everybody watches; at the end nothing is lost, nothing doubled, in the answers and in PostgreSQL."""
    async with open_worker(settings) as worker:
        await worker.make_partitions()
        async with running(settings) as api:
            await api.services.redis.flushall()  # what other tests left unflushed is not of this evening
            home = await registered_at_noon(api)
            title = await api.add_title()
            players = [Player(home, await home.child(), title) for _ in range(CHILDREN)]
            going_on = Evening(api, home, players, worker, asyncio.Event())
            watching = asyncio.gather(*(player.watch(going_on.stop) for player in players))
            try:
                await going_on.until(lambda: watching.done() or all(player.answered > 2 for player in players))
                yield going_on
                await going_on.until_all_are_answered()
            finally:
                going_on.stop.set()
                await watching
            for player in players:
                player.assert_nothing_lost_or_doubled()
            assert (await worker.flusher.drain()).was_ours
            assert (await worker.flusher.backlog()).is_empty
            written = await going_on.written_ms()
            assert written == {player.child: round(player.used_seconds * 1000) for player in players}


@pytest.fixture
def frail_cluster() -> Iterator[ClusterOfServers]:
    """A cluster to break. A node counts as dead after 1 s, where 15 s are the default: fit for this machine only."""
    with running_cluster(node_timeout_ms=1000) as servers:
        yield servers


async def in_thread(action: Callable[..., object], *args: object, **options: object) -> None:
    await asyncio.to_thread(action, *args, **options)


def children_on(cluster: ClusterOfServers, node: Member, players: Sequence[Player]) -> list[str]:
    return [player.child for player in players if cluster.owner(KEYS.counters(player.child)) is node]


@pytest.mark.parametrize("way", ["killed", pytest.param("standing still", marks=pytest.mark.faults)])
async def test_a_master_that_dies_stops_its_own_children_for_seconds(
    postgres: Databases, frail_cluster: ClusterOfServers, way: str
) -> None:
    """Standing still is worse: it accepts connections, says nothing, and comes back believing to be the master."""
    settings = settings_for(database_url=postgres.fresh(), redis_url=frail_cluster.url, redis_timeout_seconds=0.5)
    async with evening(settings) as home:
        victim = frail_cluster.owner(KEYS.counters(home.players[0].child))
        hit = children_on(frail_cluster, victim, home.players)
        assert 0 < len(hit) < CHILDREN
        assert await readiness(home.api) == (200, "up")
        killed_at = time.monotonic()
        if way == "killed":
            await in_thread(victim.kill9)
        else:
            os.kill(victim.pid, signal.SIGSTOP)
        results = await batch(home)
        assert {child for child, code in results.items() if code == "counters_unavailable"} == set(hit)
        assert {code for child, code in results.items() if child not in hit} == {"allowed"}
        assert await readiness(home.api) == (200, "degraded")
        with contextlib.suppress(CountersUnavailable):
            await home.worker.flusher.drain()
        assert {player.child for player in home.players} - set(hit) <= set(await home.written_ms())
        struck = home.players_at(hit)
        await home.until(lambda: all(player.refused_at for player in struck))
        await home.until(lambda: all(player.last_answer_at > player.refused_at[-1] for player in struck))
        assert max(player.refused_at[-1] for player in struck) - killed_at < PROMISED_SECONDS
        if way == "standing still":
            os.kill(victim.pid, signal.SIGCONT)
            await in_thread(frail_cluster.settle)
            assert not victim.is_master
        assert [player.child for player in home.players if player.refused_at and player.child not in hit] == []


async def readiness(api: Api) -> tuple[int, str]:
    answer = await api.http.get("http://test/health/ready")
    return answer.status_code, answer.json()["redis"]


async def batch(home: Evening) -> dict[str, str]:
    """What a gateway's beats for all children come to: the enforcement or the problem's code by child."""
    beats = [
        {
            "profile_id": player.child,
            "title_id": player.title,
            "device_id": "tv-1",
            "device_type": "tv",
            "session_id": player.session_id,
        }
        for player in home.players
    ]
    gateway = home.api.as_role("gateway", Role.SERVICE)
    answer = await home.api.http.post("/viewing-time/heartbeats", json={"beats": beats}, headers=gateway)
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    return {
        player.child: result.get("enforcement") or result["code"]
        for player, result in zip(home.players, results, strict=True)
    }


@pytest.mark.parametrize("way", ["key after key", "as a whole"])
async def test_a_slot_that_moves_is_followed(postgres: Databases, cluster: ClusterOfServers, way: str) -> None:
    """Its beats wait for it; nobody is refused."""
    settings = settings_for(database_url=postgres.fresh(), redis_url=cluster.url, buckets=FEW_BUCKETS)
    async with evening(settings) as home:
        key = Keys(FEW_BUCKETS).counters(home.players[0].child)
        slot, source = key_slot(key.encode()), cluster.owner(key)
        target = next(node for node in cluster.nodes if node is not source and node.is_master)
        if way == "as a whole":
            await in_thread(cluster.move_at_once, slot, source, target)
        else:
            await in_thread(cluster.move_by_key, slot, source, target, seconds=MOVE_SECONDS)
        assert cluster.owner(key) is target
        await home.until_all_are_answered()
        assert [player.child for player in home.players if player.refused_at] == []


async def test_a_command_is_sent_on_to_the_node_that_a_key_moves_to(cluster: ClusterOfServers) -> None:
    """The old node answers ASK for what it has not; several connections are open to both."""
    redis = create_client(cluster.url, timeout_seconds=5, connections=4)
    tries = RedisAttempts(redis)
    subject = str(uuid4())
    key = keys.attempts(subject, PIN.kind)
    slot, source = key_slot(key.encode()), cluster.owner(key)
    target = next(node for node in cluster.nodes if node is not source and node.is_master)
    await asyncio.gather(
        *(tries.reserve(str(uuid4()), PIN, Reservation(id=uuid4().hex, at_ms=NOW_MS)) for _ in range(50))
    )
    target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.ask("CLUSTER MYID"))
    source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.ask("CLUSTER MYID"))
    reserved = [
        await tries.reserve(subject, PIN, Reservation(id=uuid4().hex, at_ms=NOW_MS + n)) for n in range(PIN.most + 1)
    ]
    assert [admission.is_reserved for admission in reserved] == [True] * PIN.most + [False]
    assert source.ask("CLUSTER COUNTKEYSINSLOT", slot) == 0
    cluster.give(slot, target)
    await redis.aclose()


async def test_scripts_that_the_nodes_forget_are_told_again(postgres: Databases, cluster: ClusterOfServers) -> None:
    async with evening(settings_for(database_url=postgres.fresh(), redis_url=cluster.url)) as home:
        for _ in range(10):
            for node in cluster.nodes[:3]:
                await in_thread(node.ask, "SCRIPT FLUSH")
            await asyncio.sleep(0.1)
        assert [player.child for player in home.players if player.refused_at] == []


async def test_what_an_account_plays_is_gathered_from_every_node(
    postgres: Databases, cluster: ClusterOfServers
) -> None:
    settings = settings_for(database_url=postgres.fresh(), redis_url=cluster.url, track_adults=True)
    async with running(settings) as api:
        home, title = await registered_at_noon(api), await api.add_title()
        profiles = [await home.child(is_kids=place % 2 == 0) for place in range(12)]
        assert len({cluster.owner(KEYS.counters(profile)).port for profile in profiles}) > 1
        answers = await asyncio.gather(*(home.beat(profile, title) for profile in profiles))
        await api.services.viewing.active_sessions.drain()
        platform = api.as_role("platform", Role.SERVICE)
        streams = (await api.http.get(f"/viewing-time/streams/{home.id}", headers=platform)).json()["streams"]
        assert {stream["profile_id"]: stream["session_id"] for stream in streams} == {
            profile: answer.json()["session_id"] for profile, answer in zip(profiles, answers, strict=True)
        }
        for profile in profiles[1::2]:
            await api.http.delete(f"/profiles/{profile}", headers=home.as_parent)
        assert [key async for key in api.services.redis.scan_iter("*:sessions:*")] == []


async def test_settings_reach_every_process_though_the_node_it_listens_to_dies(
    postgres: Databases, frail_cluster: ClusterOfServers
) -> None:
    settings = settings_for(database_url=postgres.fresh(), redis_url=frail_cluster.url, redis_timeout_seconds=0.5)
    async with open_worker(settings) as worker:
        await worker.make_partitions()
    async with running(settings) as api:
        home = await registered_at_noon(api)
        child, title = await home.child(), await api.add_title()
        assert (await home.beat(child, title)).status_code == 200
        await api.services.viewing.invalidations.subscribed.wait()
        heard = next(node for node in frail_cluster.nodes if is_heard_at(node))
        await in_thread(heard.kill9)
        others = [node for node in frail_cluster.nodes if node.running]
        await until(lambda: any(is_heard_at(node) for node in others))
        await in_thread(frail_cluster.settle)
        changed = await home.set_limits(child, weekday_limit_minutes=15, weekend_limit_minutes=15)
        assert changed.status_code == 200, changed.text
        policies = api.services.viewing.service._policies
        await until(lambda: policies._min_version_of(child) == changed.json()["version"])


def is_heard_at(node: Member) -> bool:
    """Whether anybody listens for invalidations at a node."""
    [(_, listeners)] = node.ask("PUBSUB NUMSUB", INVALIDATE)
    return bool(listeners)


async def until(is_so: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not await asyncio.to_thread(is_so):  # noqa: ASYNC110  servers tell nobody
            await asyncio.sleep(0.05)


@pytest.mark.faults
async def test_sentinel_names_another_master_while_children_watch(postgres: Databases) -> None:
    with running_sentinels() as servers:
        settings = settings_for(database_url=postgres.fresh(), redis_url=servers.url, redis_timeout_seconds=0.5)
        async with evening(settings) as home:
            first = servers.master
            await in_thread(first.kill9)
            await home.until(lambda: all(player.refused_at for player in home.players))
            await home.until(lambda: all(player.last_answer_at > player.refused_at[-1] for player in home.players))
            assert servers.master is not first
