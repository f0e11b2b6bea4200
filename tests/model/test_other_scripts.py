"""The scripts that change counters without a beat, and their executable specification, answer alike on every server."""

from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.breaks import breaks_of
from app.domain.counters import Counters, Rules
from app.domain.limits import LimitRules
from app.domain.markets import Market, Markets
from app.domain.policy import UNLIMITED, DayTerms, EarlierDay, Policy, terms_of
from app.domain.reference import apply_policy, merge_generations, reserve
from app.domain.viewing_day import Calendar, ViewingDay
from app.domain.weekly import week_of
from app.redis_store.counters import RedisCounters
from app.redis_store.events import RedisEvents
from app.redis_store.keys import Keys
from app.redis_store.policies import SharedPolicies

PROFILE = "11111111-2222-3333-4444-555555555555"
KEYS = Keys(4)
RULES = Rules()
NOON_MS = 1_790_000_000_000
MINUTE_MS = 60_000
WEEKEND = (5, 6)
CALENDAR = Calendar.opened(NOON_MS, timezone="UTC", reset_hour=6)
TODAY = CALENDAR.day_at(NOON_MS)
DAYS = [TODAY, ViewingDay(TODAY.number - 1, 2 * TODAY.starts_ms - TODAY.ends_ms, TODAY.starts_ms)]
AGES_MS = st.sampled_from([-1000, 0, 1, 299_999, 300_000, 300_001, 3_600_000]) | st.integers(0, 400_000)
DURATIONS_MS = st.sampled_from([0, 1, MINUTE_MS, 15 * MINUTE_MS]) | st.integers(0, 20 * MINUTE_MS)
FLAGS = st.integers(0, 1)
ALLOWANCES_MS = st.sampled_from([-1, 0, MINUTE_MS, 15 * MINUTE_MS])
EXAMPLES = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def disjoint(draw: Any, *, starts_ms: int, max_size: int) -> list[tuple[int, int]]:
    """Intervals in ms, ascending and disjoint."""
    size = draw(st.sampled_from([0, 1, 2, max_size]))
    steps = draw(st.lists(st.tuples(st.integers(1, 50_000), st.integers(1, 50_000)), min_size=size, max_size=size))
    found, cursor_ms = [], starts_ms
    for pause_ms, length_ms in steps:
        found.append((cursor_ms + pause_ms, cursor_ms + pause_ms + length_ms))
        cursor_ms += pause_ms + length_ms
    return found


@st.composite
def counters(draw: Any, *, generation: int = 0, uncounted: int = 3) -> Counters:
    """Counters that beats may leave behind, as far as these scripts can tell."""
    day = draw(st.sampled_from(DAYS))
    last_beat_ms = NOON_MS - draw(AGES_MS)
    intervals = draw(disjoint(starts_ms=last_beat_ms - 600_000, max_size=uncounted))
    made = Counters(
        version=NOON_MS + draw(st.integers(-5, 5)),
        generation=generation,
        policy_version=draw(st.integers(1, 4)),
        dirty_since_ms=draw(st.sampled_from([0, NOON_MS - 7])),
        day_number=day.number,
        day_starts_ms=day.starts_ms,
        day_ends_ms=draw(st.sampled_from([day.ends_ms, NOON_MS])),
        limit_ms=draw(ALLOWANCES_MS),
        allowance_ms=draw(ALLOWANCES_MS),
        used_ms=draw(DURATIONS_MS),
        educational_ms=draw(DURATIONS_MS),
        overrun_ms=draw(DURATIONS_MS),
        session_id=draw(st.sampled_from(["", "s1", "s1", "s2"])),
        title_id="film",
        is_educational=draw(FLAGS),
        device_id="d",
        device_type="tv",
        session_started_ms=last_beat_ms - 600_000,
        last_beat_ms=last_beat_ms,
        paused_since_ms=draw(st.sampled_from([0, 0, last_beat_ms])),
        watched_ms=draw(DURATIONS_MS),
        session_used_ms=draw(DURATIONS_MS),
        session_overrun_ms=draw(DURATIONS_MS),
        has_ended=draw(st.sampled_from([0, 0, 1])),
        lease_ms=draw(st.sampled_from([0, 300_000])),
        abandoned_sessions=draw(st.integers(0, 4)),
        uncounted=tuple(instant_ms for interval in intervals for instant_ms in interval),
        week=draw(st.sampled_from([(), (), (EarlierDay(TODAY.number - 1, MINUTE_MS, 5 * MINUTE_MS),)])),
        unbroken_ms=draw(st.sampled_from([0, 0, 7 * MINUTE_MS])),
        played_until_ms=last_beat_ms - draw(st.sampled_from([0, 1, 299_999, 300_000])),
        borrowed_ms=draw(st.sampled_from([0, 0, MINUTE_MS])),
        owed_ms=draw(st.sampled_from([0, 0, MINUTE_MS, 20 * MINUTE_MS])),
        finish_until_ms=draw(st.sampled_from([0, 0, NOON_MS - 1000, NOON_MS + 1, NOON_MS + 600_000])),
    )
    if draw(st.booleans()):  # a child that plays on although it is blocked
        made = msgspec.structs.replace(
            made, day_number=TODAY.number, day_ends_ms=TODAY.ends_ms, session_id="s1", has_ended=0, paused_since_ms=0,
            allowance_ms=MINUTE_MS, used_ms=MINUTE_MS, policy_version=1,
        )  # fmt: skip
    return made


class Stored:
    """The counters of one child on a server."""

    def __init__(self, redis: Any, *, generation: int = 0) -> None:
        self.redis = redis
        self.counters = RedisCounters(redis, KEYS, RULES, live_ttl_seconds=3600, at_ms=NOON_MS)
        self.counters.generations = [generation] * KEYS.buckets

    async def put(self, known: Counters) -> None:
        await self.redis.flushall()
        await self.redis.set(KEYS.counters(PROFILE), msgspec.msgpack.encode(known))

    async def read(self) -> Counters:
        raw = await self.redis.get(KEYS.counters(PROFILE))
        return msgspec.msgpack.decode(raw, type=Counters)

    async def is_due(self) -> bool:
        """Whether the child waits for the flush."""
        return await self.redis.zscore(KEYS.dirty(KEYS.bucket(PROFILE)), PROFILE) is not None


@given(
    known=counters(),
    version=st.integers(2, 5),
    limit_minutes=st.sampled_from([None, 0, 15, 120]),
    synced=disjoint(starts_ms=NOON_MS - 400_000, max_size=3),
    is_kids=st.sampled_from([True, True, True, False]),
    weekly_minutes=st.sampled_from([None, None, 15, 600]),
    break_minutes=st.sampled_from([None, 5]),
    is_exempt=st.booleans(),
)
@EXAMPLES
async def test_a_new_policy_acts_on_running_counters_as_specified(
    redis_client: Any,
    known: Counters,
    version: int,
    limit_minutes: int | None,
    synced: list[tuple[int, int]],
    *,
    weekly_minutes: int | None,
    break_minutes: int | None,
    is_exempt: bool,
    is_kids: bool,
) -> None:
    stored = Stored(redis_client)
    await stored.put(known)
    rules = LimitRules(
        weekly_limit_minutes=weekly_minutes,
        break_after_minutes=None if break_minutes is None else 30,
        break_minutes=break_minutes,
    )
    policy = Policy(
        PROFILE,
        "",
        version,
        is_kids,
        1,
        limit_minutes,
        limit_minutes,
        is_exempt,
        (),
        CALENDAR if is_kids else None,
        synced=tuple(synced),
        rules=rules,
        week=(EarlierDay(TODAY.number - 1, 3 * MINUTE_MS, UNLIMITED, MINUTE_MS),),
    )
    shared = SharedPolicies(
        redis_client,
        KEYS,
        RedisEvents(redis_client, KEYS),
        ttl_seconds=3600,
        live_ttl_seconds=3600,
        markets=Markets(Market(weekend_days=WEEKEND)),
        clock=lambda: NOON_MS,
        at_ms=NOON_MS,
    )
    terms: DayTerms | None = terms_of(policy, TODAY, weekend_days=WEEKEND) if is_kids else None
    expected = apply_policy(
        known,
        version=version,
        terms=terms,
        synced=policy.synced,
        is_exempt=is_exempt,
        at_ms=NOON_MS,
        max_gap_ms=RULES.max_gap_ms,
        week=week_of(policy, starts_on=0),
        breaks=breaks_of(rules),
    )
    await shared.put([policy])
    assert await stored.read() == expected
    assert await stored.is_due() == (known.dirty_since_ms == 0 and expected.dirty_since_ms != 0)


@given(survived=counters(generation=1), recovered=counters())
@EXAMPLES
async def test_counters_of_two_generations_are_merged_as_specified(
    redis_client: Any, survived: Counters, recovered: Counters
) -> None:
    stored = Stored(redis_client, generation=2)
    await stored.put(survived)
    await stored.counters.seed([(PROFILE, recovered)])
    expected = merge_generations(survived, msgspec.structs.replace(recovered, generation=2), at_ms=NOON_MS)
    assert await stored.read() == expected
    assert await stored.is_due()


@given(
    known=counters(uncounted=32),
    reserved=disjoint(starts_ms=NOON_MS - 500_000, max_size=40),
    is_changed=st.sampled_from([False, False, False, True]),
)
@EXAMPLES
async def test_intervals_are_reserved_as_specified(
    redis_client: Any, known: Counters, reserved: list[tuple[int, int]], *, is_changed: bool
) -> None:
    stored = Stored(redis_client)
    await stored.put(known)
    version = known.version + is_changed
    expected = reserve(known, version=version, ranges=reserved, at_ms=NOON_MS)
    assert await stored.counters.reserve(PROFILE, version, reserved) == (expected is not None)
    assert await stored.read() == (expected or known)
