"""Cached policies: their size, their lifetime, and never an older version than one seen before."""

import asyncio
import random
import tracemalloc
from collections.abc import Collection, Mapping, Sequence
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfoNotFoundError

import msgspec
import pytest

from app.auth.tokens import Role, TokenCache, Tokens
from app.domain.counters import Counters
from app.domain.markets import Market, Markets
from app.domain.policy import Grant, OfflineUse, Policy
from app.domain.viewing_day import DAY_MS, Calendar, DayRule
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.viewing.policy_cache import KnownPolicy, PolicyCache

NOW = 1_772_452_800_000  # 2026-03-02 12:00 UTC
TTL_MS, STALE_MS = 60_000, 600_000
TODAY = NOW // DAY_MS
_CALENDAR = Calendar.opened(NOW - 3 * DAY_MS, timezone="Europe/Oslo", reset_hour=6)
_decoded = msgspec.msgpack.Decoder(Policy).decode


def id_of(number: int) -> str:
    return str(UUID(int=number, version=4))


def policy(number: int = 1, *, version: int = 1, **changed: Any) -> Policy:
    """A child's policy that shares no object with another one, as after a load."""
    made = Policy(id_of(number), id_of(10**9 + number), version, True, 1, 120, 180, True, (15, 5), _CALENDAR)
    return _decoded(msgspec.msgpack.encode(msgspec.structs.replace(made, **changed)))


class Source:
    """A source of policies that can be unreachable."""

    def __init__(self) -> None:
        self.policies: dict[str, Policy] = {}
        self.is_away = False
        self.loads = 0

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        self.loads += 1
        if self.is_away:
            raise DatabaseUnavailable
        return [self.policies.get(profile_id) for profile_id in profile_ids]

    async def load_with_counters(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Counters | None] | None]:
        return [(policy, None) if policy else None for policy in await self.load(profile_ids)]


class Nothing(Source):
    async def put(self, policies: Sequence[Policy], counters_of: Mapping[str, Counters] | None = None) -> list[Policy]:
        return list(policies)


class Home:
    """A cache, its source and its clock."""

    def __init__(self, *, size: int = 100, weekend_days: Collection[int] = (5, 6)) -> None:
        self.now_ms = NOW
        self.clock_step_ms = 0
        self.source = Source()
        self.cache = PolicyCache(
            shared=Nothing(),
            source=self.source,
            markets=Markets(Market(weekend_days=tuple(weekend_days))),
            ttl_ms=TTL_MS,
            stale_ms=STALE_MS,
            size=size,
            clock=lambda: self.now_ms + self.clock_step_ms,
            monotonic=lambda: self.now_ms,
            jitter=random.Random(1),  # noqa: S311  when an entry ends
        )

    async def known(self, wanted: Policy) -> KnownPolicy:
        self.source.policies[wanted.profile_id] = wanted
        known = await self.cache.get(wanted.profile_id)
        assert known is not None
        return known


@pytest.fixture
def home() -> Home:
    return Home()


class TestSharing:
    async def test_children_with_the_same_settings_share_what_follows_from_them(self, home: Home) -> None:
        one, other = await home.known(policy(1)), await home.known(policy(2, version=7))
        assert one.effective is other.effective
        assert (one.account_id, one.version) == (id_of(10**9 + 1), 1)
        assert (other.account_id, other.version) == (id_of(10**9 + 2), 7)

    async def test_also_when_the_settings_were_made_at_different_instants_of_a_day(self, home: Home) -> None:
        opened_later = Calendar.opened(NOW - 3 * DAY_MS + 1, timezone="Europe/Oslo", reset_hour=6)
        one = await home.known(policy(1))
        other = await home.known(policy(2, calendar=opened_later))
        assert one.effective is other.effective

    @pytest.mark.parametrize(
        "different",
        [
            {"weekday_limit_minutes": 135},
            {"weekend_limit_minutes": None},
            {"educational_exempt": False},
            {"config_version": 2},
            {"warning_minutes": (10,)},
            {"grants": (Grant(TODAY, 15),)},
            {"offline": (OfflineUse(TODAY, used_ms=1),)},
            {"calendar": Calendar.opened(NOW - 3 * DAY_MS, timezone="Europe/Oslo", reset_hour=7)},
            {"calendar": None, "is_kids": False},
        ],
        ids=lambda different: next(iter(different)),
    )
    async def test_a_child_with_others_has_its_own(self, home: Home, different: dict[str, Any]) -> None:
        usual, other = await home.known(policy(1)), await home.known(policy(2, **different))
        assert all(getattr(other.policy, name) == value for name, value in different.items() if name != "calendar")
        assert other.effective != usual.effective

    async def test_what_differs_still_shares_the_calendar(self, home: Home) -> None:
        one, other = await home.known(policy(1)), await home.known(policy(2, config_version=2))
        assert one.policy.calendar is other.policy.calendar
        assert one.days is other.days

    async def test_the_next_day_is_computed_anew(self, home: Home) -> None:
        today = await home.known(policy(1))
        home.now_ms += DAY_MS
        tomorrow = await home.known(policy(2))
        assert [day.number for day in today.days] == [TODAY]
        assert [day.number for day in tomorrow.days] == [TODAY + 1]

    async def test_a_child_that_was_away_is_told_all_days_until_they_are_counted(self, home: Home) -> None:
        known = await home.known(policy(1))
        running = known.days[0].day
        home.cache.extend_days(known, running, NOW + 2 * DAY_MS)
        assert [day.number for day in known.days] == [TODAY + 1, TODAY + 2]
        home.cache.drop_past_days(known)
        assert [day.number for day in known.days] == [TODAY + 2]

    async def test_one_takes_less_than_300_bytes_also_when_loaded_again(self) -> None:
        """Objects as they are; the memory that holds them is rounded up. 20,000 half fill a table of their size."""
        viewers = 20_000
        home = Home(size=viewers)
        cache, anchor = home.cache, _CALENDAR.anchor
        for _ in range(2):  # what is shared is there before
            cache._keep(policy(0))
        tracemalloc.start()
        for number in [*range(1, viewers + 1), *range(1, viewers + 1)]:
            rule = DayRule(NOW - 3 * DAY_MS + number, "Europe/Oslo", 6)
            cache.confirm(cache._keep(policy(number, calendar=Calendar(anchor, (rule,)))))
        remembered, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert remembered / viewers < 300


def test_a_token_takes_less_than_110_bytes() -> None:
    viewers = 5_000
    tokens = Tokens(secret=b"s" * 32, issuer="hourglass", audience="hourglass")
    cache = TokenCache(tokens, size=viewers, clock=lambda: NOW)

    def meet(number: int) -> None:
        token = tokens.issue(account_id=id_of(number), role=Role.HOUSEHOLD, at_s=NOW // 1000, life_seconds=60)
        cache.principal_of(b"Bearer " + token.encode())

    meet(0)
    tracemalloc.start()
    for number in range(1, viewers):
        meet(number)
    remembered, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert remembered / viewers < 110


class TestFreshness:
    async def test_it_serves_no_longer_than_its_life(self, home: Home) -> None:
        known = await home.known(policy())
        assert NOW + TTL_MS * 0.9 <= known.fresh_until_ms <= NOW + TTL_MS
        home.now_ms = known.fresh_until_ms - 1
        assert home.cache.peek(id_of(1)) is known
        home.now_ms += 1
        assert home.cache.peek(id_of(1)) is None
        assert home.cache.last_known(id_of(1)) is known

    @pytest.mark.parametrize("later_ms", [0, 1, 999, 1000, 59_999, -1, -5000])
    async def test_a_confirmed_one_lives_on_and_never_too_long(self, home: Home, later_ms: int) -> None:
        known, other = await home.known(policy(1)), await home.known(policy(2))
        home.cache.confirm(other)
        home.now_ms += later_ms
        home.cache.confirm(known)
        assert home.now_ms + TTL_MS - 1000 < known.fresh_until_ms <= home.now_ms + TTL_MS

    async def test_a_stale_one_serves_while_the_database_is_away(self, home: Home) -> None:
        known = await home.known(policy())
        home.source.is_away = True
        home.now_ms = known.fresh_until_ms + STALE_MS - 1
        assert await home.cache.get(id_of(1)) is known
        home.now_ms += 1
        with pytest.raises(DatabaseUnavailable):
            await home.cache.get(id_of(1))

    async def test_after_a_silence_each_is_loaded_again(self, home: Home) -> None:
        await home.known(policy())
        home.cache.expire()
        assert home.cache.peek(id_of(1)) is None
        assert home.cache.last_known(id_of(1)) is not None


class TestFloor:
    async def test_none_serves_that_is_older_than_a_message_said(self, home: Home) -> None:
        await home.known(policy(version=3))
        home.cache.invalidate(f"{id_of(1)}:4")
        assert home.cache.last_known(id_of(1)) is None
        with pytest.raises(DatabaseUnavailable):
            await home.cache.get(id_of(1))
        home.source.is_away = True
        with pytest.raises(DatabaseUnavailable):
            await home.cache.get(id_of(1))
        home.source.is_away = False
        assert (await home.known(policy(version=4))).version == 4

    @pytest.mark.parametrize("version", [2, 3])
    async def test_a_message_of_what_is_known_changes_nothing(self, home: Home, version: int) -> None:
        known = await home.known(policy(version=3))
        home.cache.invalidate(f"{id_of(1)}:{version}")
        assert home.cache.peek(id_of(1)) is known

    async def test_an_older_one_is_not_taken_back(self, home: Home) -> None:
        known = await home.known(policy(version=3))
        home.source.policies[id_of(1)] = policy(version=2)
        home.now_ms += TTL_MS
        assert await home.cache.get(id_of(1)) is known

    async def test_nor_when_the_database_once_answered_with_an_older_one(self, home: Home) -> None:
        await home.known(policy(version=3))
        home.source.policies[id_of(1)] = policy(version=2)
        home.now_ms += 2000  # else the one that was just read is not read again
        reload = await home.cache.reload(id_of(1))
        assert reload is not None
        assert reload.version == 2
        home.now_ms += TTL_MS
        with pytest.raises(DatabaseUnavailable):
            await home.cache.get(id_of(1))

    async def test_nor_when_it_had_to_leave_in_between(self) -> None:
        home = Home(size=2)
        for number in (1, 2, 3):
            await home.known(policy(number, version=3))
        assert home.cache.last_known(id_of(1)) is None
        home.source.policies[id_of(1)] = policy(1, version=2)
        with pytest.raises(DatabaseUnavailable):
            await home.cache.get(id_of(1))

    async def test_nor_when_the_profile_was_gone_in_between(self, home: Home) -> None:
        await home.known(policy(version=3))
        home.now_ms += TTL_MS
        del home.source.policies[id_of(1)]
        assert await home.cache.get(id_of(1)) is None
        with pytest.raises(DatabaseUnavailable):
            await home.known(policy(version=2))

    async def test_nothing_of_an_erased_profile_serves(self, home: Home) -> None:
        await home.known(policy())
        home.cache.erase(id_of(1))
        assert home.cache.last_known(id_of(1)) is None
        assert home.cache.latest_of(id_of(10**9 + 1)) is None
        with pytest.raises(DatabaseUnavailable):
            await home.known(policy(version=99))

    async def test_a_message_of_an_unknown_profile_counts_when_it_is_met(self, home: Home) -> None:
        home.cache.invalidate(f"{id_of(1)}:5")
        with pytest.raises(DatabaseUnavailable):
            await home.known(policy(version=4))
        assert (await home.known(policy(version=5))).version == 5


class TestSize:
    async def test_the_first_known_leave_first(self) -> None:
        home = Home(size=2)
        for number in (1, 2, 3):
            await home.known(policy(number))
        remembered = [home.cache.last_known(id_of(number)) is not None for number in (1, 2, 3)]
        assert remembered == [False, True, True]
        assert home.cache.latest_of(id_of(10**9 + 1)) is None
        assert home.cache.latest_of(id_of(10**9 + 3)) == id_of(3)

    async def test_who_is_loaded_again_takes_nobodys_place(self) -> None:
        home = Home(size=2)
        for number in (1, 2):
            await home.known(policy(number))
        home.now_ms += TTL_MS
        await home.known(policy(1))
        assert home.cache.last_known(id_of(2)) is not None


@pytest.mark.parametrize("step_ms", [-10_800_000, -2_820_000, 86_400_000])
async def test_a_clock_that_steps_makes_no_policy_serve_for_longer(home: Home, step_ms: int) -> None:
    await home.known(policy(1))
    home.clock_step_ms = step_ms
    assert home.cache.peek(id_of(1)) is not None
    home.now_ms += TTL_MS
    assert home.cache.peek(id_of(1)) is None


async def test_where_too_many_wait_the_rest_is_refused(home: Home) -> None:
    for batcher in (home.cache._loader._shared_batcher, home.cache._loader._restore_batcher):
        batcher._max_waiting = 0
    with pytest.raises(CountersUnavailable):
        await home.cache.get("nobody")


async def test_all_who_ask_at_once_share_one_load(home: Home) -> None:
    home.source.policies[id_of(1)] = policy(1)
    one, other = await asyncio.gather(home.cache.load_with_counters(id_of(1)), home.cache.load_with_counters(id_of(1)))
    assert one == other
    assert (one.known, one.is_new) == (home.cache.peek(id_of(1)), True)
    assert home.source.loads == 1


async def test_a_policy_that_cannot_be_computed_is_told_to_those_who_ask_for_it_alone(home: Home) -> None:
    nowhere = Calendar(_CALENDAR.anchor, (DayRule(NOW, "Nowhere/At_All", 6),))
    home.source.policies |= {id_of(1): policy(1, calendar=nowhere), id_of(2): policy(2)}
    async with asyncio.timeout(5):
        asked = (home.cache.get(id_of(number)) for number in (1, 1, 2))
        one, again, other = await asyncio.gather(*asked, return_exceptions=True)
    assert isinstance(one, ZoneInfoNotFoundError)
    assert isinstance(again, ZoneInfoNotFoundError)
    assert isinstance(other, KnownPolicy)
