"""Loads policies from the shared copy in Redis, or from PostgreSQL if Redis has none.

If Redis lost a shared copy, it lost the counters too. The loader restores both from PostgreSQL.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import NamedTuple

from app.clock import Clock
from app.domain.counters import Counters
from app.domain.policy import Policy
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.kit.batching import Batcher, Overloaded
from app.kit.single_flight import SingleFlight
from app.observability import metrics
from app.viewing.ports import PolicySource, SharedPolicies

_MAX_BATCH = 500
_MAX_IN_FLIGHT = 1  # more calls would be smaller calls for the same work, which cost more
_MAX_ATTEMPTS = 3
_RECENT_MS = 1000


class LoadedPolicy(NamedTuple):
    """A policy as loaded.

    Attributes:
        policy: None if there is no such profile.
        is_new: whether PostgreSQL was found to have no counters of the profile.
    """

    policy: Policy | None
    is_new: bool


class RecentSet:
    """Names that were added in the last second. Some stay for up to two seconds."""

    def __init__(self) -> None:
        self._current: set[str] = set()
        self._previous: set[str] = set()
        self._rotated_ms = 0

    def add(self, names: Collection[str], at_ms: int) -> None:
        self._rotate(at_ms)
        self._current.update(names)

    def holds(self, name: str, at_ms: int) -> bool:
        self._rotate(at_ms)
        return name in self._current or name in self._previous

    def _rotate(self, at_ms: int) -> None:
        elapsed_ms = abs(at_ms - self._rotated_ms)
        if elapsed_ms >= _RECENT_MS:
            self._previous = self._current if elapsed_ms < 2 * _RECENT_MS else set()
            self._current = set()
            self._rotated_ms = at_ms


class PolicyLoader:
    """Loads policies in batches.

    Args:
        shared: the shared copy in Redis.
        source: PostgreSQL.
        is_outdated: whether a newer version of a loaded policy is known to exist.
        monotonic: a monotonic clock, in ms.
    """

    def __init__(
        self,
        *,
        shared: SharedPolicies,
        source: PolicySource,
        is_outdated: Callable[[Policy], bool],
        monotonic: Clock,
    ) -> None:
        self._shared = shared
        self._source = source
        self._is_outdated = is_outdated
        self._monotonic = monotonic
        self._shared_batcher = Batcher(shared.load, max_batch=_MAX_BATCH, max_in_flight=_MAX_IN_FLIGHT)
        self._restore_batcher = Batcher(self._load_and_restore, max_batch=_MAX_BATCH, max_in_flight=_MAX_IN_FLIGHT)
        self._reload_batcher = Batcher(self._load_and_share, max_batch=_MAX_BATCH, max_in_flight=_MAX_IN_FLIGHT)
        self._reloads: SingleFlight[str, Policy | None] = SingleFlight(self._reload)
        self._recently_read = RecentSet()

    async def load(self, profile_id: str) -> LoadedPolicy:
        """The newest policy of a profile: from the shared copy, or from PostgreSQL if that is missing or outdated.

        Raises:
            DatabaseUnavailable, CountersUnavailable: the policy cannot be loaded, or changes too often.
        """
        for _ in range(_MAX_ATTEMPTS):  # an invalidation may arrive during each attempt
            policy = await self._load_shared(profile_id)
            if policy is not None and not self._is_outdated(policy):
                metrics.POLICY_LOOKUPS.labels("redis").inc()
                return LoadedPolicy(policy, is_new=False)
            loaded = await self._load_restored(profile_id)
            if loaded.policy is None or not self._is_outdated(loaded.policy):
                metrics.POLICY_LOOKUPS.labels("postgresql").inc()
                return loaded
        raise DatabaseUnavailable("The settings of this profile are changing.", retry_after_seconds=1)

    async def reload(self, profile_id: str) -> Policy | None:
        """The policy in PostgreSQL, None if there is no such profile. The shared copy is renewed with it.

        Raises:
            DatabaseUnavailable, CountersUnavailable: the policy cannot be loaded.
        """
        return await self._reloads.get(profile_id)

    def forget(self, profile_id: str) -> None:
        """Later callers of ``reload`` do not share the load that is under way."""
        self._reloads.forget(profile_id)

    def was_just_read(self, profile_id: str) -> bool:
        """Whether the policy was read from PostgreSQL a moment ago, usually for the same beat."""
        return self._recently_read.holds(profile_id, self._monotonic())

    async def _load_shared(self, profile_id: str) -> Policy | None:
        try:
            return await self._shared_batcher.submit(profile_id)
        except (CountersUnavailable, Overloaded):
            return None  # PostgreSQL answers instead

    async def _load_restored(self, profile_id: str) -> LoadedPolicy:
        try:
            return await self._restore_batcher.submit(profile_id)
        except Overloaded as error:
            raise CountersUnavailable from error

    async def _reload(self, profile_id: str) -> Policy | None:
        try:
            return await self._reload_batcher.submit(profile_id)
        except Overloaded as error:
            raise CountersUnavailable from error

    async def _load_and_restore(self, profile_ids: Sequence[str]) -> list[LoadedPolicy]:
        started_ms = self._monotonic()
        found = await self._source.load_with_counters(profile_ids)
        self._recently_read.add(profile_ids, started_ms)
        policies = [policy for policy, _ in filter(None, found)]
        counters_of = {policy.profile_id: counters for policy, counters in filter(None, found) if counters is not None}
        await self._put_shared(policies, counters_of)
        return [_loaded(*pair) if pair is not None else LoadedPolicy(None, is_new=False) for pair in found]

    async def _load_and_share(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        started_ms = self._monotonic()
        policies = await self._source.load(profile_ids)
        self._recently_read.add(profile_ids, started_ms)
        await self._put_shared([policy for policy in policies if policy is not None])
        return policies

    async def _put_shared(self, policies: Sequence[Policy], counters_of: Mapping[str, Counters] | None = None) -> None:
        try:
            await self._shared.put(policies, counters_of)
        except CountersUnavailable:
            return  # the next process reads PostgreSQL itself, and a beat on missing counters is answered COLD


def _loaded(policy: Policy, counters: Counters | None) -> LoadedPolicy:
    return LoadedPolicy(policy, is_new=counters is None)
