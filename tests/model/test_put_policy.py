"""A changed policy takes effect on running counters at once."""

from typing import Any

import msgspec
import pytest

from app.domain.counters import NO_CLAIM, Beat, Counters, Rules, Status, cold
from app.domain.markets import Market, Markets
from app.domain.policy import DayTerms, Grant, Policy, terms_of
from app.domain.viewing_day import Calendar
from app.redis_store.counters import RedisCounters
from app.redis_store.events import RedisEvents
from app.redis_store.keys import Keys
from app.redis_store.policies import SharedPolicies

CHILD = "11111111-2222-3333-4444-555555555555"
NOON_MS = 1_790_000_000_000
MINUTE_MS = 60_000
KEYS = Keys(4)
WEEKEND = (5, 6)
POLICY = Policy(CHILD, "", 1, True, 1, 15, 15, True, (), Calendar.opened(NOON_MS, timezone="Europe/Oslo", reset_hour=6))


class Sofa:
    """A child that has used its 15 minutes up, and goes on."""

    def __init__(self, redis: Any) -> None:
        self.policy = POLICY
        self._redis = redis
        self._counters = RedisCounters(redis, KEYS, Rules(), live_ttl_seconds=3600, at_ms=NOON_MS)

    @property
    def terms(self) -> DayTerms:
        assert self.policy.calendar is not None
        return terms_of(self.policy, self.policy.calendar.day_at(NOON_MS), weekend_days=WEEKEND)

    async def sits_down(self) -> None:
        counters = cold(terms=self.terms, policy_version=1, at_ms=NOON_MS)
        counters.used_ms = counters.allowance_ms
        await self._counters.seed([(CHILD, counters)])
        await self.beats(0, is_first=True)

    async def finishes_its_title(self, minutes: int) -> None:
        """The title that plays may be finished, and the day owes a minute."""
        [(_, counters)] = await self._counters.read([CHILD])
        assert counters is not None
        counters.finish_until_ms, counters.owed_ms = self._counters.at_ms + minutes * MINUTE_MS, MINUTE_MS
        counters.used_ms, counters.borrowed_ms = 15 * MINUTE_MS, MINUTE_MS
        await self._redis.delete(KEYS.counters(CHILD))
        await self._counters.seed([(CHILD, counters)])

    async def beats(self, minutes: int, *, is_first: bool = False, watched_ms: int = NO_CLAIM) -> Counters:
        self._counters.at_ms += minutes * MINUTE_MS
        beat = Beat(
            session_id="" if is_first else "s1",
            new_session_id="s1" if is_first else "",
            issued_at_ms=0,
            title_id="film",
            is_educational=0,
            is_exempt=0,
            is_paused=0,
            is_end=0,
            watched_ms=watched_ms,
            device_id="d",
            device_type="tv",
            policy_version=self.policy.version,
            days=[self.terms],
            synced=self.policy.synced,
        )
        [outcome] = await self._counters.record([(CHILD, beat)])
        assert outcome.status == Status.OK
        [(_, counters)] = await self._counters.read([CHILD])
        assert counters is not None
        return counters

    async def is_given(
        self, extra_minutes: int, *, after_minutes: int, synced_minutes: tuple[int, int] | None = None
    ) -> None:
        """Extra time, with a time range that was synced, in minutes after noon."""
        self._counters.at_ms += after_minutes * MINUTE_MS
        grants = (Grant(self.terms.number, extra_minutes),)
        synced: tuple[tuple[int, int], ...] = ()
        if synced_minutes is not None:
            synced = ((NOON_MS + synced_minutes[0] * MINUTE_MS, NOON_MS + synced_minutes[1] * MINUTE_MS),)
        self.policy = msgspec.structs.replace(
            self.policy, version=self.policy.version + 1, grants=grants, synced=synced
        )
        policies = SharedPolicies(
            self._redis,
            KEYS,
            RedisEvents(self._redis, KEYS),
            ttl_seconds=3600,
            live_ttl_seconds=3600,
            markets=Markets(Market(weekend_days=WEEKEND)),
            clock=lambda: self._counters.at_ms,
            at_ms=self._counters.at_ms,
        )
        await policies.put([self.policy])


@pytest.fixture
async def sofa(redis_client: Any) -> Sofa:
    sofa = Sofa(redis_client)
    await sofa.sits_down()
    return sofa


async def test_extra_time_counts_from_when_it_is_given(sofa: Sofa) -> None:
    await sofa.is_given(15, after_minutes=4)
    counters = await sofa.beats(1)
    assert (counters.overrun_ms, counters.used_ms) == (4 * MINUTE_MS, 16 * MINUTE_MS)


async def test_a_claim_does_not_tell_again_of_what_was_settled_when_extra_time_was_given(sofa: Sofa) -> None:
    await sofa.is_given(15, after_minutes=4)
    counters = await sofa.beats(10, watched_ms=10 * MINUTE_MS)
    assert (counters.overrun_ms, counters.used_ms) == (4 * MINUTE_MS, 21 * MINUTE_MS)


@pytest.mark.parametrize(("synced", "overrun_minutes"), [((1, 3), 2), ((-9, 1), 3), ((0, 4), 0), ((4, 9), 4)])
async def test_what_was_synced_meanwhile_is_no_overrun_of_the_session(
    sofa: Sofa, synced: tuple[int, int], overrun_minutes: int
) -> None:
    """A policy that is put back after a loss may know of syncs since the last beat that the counters know of."""
    await sofa.is_given(15, after_minutes=4, synced_minutes=synced)
    counters = await sofa.beats(0)
    assert (counters.overrun_ms, counters.used_ms) == (overrun_minutes * MINUTE_MS, 15 * MINUTE_MS)


async def test_what_finished_a_title_until_then_is_borrowed(sofa: Sofa) -> None:
    await sofa.finishes_its_title(3)
    await sofa.is_given(15, after_minutes=4)
    counters = await sofa.beats(0)
    assert (counters.used_ms, counters.overrun_ms) == (18 * MINUTE_MS, MINUTE_MS)
    assert (counters.borrowed_ms, counters.allowance_ms) == (4 * MINUTE_MS, 29 * MINUTE_MS)
