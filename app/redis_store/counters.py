"""Counters of children in Redis: the adapter behind the ports of the heartbeat and the flush."""

from collections.abc import Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app import metrics
from app.domain.accounting import Beat, Live, Outcome, Rules, Share
from app.errors import CountersUnavailable
from app.redis_store.client import unavailability_named
from app.redis_store.continuity import LOOKS, Continuity, Trusting, look_again
from app.redis_store.keys import Keys
from app.redis_store.scripts import Script

_SCANNED = 1000
_encode = msgspec.msgpack.Encoder().encode
_decode_outcomes = msgspec.msgpack.Decoder(list[Outcome]).decode
_decode_live = msgspec.msgpack.Decoder(Live).decode


class RedisCounters:
    """Usage of children. All calls take many children at once.

    Args:
        live_ttl_seconds: life of counters that PostgreSQL has.
        continuity: what is known of the server's marks; without it any server is trusted.
        at_ms: instant to count at instead of the server's clock; tests only.
    """

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        rules: Rules,
        *,
        live_ttl_seconds: int,
        continuity: Continuity | None = None,
        at_ms: int = 0,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._rules = rules
        self._live_ttl_seconds = live_ttl_seconds
        self.at_ms = at_ms
        self._continuity = continuity or Trusting(keys.buckets)
        self.generations = continuity.generations if continuity else [0] * keys.buckets
        """By bucket; raised when Redis came back with an old state."""
        self._record = Script("record")
        self._seed = Script("seed")
        self._read = Script("read")

    async def record(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome]:
        """Count beats, given with their profile ids; outcomes in the same order.

        Raises:
            CountersUnavailable: Redis did not answer in time, or came back with an older state that cannot be mended
                yet. Repeating later credits the time all the same.
        """
        for _ in range(LOOKS):
            outcomes = await self._counted(beats)
            if outcomes is not None:
                return outcomes
            await look_again(self._continuity)
        raise CountersUnavailable(retry_after_seconds=1)

    async def _counted(self, beats: Sequence[tuple[str, Beat]]) -> list[Outcome] | None:
        """The outcomes; None when the server is not as it is known, and nothing was counted."""
        keys: list[str] = []
        places: list[int] = []
        bucket_keys: list[str] = []
        place_of: dict[int, int] = {}
        generations: list[int] = []
        for profile_id, _ in beats:
            bucket = self._keys.bucket(profile_id)
            keys.append(self._keys.live_in(bucket, profile_id))
            place = place_of.get(bucket)
            if place is None:
                place = place_of[bucket] = len(beats) + len(bucket_keys) + 1
                bucket_keys += (self._keys.dirty(bucket), self._keys.closed(bucket))
            places.append(place)
            generations.append(self.generations[bucket])
        metrics.BEATS.inc(len(beats))
        metrics.SCRIPT_CALLS.inc()
        first = next(iter(place_of))  # a server that came back older did so with all its buckets
        mark = (self._continuity.watermarks[first], self._continuity.generations[first])
        bucket_keys.append(self._keys.mark(first))
        call = (self.at_ms, self._rules, [beat for _, beat in beats], places, generations, *mark)
        with unavailability_named():
            answer = await self._record(self._redis, keys + bucket_keys, (_encode(call),))
        return None if answer is None else _decode_outcomes(cast("bytes", answer))

    async def seed(self, seeds: Sequence[tuple[str, Live]]) -> None:
        """Put counters recovered from PostgreSQL where there are none, or merge them into an older generation's."""
        keys: list[str] = []
        lives: list[Live] = []
        for profile_id, live in seeds:
            keys.append(self._keys.live(profile_id))
            lives.append(msgspec.structs.replace(live, generation=self.generations[self._keys.bucket(profile_id)]))
        dirty = [self._keys.dirty(self._keys.bucket(profile_id)) for profile_id, _ in seeds]
        with unavailability_named():
            await self._seed(self._redis, keys + dirty, (_encode(lives), self._live_ttl_seconds, self.at_ms))

    async def read(self, profile_ids: Sequence[str]) -> list[tuple[int, Live | None]]:
        """Each child's counters, None when COLD or of an older generation, with the instant by the server's clock.

        Raises:
            CountersUnavailable: as for ``record``.
        """
        first = self._keys.bucket(profile_ids[0])
        keys = [*map(self._keys.live, profile_ids), self._keys.mark(first)]
        for _ in range(LOOKS):
            arguments = (self.at_ms, self._continuity.watermarks[first], self._continuity.generations[first])
            with unavailability_named():
                answer = await self._read(self._redis, keys, arguments)
            if answer is not None:
                return self._current(profile_ids, cast("list[bytes | int]", answer))
            await look_again(self._continuity)
        raise CountersUnavailable(retry_after_seconds=1)

    def _current(self, profile_ids: Sequence[str], answer: Sequence[bytes | int]) -> list[tuple[int, Live | None]]:
        at_ms = cast("int", answer[0])
        found: list[tuple[int, Live | None]] = []
        for profile_id, raw in zip(profile_ids, answer[1:], strict=True):
            live = _decode_live(cast("bytes", raw)) if raw else None
            is_current = live is not None and live.generation >= self.generations[self._keys.bucket(profile_id)]
            found.append((at_ms, live if is_current else None))
        return found

    async def closed_stretches(self, profile_id: str) -> list[tuple[int, int]]:
        """From when to when finished sessions ran that wait to be flushed, in ms. Raises CountersUnavailable."""
        key = self._keys.closed(self._keys.bucket(profile_id))
        stretches: list[tuple[int, int]] = []
        with unavailability_named():
            async for _, raw in self._redis.hscan_iter(key, match=f"{profile_id}|*", count=_SCANNED):
                live = _decode_live(cast("bytes", raw))
                stretches.append((live.session_started_ms, live.last_beat_ms))
        return stretches

    async def closed_shares(self, profile_id: str, session_id: str, day_numbers: Sequence[int]) -> list[Share]:
        """A finished session's shares of some days, as far as they wait to be flushed. Raises CountersUnavailable."""
        fields = [f"{profile_id}|{session_id}|{day_number}" for day_number in day_numbers]
        key = self._keys.closed(self._keys.bucket(profile_id))
        with unavailability_named():
            found = cast("list[bytes | None]", await self._redis.hmget(key, fields))
        lives = [_decode_live(raw) for raw in found if raw]
        return [
            Share(
                live.day_number,
                live.session_used_ms + live.session_educational_ms + live.session_overrun_ms,
                live.last_beat_ms,
            )
            for live in lives
        ]
