"""Policies in the memory of one process, never older than one already used.

A policy comes from the shared copy in Redis, or from PostgreSQL when that has none. Three things keep it fresh: the
invalidation message, the version that every beat compares with what Redis knows, and a life of at most a minute, which
each beat that finds the version unchanged renews.
"""

import random
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from functools import lru_cache
from typing import TypeVar

import msgspec

from app import metrics
from app.clock import Clock
from app.coalesce import Coalescer, Overloaded
from app.domain.policy import NO_OFFLINE_USE, DayTerms, OfflineUse, Policy, terms_of
from app.domain.viewing_day import Calendar, ViewingDay
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.viewing.ports import PolicyReader, SharedPolicies

_BATCH = 500
_CALLS_IN_FLIGHT = 1  # more would share the same work between smaller calls, which cost more
_ROUNDS = 3
_MOMENT_MS = 1000
_STANDINGS = 16_384
_ABOVE_ALL = 2**53 - 1  # no policy reaches this version

Answer = TypeVar("Answer")


class Standing(msgspec.Struct, frozen=True, gc=False):
    """A policy without its owner, and what one viewing day makes of it: one object for all for whom both are the same.

    ``days`` are the terms to send with a beat, the last one the running day; ``offline`` belongs to the running day,
    ``next_allowance_ms`` to the day after it. An adult has no days.
    """

    policy: Policy
    days: tuple[DayTerms, ...] = ()
    next_allowance_ms: int = 0
    offline: OfflineUse = NO_OFFLINE_USE

    def holds(self, at_ms: int) -> bool:
        return not self.days or self.days[-1].starts_ms <= at_ms < self.days[-1].ends_ms


class KnownPolicy(msgspec.Struct, gc=False):
    """What is remembered of one profile. ``fresh_until_ms`` is by the clock of this process; 0: a newer one exists."""

    account_id: str
    version: int
    standing: Standing
    fresh_until_ms: int

    @property
    def policy(self) -> Policy:
        """The policy without its owner."""
        return self.standing.policy

    @property
    def days(self) -> tuple[DayTerms, ...]:
        return self.standing.days


class _Standings:
    """Computes and keeps once what is the same for many children: most of a platform have the same settings."""

    def __init__(self, weekend_days: Collection[int]) -> None:
        self._weekend_days = weekend_days
        self._kept: dict[tuple[Policy, ViewingDay | None], Standing] = {}

    def of(self, policy: Policy, pinned: ViewingDay | None, at_ms: int) -> Standing:
        """How an ownerless policy stands at an instant, with the days from the running one (None: none is pinned)."""
        standing = self._kept.get((policy, pinned))
        if standing is None or not standing.holds(at_ms):
            standing = self._computed(_slim(policy), pinned, at_ms)
            while len(self._kept) >= _STANDINGS:
                del self._kept[next(iter(self._kept))]
            self._kept[standing.policy, pinned] = standing
        return standing

    def _computed(self, policy: Policy, pinned: ViewingDay | None, at_ms: int) -> Standing:
        calendar = policy.calendar
        if calendar is None:
            return Standing(policy)
        first = pinned or calendar.day_at(at_ms)
        days = calendar.days_after(first, until_ms=at_ms) or [first]
        [following] = calendar.days_after(days[-1], until_ms=days[-1].ends_ms)
        return Standing(
            policy,
            _shared_days(tuple(self._terms(policy, day) for day in days)),
            self._terms(policy, following).allowance_ms,
            policy.offline_use(days[-1].number),
        )

    def _terms(self, policy: Policy, day: ViewingDay) -> DayTerms:
        return terms_of(policy, day, weekend_days=self._weekend_days)


@lru_cache(maxsize=4096)
def _shared_days(days: tuple[DayTerms, ...]) -> tuple[DayTerms, ...]:
    """The same object for all whose days are the same."""
    return days


@lru_cache(maxsize=65_536)
def _shared_calendar(calendar: Calendar) -> Calendar:
    return calendar


@lru_cache(maxsize=1024)
def _shared_thresholds(warning_minutes: tuple[int, ...]) -> tuple[int, ...]:
    return warning_minutes


def _slim(policy: Policy) -> Policy:
    """A policy that shares its parts with those that differ from it elsewhere."""
    return msgspec.structs.replace(
        policy,
        calendar=policy.calendar and _shared_calendar(policy.calendar),
        warning_minutes=_shared_thresholds(policy.warning_minutes),
    )


class _Moment:
    """Who was added a moment ago: for a second at least, for two at most."""

    def __init__(self) -> None:
        self._now: set[str] = set()
        self._before: set[str] = set()
        self._turned_ms = 0

    def add(self, names: Collection[str], at_ms: int) -> None:
        self._turn(at_ms)
        self._now.update(names)

    def holds(self, name: str, at_ms: int) -> bool:
        self._turn(at_ms)
        return name in self._now or name in self._before

    def _turn(self, at_ms: int) -> None:
        passed_ms = abs(at_ms - self._turned_ms)
        if passed_ms >= _MOMENT_MS:
            self._before = self._now if passed_ms < 2 * _MOMENT_MS else set()
            self._now = set()
            self._turned_ms = at_ms


class PolicyCache:
    """Policies by profile. ``None`` answers mean that there is no such profile.

    Args:
        restore: puts counters back, and answers the profiles of which there are none. It is given the policies of
            which there was no shared copy: where Redis has lost that, it has lost the counters too.
    """

    def __init__(
        self,
        *,
        shared: SharedPolicies,
        source: PolicyReader,
        restore: Callable[[Sequence[Policy]], Awaitable[Collection[str]]],
        weekend_days: Collection[int],
        ttl_ms: int,
        stale_ms: int,
        size: int,
        clock: Clock,
        jitter: random.Random,
    ) -> None:
        self._shared = shared
        self._source = source
        self._from_shared = Coalescer(shared.load, max_batch=_BATCH, max_in_flight=_CALLS_IN_FLIGHT)
        self._restore = restore
        self._from_source = Coalescer(self._load_and_restore, max_batch=_BATCH, max_in_flight=_CALLS_IN_FLIGHT)
        self._again = Coalescer(self._load_and_share, max_batch=_BATCH, max_in_flight=_CALLS_IN_FLIGHT)
        self._standings = _Standings(weekend_days)
        self._ttl_ms = ttl_ms
        self._stale_ms = stale_ms
        self._size = size
        self._clock = clock
        self._jitter = jitter
        self._known: dict[str, KnownPolicy] = {}
        self._latest_of: dict[str, str] = {}
        self._floor: dict[str, int] = {}  # of those whose newest version is not the one remembered
        self._lives_end_ms = 0
        self._just_read = _Moment()

    def peek(self, profile_id: str) -> KnownPolicy | None:
        """The policy while it is fresh, without waiting."""
        known = self._known.get(profile_id)
        return known if known is not None and self._clock() < known.fresh_until_ms else None

    def last_known(self, profile_id: str) -> KnownPolicy | None:
        """The policy, fresh or not, unless a newer one is known of.

        For beats: Redis compares its version with the newest as it counts, which says more than the shared copy would.
        """
        known = self._known.get(profile_id)
        return known if known is not None and known.fresh_until_ms else None

    def latest_of(self, account_id: str) -> str | None:
        """The profile of an account that was loaded last, if one is remembered: for most households the only one."""
        return self._latest_of.get(account_id)

    async def reread(self, profile_id: str) -> KnownPolicy | None:
        """The policy from PostgreSQL, whatever is remembered or shared: Redis has forgotten what it knew.

        One that was read there a moment ago, for the same beat as a rule, need not be read again.
        """
        known = self._known.get(profile_id)
        if known is not None and known.fresh_until_ms and self._just_read.holds(profile_id, self._clock()):
            return known
        policy = await _joined(self._again, profile_id)
        if policy is None:
            self.forget(profile_id)
            return None
        return self._keep(policy)

    def confirm(self, known: KnownPolicy) -> None:
        """Redis has just said that this version is the newest it knows."""
        ends_ms = self._clock() + self._ttl_ms
        if not 0 <= ends_ms - self._lives_end_ms < _MOMENT_MS:
            self._lives_end_ms = ends_ms
        known.fresh_until_ms = self._lives_end_ms  # one object for all who are confirmed in the same moment

    def reach(self, known: KnownPolicy, pinned: ViewingDay | None, at_ms: int) -> None:
        """Compute the days from the running one (None: nothing is pinned) to an instant."""
        known.standing = self._standings.of(known.standing.policy, pinned, at_ms)

    def settle(self, known: KnownPolicy) -> None:
        """The counters have reached the last day; those before it need no longer be sent."""
        if len(known.days) > 1:
            last = known.days[-1]
            self.reach(known, last.day, last.starts_ms)

    async def get(self, profile_id: str, *, at_least: int = 0) -> KnownPolicy | None:
        """The policy, loaded when it is not fresh or older than ``at_least``.

        Raises:
            DatabaseUnavailable, CountersUnavailable: it cannot be loaded and none may serve in its place.
        """
        known, _ = await self.meet(profile_id, at_least=at_least)
        return known

    async def meet(self, profile_id: str, *, at_least: int = 0) -> tuple[KnownPolicy | None, bool]:
        """As ``get``; and whether it was found meanwhile that nothing was ever flushed of the profile."""
        known = self.peek(profile_id)
        if known is not None and known.version >= at_least:
            return known, False
        self.require(profile_id, at_least)
        try:
            policy, is_new = await self._load(profile_id)
        except (DatabaseUnavailable, CountersUnavailable):
            stale = self._known.get(profile_id)
            if stale is None or not self._may_serve_stale(profile_id, stale):
                raise
            metrics.STALE_POLICIES.inc()
            return stale, False
        if policy is None:
            self.forget(profile_id)
            return None, False
        return self._keep(policy), is_new

    def invalidate(self, message: str) -> None:
        """Handle ``<profile>:<version>``: nothing older than that version may serve any more."""
        profile_id, _, version = message.partition(":")
        if version.isdecimal():
            self.require(profile_id, int(version))

    def expire(self) -> None:
        """Messages may have been missed: load each again before it serves."""
        now_ms = self._clock()
        for known in self._known.values():
            known.fresh_until_ms = min(known.fresh_until_ms, now_ms)

    def erase(self, profile_id: str) -> None:
        """The profile is no more: no policy of it may serve again, whoever still holds one."""
        self.require(profile_id, _ABOVE_ALL)
        self.forget(profile_id)

    def forget(self, profile_id: str) -> None:
        """Nothing is remembered any more, except which version has been known."""
        floor = self._floor_of(profile_id)
        known = self._known.pop(profile_id, None)
        if known is None:
            return
        self._raise_floor(profile_id, floor)
        if self._latest_of.get(known.account_id) == profile_id:
            del self._latest_of[known.account_id]

    async def _load(self, profile_id: str) -> tuple[Policy | None, bool]:
        """From the shared copy unless it is missing or too old; a message may raise the floor meanwhile."""
        policy: Policy | None = None
        for _ in range(_ROUNDS):
            is_new = False
            try:
                policy = await _joined(self._from_shared, profile_id)
            except CountersUnavailable:
                policy = None
            if policy is None or self._is_below(policy):
                policy, is_new = await _joined(self._from_source, profile_id)
            if policy is None or not self._is_below(policy):
                return policy, is_new
        raise DatabaseUnavailable("The settings of this profile are changing.", retry_after_seconds=1)

    async def _load_and_restore(self, profile_ids: Collection[str]) -> list[tuple[Policy | None, bool]]:
        policies = await self._load_and_share(profile_ids)
        unknown: Collection[str] = ()
        with suppress(CountersUnavailable, DatabaseUnavailable):  # then the counters ask for it
            unknown = await self._restore([policy for policy in policies if policy is not None])
        return [(policy, policy is not None and policy.profile_id in unknown) for policy in policies]

    async def _load_and_share(self, profile_ids: Collection[str]) -> list[Policy | None]:
        began_ms = self._clock()
        policies = await self._source.load(tuple(profile_ids))
        self._just_read.add(profile_ids, began_ms)
        try:
            await self._shared.put([policy for policy in policies if policy is not None])
        except CountersUnavailable:
            return policies  # the next process reads PostgreSQL itself
        return policies

    def _keep(self, policy: Policy) -> KnownPolicy:
        now_ms, floor = self._clock(), self._floor_of(policy.profile_id)
        ends_ms = now_ms + self._ttl_ms - int(self._jitter.random() * self._ttl_ms / 10)
        standing = self._standings.of(policy.without_owner(), None, now_ms)
        known = KnownPolicy(policy.account_id, policy.version, standing, ends_ms)
        before = self._known.get(policy.profile_id)
        if before is None:
            while len(self._known) >= self._size:
                self.forget(next(iter(self._known)))
        elif before.account_id == known.account_id:
            known.account_id = before.account_id  # the text that is kept already
        self._known[policy.profile_id] = known
        if self._latest_of.get(known.account_id) != policy.profile_id:
            self._latest_of[known.account_id] = policy.profile_id
        if policy.version < floor:
            self._raise_floor(policy.profile_id, floor)
        else:
            self._floor.pop(policy.profile_id, None)
        return known

    def require(self, profile_id: str, version: int) -> None:
        """Nothing older than this version may serve any more."""
        if version <= self._floor_of(profile_id):
            return
        self._from_shared.part(profile_id)
        self._from_source.part(profile_id)
        self._again.part(profile_id)
        known = self._known.get(profile_id)
        if known is not None:
            known.fresh_until_ms = 0
        self._raise_floor(profile_id, version)

    def _raise_floor(self, profile_id: str, version: int) -> None:
        self._floor.pop(profile_id, None)
        while len(self._floor) >= self._size:
            del self._floor[next(iter(self._floor))]
        self._floor[profile_id] = version

    def _floor_of(self, profile_id: str) -> int:
        """The newest version known of: the remembered one, unless a message told of a newer."""
        known = self._known.get(profile_id)
        return max(self._floor.get(profile_id, 0), known.version if known is not None else 0)

    def _may_serve_stale(self, profile_id: str, known: KnownPolicy) -> bool:
        is_newest = known.version >= self._floor_of(profile_id)
        return is_newest and self._clock() < known.fresh_until_ms + self._stale_ms

    def _is_below(self, policy: Policy) -> bool:
        return policy.version < self._floor_of(policy.profile_id)


async def _joined(loading: Coalescer[str, Answer], profile_id: str) -> Answer:
    try:
        return await loading.join(profile_id, profile_id)
    except Overloaded as error:
        raise CountersUnavailable from error
