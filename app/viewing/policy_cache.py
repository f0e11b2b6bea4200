"""The L1 cache: policies in the memory of one process, never older than a version already used.

Three things keep a policy fresh: invalidation messages, the version that Redis compares on every beat, and a TTL of at
most a minute. A beat that finds the version unchanged renews the TTL.
"""

import asyncio
import random
from typing import NamedTuple

import msgspec

from app.clock import Clock
from app.domain.markets import Markets
from app.domain.policy import DayTerms, Policy
from app.domain.viewing_day import ViewingDay
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.kit.single_flight import SingleFlight
from app.observability import metrics
from app.viewing.effective_policy import EffectivePolicy, EffectivePolicyPool
from app.viewing.policy_loader import PolicyLoader
from app.viewing.ports import PolicySource, SharedPolicies

_CONFIRM_STEP_MS = 1000
_APPLIED_AT_ONCE = 1000
_ERASED_VERSION = 2**53 - 1  # no policy reaches this version


class KnownPolicy(msgspec.Struct, gc=False):
    """A remembered policy of one profile.

    Attributes:
        account_id: the owner.
        version: the version of the policy.
        effective: the policy applied to the running day.
        fresh_until_ms: by the monotonic clock; 0 if a newer version is known to exist.
    """

    account_id: str
    version: int
    effective: EffectivePolicy
    fresh_until_ms: int

    @property
    def policy(self) -> Policy:
        """The policy without its owner."""
        return self.effective.policy

    @property
    def days(self) -> tuple[DayTerms, ...]:
        return self.effective.days


class PolicyLoad(NamedTuple):
    """The result of looking up a policy.

    Attributes:
        known: None if there is no such profile.
        is_new: whether PostgreSQL was found to have no counters of the profile.
        is_stale: whether the policy serves because loading failed.
    """

    known: KnownPolicy | None
    is_new: bool = False
    is_stale: bool = False


class PolicyCache:
    """Policies by profile.

    Args:
        shared: the shared copy in Redis.
        source: PostgreSQL.
        markets: weekend days and enforcement by market.
        ttl_ms: how long a policy is fresh.
        stale_ms: how long a policy may serve after that while it cannot be loaded.
        size: most profiles remembered. The oldest one leaves first.
        clock: the wall clock, in ms; it decides which viewing day runs.
        monotonic: a monotonic clock, in ms; it measures TTLs, so that no clock step makes a policy serve for longer.
        jitter: shortens each TTL by up to a tenth.
    """

    def __init__(
        self,
        *,
        shared: SharedPolicies,
        source: PolicySource,
        markets: Markets,
        ttl_ms: int,
        stale_ms: int,
        size: int,
        clock: Clock,
        monotonic: Clock,
        jitter: random.Random,
    ) -> None:
        self._loader = PolicyLoader(shared=shared, source=source, is_outdated=self._is_outdated, monotonic=monotonic)
        self._loads: SingleFlight[str, PolicyLoad] = SingleFlight(
            self._load, stale_if=(DatabaseUnavailable, CountersUnavailable), stale=self._serve_stale
        )
        self._effective_policies = EffectivePolicyPool(markets)
        self._ttl_ms = ttl_ms
        self._stale_ms = stale_ms
        self._size = size
        self._clock = clock
        self._monotonic = monotonic
        self._jitter = jitter
        self._known: dict[str, KnownPolicy] = {}
        self._latest_of: dict[str, str] = {}
        self._min_versions: dict[str, int] = {}  # of profiles whose newest version is not the remembered one
        self._confirmed_until_ms = 0

    def peek(self, profile_id: str) -> KnownPolicy | None:
        """The policy if it is fresh; None otherwise."""
        known = self._known.get(profile_id)
        return known if known is not None and self._monotonic() < known.fresh_until_ms else None

    def last_known(self, profile_id: str) -> KnownPolicy | None:
        """The policy, fresh or not, unless a newer version is known to exist.

        Beats may use it: Redis compares its version with the newest one when it counts.
        """
        known = self._known.get(profile_id)
        return known if known is not None and known.fresh_until_ms else None

    def latest_of(self, account_id: str) -> str | None:
        """The profile of an account that was loaded last, if it is remembered. Most households have only one."""
        return self._latest_of.get(account_id)

    async def get(self, profile_id: str, *, at_least: int = 0) -> KnownPolicy | None:
        """The policy, loaded if it is not fresh or older than version ``at_least``; None if there is no such profile.

        Raises:
            DatabaseUnavailable, CountersUnavailable: it cannot be loaded, and no stale policy may serve.
        """
        return (await self.load_with_counters(profile_id, at_least=at_least)).known

    async def load_with_counters(self, profile_id: str, *, at_least: int = 0) -> PolicyLoad:
        """As ``get``; a load from PostgreSQL restores the counters too."""
        known = self.peek(profile_id)
        if known is not None and known.version >= at_least:
            metrics.FOUND_IN_MEMORY.count += 1
            return PolicyLoad(known)
        self.require_version(profile_id, at_least)
        load = await self._loads.get(profile_id)
        if load.is_stale:
            metrics.STALE_POLICIES.inc()
        return load

    async def reload(self, profile_id: str) -> KnownPolicy | None:
        """The policy from PostgreSQL, whatever is remembered or shared: Redis has lost its copy.

        A policy that was read there a moment ago, usually for the same beat, is not read again. One with a weekly limit
        is: it holds the days of the week, and a flush since then may have written one that Redis has lost.
        """
        known = self.last_known(profile_id)
        if known is not None and known.effective.week is None and self._loader.was_just_read(profile_id):
            return known
        policy = await self._loader.reload(profile_id)
        if policy is None:
            self.forget(profile_id)
            return None
        return self._keep(policy)

    def confirm(self, known: KnownPolicy) -> None:
        """Renew the TTL: Redis has just compared this version and knows no newer one."""
        fresh_until_ms, shared_ms = self.confirmation()
        if known.fresh_until_ms:  # else a newer version became known meanwhile
            metrics.POLICY_AGE_AT_USE.observe((fresh_until_ms - known.fresh_until_ms) / 1000)
        known.fresh_until_ms = shared_ms

    def confirmation(self) -> tuple[int, int]:
        """Until when a policy is fresh that is confirmed now: exactly, and as it is kept.

        All policies confirmed within a second share one int object.
        """
        fresh_until_ms = self._monotonic() + self._ttl_ms
        if not 0 <= fresh_until_ms - self._confirmed_until_ms < _CONFIRM_STEP_MS:
            self._confirmed_until_ms = fresh_until_ms
        return fresh_until_ms, self._confirmed_until_ms

    def extend_days(self, known: KnownPolicy, pinned: ViewingDay | None, at_ms: int) -> None:
        """Compute the days from the running one to an instant. ``pinned`` is None if there are no counters."""
        known.effective = self._effective_policies.of(known.effective.policy, pinned, at_ms)

    def drop_past_days(self, known: KnownPolicy) -> None:
        """Keep the last day only: the counters have reached it, so beats need not carry earlier ones."""
        if len(known.days) > 1:
            last = known.days[-1]
            self.extend_days(known, last.day, last.starts_ms)

    def invalidate(self, message: str) -> None:
        """Handle the message ``<profile>:<version>``: no older version may serve."""
        profile_id, _, version = message.partition(":")
        if version.isdecimal():
            self.require_version(profile_id, int(version))

    def expire(self) -> None:
        """Make every policy stale: messages may have been missed."""
        now_ms = self._monotonic()
        for known in self._known.values():
            known.fresh_until_ms = min(known.fresh_until_ms, now_ms)

    async def apply_markets(self) -> None:
        """Compute every effective policy again: the rules of markets have changed. Requests are served meanwhile."""
        self._effective_policies.clear()
        now_ms = self._clock()
        for place, known in enumerate(list(self._known.values())):
            if place % _APPLIED_AT_ONCE == 0:
                await asyncio.sleep(0)
            days = known.days
            pinned = days[-1].day if days else None
            known.effective = self._effective_policies.of(known.effective.policy, pinned, now_ms)

    def erase(self, profile_id: str) -> None:
        """Forget an erased profile. No policy of it may serve again."""
        self.require_version(profile_id, _ERASED_VERSION)
        self.forget(profile_id)

    def forget(self, profile_id: str) -> None:
        """Forget a policy, but not its version."""
        min_version = self._min_version_of(profile_id)
        known = self._known.pop(profile_id, None)
        if known is None:
            return
        self._raise_min_version(profile_id, min_version)
        if self._latest_of.get(known.account_id) == profile_id:
            del self._latest_of[known.account_id]

    def require_version(self, profile_id: str, version: int) -> None:
        """No older version may serve from now on."""
        if version <= self._min_version_of(profile_id):
            return
        self._loads.forget(profile_id)
        self._loader.forget(profile_id)
        known = self._known.get(profile_id)
        if known is not None:
            known.fresh_until_ms = 0
        self._raise_min_version(profile_id, version)

    # --- loading

    async def _load(self, profile_id: str) -> PolicyLoad:
        loaded = await self._loader.load(profile_id)
        if loaded.policy is None:
            self.forget(profile_id)
            return PolicyLoad(None)
        return PolicyLoad(self._keep(loaded.policy), loaded.is_new)

    def _serve_stale(self, profile_id: str, error: Exception) -> PolicyLoad:
        known = self._known.get(profile_id)
        if known is None or not self._may_serve_stale(profile_id, known):
            raise error
        metrics.POLICY_LOOKUPS.labels("stale").inc()
        return PolicyLoad(known, is_stale=True)

    def _may_serve_stale(self, profile_id: str, known: KnownPolicy) -> bool:
        is_newest = known.version >= self._min_version_of(profile_id)
        return is_newest and self._monotonic() < known.fresh_until_ms + self._stale_ms

    def _keep(self, policy: Policy) -> KnownPolicy:
        min_version = self._min_version_of(policy.profile_id)
        fresh_until_ms = self._monotonic() + self._ttl_ms - int(self._jitter.random() * self._ttl_ms / 10)
        effective = self._effective_policies.of(policy.without_owner(), None, self._clock())
        known = KnownPolicy(policy.account_id, policy.version, effective, fresh_until_ms)
        previous = self._known.get(policy.profile_id)
        if previous is None:
            while len(self._known) >= self._size:
                self.forget(next(iter(self._known)))
        elif previous.account_id == known.account_id:
            known.account_id = previous.account_id  # keeps one string object instead of two
        self._known[policy.profile_id] = known
        if self._latest_of.get(known.account_id) != policy.profile_id:
            self._latest_of[known.account_id] = policy.profile_id
        if policy.version < min_version:
            self._raise_min_version(policy.profile_id, min_version)
        else:
            self._min_versions.pop(policy.profile_id, None)
        return known

    # --- versions

    def _raise_min_version(self, profile_id: str, version: int) -> None:
        self._min_versions.pop(profile_id, None)
        while len(self._min_versions) >= self._size:
            del self._min_versions[next(iter(self._min_versions))]
        self._min_versions[profile_id] = version

    def _min_version_of(self, profile_id: str) -> int:
        """The newest version known to exist: the remembered one, unless a message named a newer one."""
        known = self._known.get(profile_id)
        return max(self._min_versions.get(profile_id, 0), known.version if known is not None else 0)

    def _is_outdated(self, policy: Policy) -> bool:
        return policy.version < self._min_version_of(policy.profile_id)
