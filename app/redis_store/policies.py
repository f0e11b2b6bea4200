"""The shared copy of policies: PostgreSQL owns them, every process reads them here before it asks PostgreSQL."""

from collections.abc import Mapping, Sequence
from typing import cast

import msgspec
from redis.asyncio import Redis

from app.clock import Clock
from app.domain.breaks import BreakTerms, breaks_of
from app.domain.counters import Counters
from app.domain.markets import Markets
from app.domain.policy import DayTerms, Policy, terms_of
from app.domain.weekly import WeekTerms, week_of
from app.errors import CountersUnavailable
from app.redis_store.client import translate_errors
from app.redis_store.events import RedisEvents
from app.redis_store.keys import INVALIDATE, Keys
from app.redis_store.ports import RollbackGuard
from app.redis_store.rollback_guard import MAX_ATTEMPTS, NoRollbackGuard, refresh_checkpoints
from app.redis_store.scripts import Script, send

_BATCH = 500
_UPDATED = "viewing_time_updated"
_encode = msgspec.msgpack.Encoder().encode
_decode_policy = msgspec.msgpack.Decoder(Policy).decode


class SharedPolicies:
    """Policies by profile. A newer version replaces an older one, never the reverse."""

    def __init__(
        self,
        redis: Redis,
        keys: Keys,
        events: RedisEvents,
        *,
        ttl_seconds: int,
        live_ttl_seconds: int,
        max_gap_ms: int = 300_000,
        markets: Markets,
        clock: Clock,
        rollback_guard: RollbackGuard | None = None,
        at_ms: int = 0,
    ) -> None:
        self._redis = redis
        self._keys = keys
        self._events = events
        self._ttl_seconds = ttl_seconds
        self._live_ttl_seconds = live_ttl_seconds
        self._max_gap_ms = max_gap_ms
        self._markets = markets
        self._clock = clock
        self.at_ms = at_ms
        self._rollback_guard = rollback_guard or NoRollbackGuard(keys.buckets)
        self._generations = rollback_guard.generations if rollback_guard else [0] * keys.buckets
        self._put = Script("put_policy")

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        """The copies, None where there is none; in the order asked. Raises CountersUnavailable."""
        keys = [self._keys.policy(profile_id) for profile_id in profile_ids]
        with translate_errors():
            found = cast("list[bytes | None]", await send(self._redis, ("MGET", *keys), key=keys[0]))
        return [_decode_policy(raw) if raw else None for raw in found]

    async def put(self, policies: Sequence[Policy], counters_of: Mapping[str, Counters] | None = None) -> list[Policy]:
        """Put each policy unless a newer one is there; answers those that were newer. Raises CountersUnavailable.

        ``counters_of`` are counters by profile as last flushed, put where there are none.
        """
        newer: list[Policy] = []
        for start in range(0, len(policies), _BATCH):
            newer += await self._put_batch(policies[start : start + _BATCH], counters_of or {})
        return newer

    async def announce(self, policies: Sequence[Policy]) -> None:
        """Put new policies and publish their versions. Call it after the commit. Raises CountersUnavailable.

        A lost message does no harm: the counters have the version, and the sweep puts the policy again.
        """
        await self.put(policies)
        for policy in policies:
            await self._tell(policy)

    async def announce_again(self, policies: Sequence[Policy]) -> None:
        """Put policies, and publish the versions that Redis did not have. Raises CountersUnavailable."""
        for policy in await self.put(policies):
            await self._tell(policy)

    async def announce_household(self, account_id: str) -> None:
        """Publish that profiles were added to an account. Raises CountersUnavailable."""
        await self._publish(f"household:{account_id}")

    async def wake(self, profile_ids: Sequence[str]) -> None:
        """Wake the open streams of profiles in every process, without an event."""
        for profile_id in profile_ids:
            await self._publish(f"event:{profile_id}")

    async def announce_titles(self) -> None:
        """Publish that titles have changed."""
        await self._publish("titles:")

    async def _put_batch(self, policies: Sequence[Policy], counters_of: Mapping[str, Counters]) -> list[Policy]:
        for _ in range(MAX_ATTEMPTS):
            places = await self._places_of_newer(policies, counters_of)
            if places is not None:
                return [policies[place - 1] for place in places]
            await refresh_checkpoints(self._rollback_guard)
            counters_of = {}  # the server came back older since they were read: more may have been flushed before
        raise CountersUnavailable(retry_after_seconds=1)

    async def _places_of_newer(
        self, policies: Sequence[Policy], counters_of: Mapping[str, Counters]
    ) -> list[int] | None:
        """The positions of newer policies, counted from 1; None if the server came back with older data."""
        now_ms = self._clock()
        policy_keys: list[str] = []
        live_keys: list[str] = []
        dirty_keys: list[str] = []
        puts: list[tuple[int, DayTerms | str, int, WeekTerms | str, BreakTerms | str]] = []
        stored: list[bytes] = []
        for policy in policies:
            profile_id = policy.profile_id
            bucket = self._keys.bucket(profile_id)
            generation = self._generations[bucket]
            policy_keys.append(self._keys.policy_in(bucket, profile_id))
            live_keys.append(self._keys.counters_in(bucket, profile_id))
            dirty_keys.append(self._keys.dirty(bucket))
            week = week_of(policy, starts_on=self._markets.of(policy.market).week_starts_on)
            terms, breaks = self._running_terms(policy, now_ms), breaks_of(policy.rules)
            puts.append((policy.version, terms, generation, week or "", breaks or ""))
            counters = counters_of.get(profile_id)
            stored.append(
                _encode(msgspec.structs.replace(counters, generation=generation, policy_version=policy.version))
                if counters is not None
                else b""
            )
        first = self._keys.bucket(policies[0].profile_id)
        mark = (self._rollback_guard.watermarks[first], self._rollback_guard.generations[first])
        keys = [*policy_keys, *live_keys, *dirty_keys, self._keys.mark(first)]
        args: list[bytes | int] = [
            self._ttl_seconds,
            self._live_ttl_seconds,
            self.at_ms,
            _encode((self._max_gap_ms, puts, *mark)),
            *map(_encode, policies),
            *stored,
        ]
        with translate_errors():
            return cast("list[int] | None", await self._put(self._redis, keys, args))

    async def _tell(self, policy: Policy) -> None:
        await self._publish(f"policy:{policy.profile_id}:{policy.version}")
        await self._events.add(policy.profile_id, _UPDATED, {}, at_ms=self._clock())

    async def _publish(self, message: str) -> None:
        with translate_errors():
            await self._redis.publish(INVALIDATE, message)

    def _running_terms(self, policy: Policy, now_ms: int) -> DayTerms | str:
        if policy.calendar is None:
            return ""
        weekend_days = self._markets.weekend_days(policy.market)
        return terms_of(policy, policy.calendar.day_at(now_ms), weekend_days=weekend_days)
