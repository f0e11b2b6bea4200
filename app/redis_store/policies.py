"""The shared copy of policies: PostgreSQL owns them, every process reads them here before it asks PostgreSQL."""

from collections.abc import Collection, Mapping, Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.clock import Clock
from app.domain.accounting import Live
from app.domain.policy import DayTerms, Policy, terms_of
from app.errors import CountersUnavailable
from app.redis_store.client import unavailability_named
from app.redis_store.continuity import LOOKS, Continuity, Trusting, look_again
from app.redis_store.events import RedisEvents
from app.redis_store.keys import INVALIDATE, Keys
from app.redis_store.scripts import Script, send

_BATCH = 500
_UPDATED = "viewing_time_updated"
_encode = msgspec.msgpack.Encoder().encode
_decode_policy = msgspec.msgpack.Decoder(Policy).decode


class SharedPolicies:
    """Policies by profile, newer versions winning."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        events: RedisEvents,
        *,
        ttl_seconds: int,
        live_ttl_seconds: int,
        max_gap_ms: int = 300_000,
        weekend_days: Collection[int],
        clock: Clock,
        continuity: Continuity | None = None,
        at_ms: int = 0,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._events = events
        self._ttl_seconds = ttl_seconds
        self._live_ttl_seconds = live_ttl_seconds
        self._max_gap_ms = max_gap_ms
        self._weekend_days = weekend_days
        self._clock = clock
        self._at_ms = at_ms
        self._continuity = continuity or Trusting(keys.buckets)
        self._generations = continuity.generations if continuity else [0] * keys.buckets
        self._put = Script("put_policy")

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        """The copies, None where there is none; in the order asked. Raises CountersUnavailable."""
        keys = [self._keys.policy(profile_id) for profile_id in profile_ids]
        with unavailability_named():
            found = cast("list[bytes | None]", await send(self._redis, ("MGET", *keys), key=keys[0]))
        return [_decode_policy(raw) if raw else None for raw in found]

    async def put(self, policies: Sequence[Policy], lives: Mapping[str, Live] | None = None) -> list[Policy]:
        """Put each policy unless a newer one is there; answers those that were newer. Raises CountersUnavailable.

        ``lives`` are counters by profile as last flushed, put where there are none.
        """
        newer: list[Policy] = []
        for start in range(0, len(policies), _BATCH):
            newer += await self._put_batch(policies[start : start + _BATCH], lives or {})
        return newer

    async def announce(self, policies: Sequence[Policy]) -> None:
        """Put new policies and tell every process. Call it after the commit. Raises CountersUnavailable.

        A message that is lost does no harm: the counters know the version, and the sweep puts it again.
        """
        await self.put(policies)
        for policy in policies:
            await self._tell(policy)

    async def announce_again(self, policies: Sequence[Policy]) -> None:
        """Put policies that may be known, and tell of those that were not. Raises CountersUnavailable."""
        for policy in await self.put(policies):
            await self._tell(policy)

    async def announce_household(self, account_id: str) -> None:
        """Tell every process that profiles were added to an account. Raises CountersUnavailable."""
        await self._publish(f"household:{account_id}")

    async def announce_titles(self) -> None:
        """Tell every process that titles have changed."""
        await self._publish("titles:")

    async def _put_batch(self, policies: Sequence[Policy], lives: Mapping[str, Live]) -> list[Policy]:
        for _ in range(LOOKS):
            places = await self._places_of_newer(policies, lives)
            if places is not None:
                return [policies[place - 1] for place in places]
            await look_again(self._continuity)
            lives = {}  # the server came back older since they were read: more may have been flushed before
        raise CountersUnavailable(retry_after_seconds=1)

    async def _places_of_newer(self, policies: Sequence[Policy], lives: Mapping[str, Live]) -> list[int] | None:
        """Where the newer ones stand, counted from 1; None when the server is not as it is known."""
        now_ms = self._clock()
        policy_keys: list[str] = []
        live_keys: list[str] = []
        dirty_keys: list[str] = []
        puts: list[tuple[int, DayTerms | str, int]] = []
        counters: list[bytes] = []
        for policy in policies:
            profile_id = policy.profile_id
            bucket = self._keys.bucket(profile_id)
            generation = self._generations[bucket]
            policy_keys.append(self._keys.policy_in(bucket, profile_id))
            live_keys.append(self._keys.live_in(bucket, profile_id))
            dirty_keys.append(self._keys.dirty(bucket))
            puts.append((policy.version, self._running_terms(policy, now_ms), generation))
            live = lives.get(profile_id)
            counters.append(
                _encode(msgspec.structs.replace(live, generation=generation, policy_version=policy.version))
                if live is not None
                else b""
            )
        first = self._keys.bucket(policies[0].profile_id)
        mark = (self._continuity.watermarks[first], self._continuity.generations[first])
        keys = [*policy_keys, *live_keys, *dirty_keys, self._keys.mark(first)]
        args: list[bytes | int] = [
            self._ttl_seconds,
            self._live_ttl_seconds,
            self._at_ms,
            _encode((self._max_gap_ms, puts, *mark)),
            *map(_encode, policies),
            *counters,
        ]
        with unavailability_named():
            return cast("list[int] | None", await self._put(self._redis, keys, args))

    async def _tell(self, policy: Policy) -> None:
        await self._publish(f"policy:{policy.profile_id}:{policy.version}")
        await self._events.add(policy.profile_id, _UPDATED, {}, at_ms=self._clock())

    async def _publish(self, message: str) -> None:
        with unavailability_named():
            await self._redis.publish(INVALIDATE, message)

    def _running_terms(self, policy: Policy, now_ms: int) -> DayTerms | str:
        if policy.calendar is None:
            return ""
        return terms_of(policy, policy.calendar.day_at(now_ms), weekend_days=self._weekend_days)
