"""What differs on a cluster: a call touches one slot, so calls over many profiles are split by bucket.

Heartbeats are the exception: a call takes those of a node, as long as the node has all their slots.
"""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

from app.domain.adults import AdultBeat, AdultSession
from app.domain.checkpoint import Checkpoint
from app.domain.counters import Beat, Counters, Outcome
from app.domain.policy import Policy
from app.domain.tampering import PositionWatch
from app.redis_store.adults import RedisAdultSessions
from app.redis_store.checkpoints import RedisCheckpoints
from app.redis_store.cluster import SlotsElsewhere, as_cluster
from app.redis_store.counters import RedisCounters
from app.redis_store.policies import SharedPolicies
from app.redis_store.positions import RedisPositions

Shard: TypeAlias = str | int
Item = TypeVar("Item")
Answer = TypeVar("Answer")


class ClusteredCounters(RedisCounters):
    """Where a bucket's node is away the whole call fails; who wants the others' answers asks shard by shard."""

    def shard_of(self, profile_id: str) -> Shard:
        """What a call of beats may hold: the address of a node for all its buckets, or one bucket.

        A node's buckets are apart while one of its slots moves, and where the node takes no call over several slots.
        """
        bucket = self._keys.bucket(profile_id)
        cluster = as_cluster(self._redis)
        return (cluster and cluster.whole_node(self._keys.slot(bucket))) or bucket

    async def record(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome]:
        """As in one call. It is one, if all beats are of one shard."""
        node = self.shard_of(beats[0][0])
        if isinstance(node, str):
            try:
                return await self._record_at(node, beats)
            except SlotsElsewhere:
                pass  # nothing was counted; these calls find the slots, and wait for those on the move
        return await by_bucket(beats, super().record, bucket_of=lambda beat: self._keys.bucket(beat[0]))

    async def seed(self, seeds: Sequence[tuple[str, Counters]]) -> None:
        async def seeded(some: Sequence[tuple[str, Counters]]) -> list[None]:
            await RedisCounters.seed(self, some)
            return [None] * len(some)

        await by_bucket(seeds, seeded, bucket_of=lambda seed: self._keys.bucket(seed[0]))

    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Counters | None]]:
        return await by_bucket(profile_ids, super().read, bucket_of=self._keys.bucket)


class ClusteredAdultSessions(RedisAdultSessions):
    async def keep(self, beats: Sequence[AdultBeat]) -> None:
        async def kept(some: Sequence[AdultBeat]) -> list[None]:
            await RedisAdultSessions.keep(self, some)
            return [None] * len(some)

        await by_bucket(beats, kept, bucket_of=lambda beat: self._keys.bucket(beat.profile_id))

    async def running(self, profile_ids: Sequence[str]) -> list[list[AdultSession]]:
        return await by_bucket(profile_ids, super().running, bucket_of=self._keys.bucket)


class ClusteredPositions(RedisPositions):
    async def read(self, profile_ids: Sequence[str]) -> list[PositionWatch | None]:
        return await by_bucket(profile_ids, super().read, bucket_of=self._keys.bucket)

    async def keep(self, watches: Sequence[tuple[str, PositionWatch]]) -> None:
        async def kept(some: Sequence[tuple[str, PositionWatch]]) -> list[None]:
            await RedisPositions.keep(self, some)
            return [None] * len(some)

        await by_bucket(watches, kept, bucket_of=lambda watch: self._keys.bucket(watch[0]))


class ClusteredPolicies(SharedPolicies):
    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        return await by_bucket(profile_ids, super().load, bucket_of=self._keys.bucket)

    async def put(self, policies: Sequence[Policy], counters_of: Mapping[str, Counters] | None = None) -> list[Policy]:
        async def put(some: Sequence[Policy]) -> list[list[Policy]]:
            newer = {id(policy) for policy in await SharedPolicies.put(self, some, counters_of)}
            return [[policy] if id(policy) in newer else [] for policy in some]

        found = await by_bucket(policies, put, bucket_of=lambda policy: self._keys.bucket(policy.profile_id))
        return [policy for some in found for policy in some]


class ClusteredCheckpoints(RedisCheckpoints):
    async def read(self) -> list[Checkpoint]:
        return await by_bucket(range(self.buckets), self.read_some, bucket_of=int)

    async def write(self, marks: Mapping[int, Checkpoint]) -> None:
        async def written(some: Sequence[tuple[int, Checkpoint]]) -> list[None]:
            await RedisCheckpoints.write(self, dict(some))
            return [None] * len(some)

        await by_bucket(list(marks.items()), written, bucket_of=lambda pair: pair[0])

    async def advance(self, known: Mapping[int, Checkpoint]) -> dict[int, Checkpoint] | None:
        async def advanced(some: Sequence[tuple[int, Checkpoint]]) -> list[tuple[int, Checkpoint] | None]:
            raised = await RedisCheckpoints.advance(self, dict(some))
            return [None] * len(some) if raised is None else [*raised.items()]

        found = await by_bucket(list(known.items()), advanced, bucket_of=lambda pair: pair[0])
        raised = dict(pair for pair in found if pair is not None)
        return raised if len(raised) == len(known) else None


async def by_bucket(
    items: Sequence[Item],
    call: Callable[[Sequence[Item]], Awaitable[Sequence[Answer]]],
    *,
    bucket_of: Callable[[Item], int],
) -> list[Answer]:
    """One call for each bucket, all at once; the answers in the order of the items.

    Raises:
        Exception: what the first call that failed raised, after all have ended.
    """
    places: dict[int, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[bucket_of(item)].append(place)
    if len(places) == 1:
        return list(await call(items))
    calls = (call([items[place] for place in group]) for group in places.values())
    answers: dict[int, Answer] = {}
    failures: list[BaseException] = []
    for group, found in zip(places.values(), await asyncio.gather(*calls, return_exceptions=True), strict=True):
        if isinstance(found, BaseException):
            failures.append(found)
        else:
            answers.update(zip(group, found, strict=True))
    if failures:
        raise failures[0]
    return [answers[place] for place in range(len(items))]
