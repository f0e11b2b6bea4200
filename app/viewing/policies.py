"""Policies in the memory of one process, never older than one already used.

A policy comes from the shared copy in Redis, or from PostgreSQL when that has none. Three things keep it fresh: the
invalidation message, the version that every beat compares with what Redis knows, and a life of at most a minute, which
each beat that finds the version unchanged renews.
"""

import asyncio
import random
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache, partial
from typing import TypeAlias

import msgspec

from app import metrics
from app.clock import Clock
from app.coalesce import Coalescer, Deliver, Overloaded, settle
from app.domain.accounting import Live
from app.domain.policy import NO_OFFLINE_USE, DayTerms, OfflineUse, Policy, terms_of
from app.domain.viewing_day import Calendar, ViewingDay
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.viewing.ports import PolicySource, SharedPolicies

_BATCH = 500
_CALLS_IN_FLIGHT = 1  # more would share the same work between smaller calls, which cost more
_ROUNDS = 3
_MOMENT_MS = 1000
_STANDINGS = 16_384
_ABOVE_ALL = 2**53 - 1  # no policy reaches this version


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


Met: TypeAlias = tuple[KnownPolicy | None, bool]
"""A policy, None where there is no such profile; and whether it was found that nothing was ever flushed of it."""


class _Meeting:
    """The loading of one profile, for all who ask for it meanwhile."""

    __slots__ = ("profile_id", "rounds", "waiting")

    def __init__(self, profile_id: str, deliver: Deliver[Met]) -> None:
        self.profile_id = profile_id
        self.rounds = _ROUNDS
        self.waiting = [deliver]


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

    Where Redis has lost the shared copy it has lost the counters too: they are put back together.
    """

    def __init__(
        self,
        *,
        shared: SharedPolicies,
        source: PolicySource,
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
        self._from_source = Coalescer(self._load_and_restore, max_batch=_BATCH, max_in_flight=_CALLS_IN_FLIGHT)
        self._again = Coalescer(self._load_and_share, max_batch=_BATCH, max_in_flight=_CALLS_IN_FLIGHT)
        self._standings = _Standings(weekend_days)
        self._ttl_ms = ttl_ms
        self._stale_ms = stale_ms
        self._size = size
        self._clock = clock
        self._jitter = jitter
        self._meetings: dict[str, _Meeting] = {}
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
        try:
            policy = await self._again.join(profile_id, profile_id)
        except Overloaded as error:
            raise CountersUnavailable from error
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

    async def meet(self, profile_id: str, *, at_least: int = 0) -> Met:
        """As ``get``; and whether it was found meanwhile that nothing was ever flushed of the profile."""
        future: asyncio.Future[Met] = asyncio.get_running_loop().create_future()
        self.enqueue(profile_id, partial(settle, future), at_least=at_least)
        return await future

    def enqueue(self, profile_id: str, deliver: Deliver[Met], *, at_least: int = 0) -> None:
        """As ``meet``, for callers that do not wait: what is met, or the error, is handed to ``deliver``."""
        known = self.peek(profile_id)
        if known is not None and known.version >= at_least:
            deliver((known, False), None)
            return
        self.require(profile_id, at_least)
        meeting = self._meetings.get(profile_id)
        if meeting is not None:
            meeting.waiting.append(deliver)
            return
        meeting = self._meetings[profile_id] = _Meeting(profile_id, deliver)
        self._ask_shared(meeting)

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

    # --- from the shared copy unless it is missing or too old; a message may raise the floor meanwhile

    def _ask_shared(self, meeting: _Meeting) -> None:
        if meeting.rounds == 0:
            error = DatabaseUnavailable("The settings of this profile are changing.", retry_after_seconds=1)
            self._end(meeting, None, error)
            return
        meeting.rounds -= 1
        try:
            self._from_shared.enqueue(meeting.profile_id, partial(self._see_shared, meeting))
        except Overloaded:
            self._ask_source(meeting)

    def _see_shared(self, meeting: _Meeting, policy: Policy | None, error: BaseException | None) -> None:
        if error is not None and not isinstance(error, CountersUnavailable):
            self._end(meeting, None, error)
        elif policy is None or self._is_below(policy):
            self._ask_source(meeting)
        else:
            self._end(meeting, (policy, False), None)

    def _ask_source(self, meeting: _Meeting) -> None:
        try:
            self._from_source.enqueue(meeting.profile_id, partial(self._see_source, meeting))
        except Overloaded:
            self._end(meeting, None, CountersUnavailable())

    def _see_source(
        self, meeting: _Meeting, found: tuple[Policy | None, bool] | None, error: BaseException | None
    ) -> None:
        if found is not None and found[0] is not None and self._is_below(found[0]):
            self._ask_shared(meeting)
        else:
            self._end(meeting, found, error)

    def _end(self, meeting: _Meeting, found: tuple[Policy | None, bool] | None, error: BaseException | None) -> None:
        if self._meetings.get(meeting.profile_id) is meeting:
            del self._meetings[meeting.profile_id]
        met, refusal = None, error
        try:
            met = self._met(meeting, found, error)
        except Exception as failure:  # noqa: BLE001  all who wait are told
            refusal = failure
        for deliver in meeting.waiting:
            deliver(met, refusal if met is None else None)

    def _met(
        self, meeting: _Meeting, found: tuple[Policy | None, bool] | None, error: BaseException | None
    ) -> Met | None:
        """What is kept of what was found. Where loading has failed, what is remembered may serve for a while."""
        if found is None:
            stale = self._known.get(meeting.profile_id)
            is_away = isinstance(error, (DatabaseUnavailable, CountersUnavailable))
            if not is_away or stale is None or not self._may_serve_stale(meeting.profile_id, stale):
                return None
            metrics.STALE_POLICIES.inc(len(meeting.waiting))
            return stale, False
        policy, is_new = found
        if policy is None:
            self.forget(meeting.profile_id)
            return None, False
        return self._keep(policy), is_new

    async def _load_and_restore(self, profile_ids: Sequence[str]) -> list[tuple[Policy | None, bool]]:
        began_ms = self._clock()
        met = await self._source.meet(profile_ids)
        self._just_read.add(profile_ids, began_ms)
        lives = {policy.profile_id: live for policy, live in filter(None, met) if live is not None}
        await self._share([policy for policy, _ in filter(None, met)], lives)
        return [(None, False) if found is None else (found[0], found[1] is None) for found in met]

    async def _load_and_share(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        began_ms = self._clock()
        policies = await self._source.load(profile_ids)
        self._just_read.add(profile_ids, began_ms)
        await self._share([policy for policy in policies if policy is not None])
        return policies

    async def _share(self, policies: Sequence[Policy], lives: Mapping[str, Live] | None = None) -> None:
        try:
            await self._shared.put(policies, lives)
        except CountersUnavailable:
            return  # the next process reads PostgreSQL itself, and the counters ask for what was flushed

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
        self._meetings.pop(profile_id, None)
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
