"""Counters of children in Redis: the adapter behind the ports of the heartbeat and the flush."""

from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.domain.counters import Beat, Counters, Outcome, Rules, Share
from app.domain.policy import EarlierDay
from app.errors import CountersUnavailable
from app.observability import metrics
from app.redis_store.beat_calls import BeatCall
from app.redis_store.client import translate_errors
from app.redis_store.keys import Keys
from app.redis_store.ports import RollbackGuard
from app.redis_store.rollback_guard import MAX_ATTEMPTS, NoRollbackGuard, refresh_checkpoints
from app.redis_store.scripts import Script

_SCANNED = 1000
_encode = msgspec.msgpack.Encoder().encode
_decode_counters = msgspec.msgpack.Decoder(Counters).decode


class RedisCounters:
    """Usage of children. All calls take many children at once.

    Args:
        live_ttl_seconds: life of counters that PostgreSQL has.
        continuity: what is known of the server's marks; without it any server is trusted.
        at_ms: instant to count at instead of the server's clock; tests only.
        call: makes the call of some beats.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        rules: Rules,
        *,
        live_ttl_seconds: int,
        rollback_guard: RollbackGuard | None = None,
        at_ms: int = 0,
        call: type[BeatCall] = BeatCall,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._rules = rules
        self._live_ttl_seconds = live_ttl_seconds
        self.at_ms = at_ms
        self._call = call
        self._rollback_guard = rollback_guard or NoRollbackGuard(keys.buckets)
        self.generations = rollback_guard.generations if rollback_guard else [0] * keys.buckets
        """By bucket; raised when Redis came back with an old state."""
        self._record = Script("record")
        self._seed = Script("seed")
        self._read = Script("read")
        self._reserve = Script("reserve")

    async def record(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome]:
        """Count beats, given with their profile ids; outcomes in the same order.

        Raises:
            CountersUnavailable: Redis did not answer in time, or came back with an older state that cannot be repaired
                yet. Repeating later credits the time all the same.
        """
        return await self._record_at(None, beats)

    async def _record_at(self, node: str | None, beats: Sequence[tuple[str, Beat]]) -> list[Outcome]:
        """As ``record``, in one call; on a cluster in one slot, or at a node that has the slots of all beats."""
        for _ in range(MAX_ATTEMPTS):
            outcomes = await self._counted(node, beats)
            if outcomes is not None:
                return outcomes
            await refresh_checkpoints(self._rollback_guard)
        raise CountersUnavailable(retry_after_seconds=1)

    async def _counted(self, node: str | None, beats: Sequence[tuple[str, Beat]]) -> list[Outcome] | None:
        """The outcomes; None when the server is not as it is known, and nothing was counted."""
        call = self._call(beats, self._keys, self.generations)
        metrics.BEATS.inc(len(beats))
        metrics.SCRIPT_CALLS.inc()
        # A server that came back older did so with all its buckets, but a node may have got some from another one.
        marked = call.buckets if node else call.buckets[:1]
        guard = self._rollback_guard
        marks = [number for bucket in marked for number in (guard.watermarks[bucket], guard.generations[bucket])]
        head = (self.at_ms, self._rules, call.lengths, call.places, call.generations, marks, call.days, call.rules)
        keys = [*call.keys, *map(self._keys.mark, marked)]
        with translate_errors():
            answer = await self._record(self._redis, keys, (_encode(head), call.packed()), node=node)
        return None if answer is None else call.outcomes(cast("bytes", answer))

    async def seed(self, seeds: Sequence[tuple[str, Counters]]) -> None:
        """Put counters recovered from PostgreSQL where there are none, or merge them into an older generation's."""
        keys: list[str] = []
        counters_of: list[Counters] = []
        for profile_id, counters in seeds:
            keys.append(self._keys.counters(profile_id))
            counters_of.append(
                msgspec.structs.replace(counters, generation=self.generations[self._keys.bucket(profile_id)])
            )
        dirty = [self._keys.dirty(self._keys.bucket(profile_id)) for profile_id, _ in seeds]
        with translate_errors():
            await self._seed(self._redis, keys + dirty, (_encode(counters_of), self._live_ttl_seconds, self.at_ms))

    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Counters | None]]:
        """Each child's counters, None when COLD or of an older generation, with the instant by the server's clock.

        Raises:
            CountersUnavailable: as for ``record``.
        """
        first = self._keys.bucket(profile_ids[0])
        keys = [*map(self._keys.counters, profile_ids), self._keys.mark(first)]
        for _ in range(MAX_ATTEMPTS):
            arguments = (self.at_ms, self._rollback_guard.watermarks[first], self._rollback_guard.generations[first])
            with translate_errors():
                answer = await self._read(self._redis, keys, arguments)
            if answer is not None:
                return self._current(profile_ids, cast("list[bytes | int]", answer))
            await refresh_checkpoints(self._rollback_guard)
        raise CountersUnavailable(retry_after_seconds=1)

    def _current(self, profile_ids: Sequence[str], answer: Sequence[bytes | int]) -> list[tuple[int, Counters | None]]:
        at_ms = cast("int", answer[0])
        found: list[tuple[int, Counters | None]] = []
        for profile_id, raw in zip(profile_ids, answer[1:], strict=True):
            counters = _decode_counters(cast("bytes", raw)) if raw else None
            is_current = counters is not None and counters.generation >= self.generations[self._keys.bucket(profile_id)]
            found.append((at_ms, counters if is_current else None))
        return found

    async def reserve(self, profile_id: str, version: int, ranges: Sequence[tuple[int, int]]) -> bool | None:
        """Keep time ranges from being counted, if the counters are still of the version read.

        Args:
            profile_id: the child.
            version: of the counters as read.
            ranges: in ms, ascending and apart from each other.

        Returns:
            False when the counters changed, None when there are none or only those of an older generation.

        Raises:
            CountersUnavailable: Redis did not answer in time.
        """
        bucket = self._keys.bucket(profile_id)
        keys = [self._keys.counters_in(bucket, profile_id), self._keys.dirty(bucket)]
        arguments = (version, _encode(ranges), self.at_ms, self.generations[bucket])
        with translate_errors():
            answer = await self._reserve(self._redis, keys, arguments)
        return None if answer == -1 else answer == 1

    async def outbox(self, profile_id: str) -> list[Counters]:
        """The finished sessions and days of a child that wait to be flushed.

        Raises:
            CountersUnavailable: Redis did not answer in time.
        """
        key = self._keys.closed(self._keys.bucket(profile_id))
        with translate_errors():
            return [
                _decode_counters(cast("bytes", raw))
                async for _, raw in self._redis.hscan_iter(key, match=f"{profile_id}|*", count=_SCANNED)
            ]

    async def ended_days(self, profile_id: str) -> list[EarlierDay]:
        """The viewing days of a child that wait to be flushed, as their week counts them.

        Raises:
            CountersUnavailable: Redis did not answer in time.
        """
        newest: dict[int, Counters] = {}
        for counters in await self.outbox(profile_id):
            known = newest.get(counters.day_number, counters)
            newest[counters.day_number] = max(known, counters, key=lambda each: each.version)
        return [counters.of_week for counters in newest.values()]

    async def closed_shares(self, profile_id: str, session_id: str, day_numbers: Sequence[int]) -> list[Share]:
        """A finished session's shares of some days, as far as they wait to be flushed. Raises CountersUnavailable."""
        fields = [f"{profile_id}|{session_id}|{day_number}" for day_number in day_numbers]
        key = self._keys.closed(self._keys.bucket(profile_id))
        with translate_errors():
            found = cast("list[bytes | None]", await self._redis.hmget(key, fields))
        counters_of = [_decode_counters(raw) for raw in found if raw]
        return [
            Share(
                counters.day_number,
                counters.session_used_ms + counters.session_educational_ms + counters.session_overrun_ms,
                counters.last_beat_ms,
            )
            for counters in counters_of
        ]
