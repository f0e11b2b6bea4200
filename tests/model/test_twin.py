"""The script and its executable specification in Python agree on all heartbeats, on every supported server."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.breaks import BreakTerms
from app.domain.counters import NO_CLAIM, Beat, Counters, Outcome, Rules, Status, cold
from app.domain.finishing import FinishTerms
from app.domain.policy import UNLIMITED, DayTerms, EarlierDay
from app.domain.reference import record
from app.domain.weekly import WeekTerms
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys

PROFILE = "11111111-2222-3333-4444-555555555555"
START_MS = 1_790_000_000_000
DAY_MS = 86_400_000
RULES = Rules(beat_spacing_ms=100, beat_burst=3)
KEYS = Keys(4)
THRESHOLDS_MS = [0, 1, 999, 30_000, 299_999, 300_000, 300_001, 600_000, 3_600_000, DAY_MS - 1, DAY_MS, 3 * DAY_MS]
BACKWARDS_MS = [-1, -30_000, -300_000, -300_001]
GAPS_MS = st.sampled_from([*THRESHOLDS_MS, *BACKWARDS_MS, 61 * DAY_MS]) | st.integers(-400_000, 90_000_000)
ALLOWANCES_MS = st.sampled_from([-1, 0, 1, 30_000, 900_000, 7_200_000])
SESSIONS = ["", "s1", "s2", "s3"]

SYNCED = [
    (),
    (),
    (),
    ((START_MS, START_MS + 400_000),),
    ((START_MS + 60_000, START_MS + 90_000), (START_MS + DAY_MS, START_MS + 2 * DAY_MS)),
]


UNCOUNTED = [
    (),
    (START_MS + 60_000, START_MS + 70_000),
    (START_MS - 100, START_MS + 500_000, START_MS + 600_000, START_MS + DAY_MS),
    tuple(START_MS + 400_000 + 10 * place for place in range(64)),
]
"""Also what is reserved for a sync, and as much as is kept."""


CLOSED: list[Any] = [
    None,
    None,
    [(0, START_MS + 30_000)],
    [(START_MS - 5, START_MS - 1), (START_MS + 40_000, START_MS + 50_000), (START_MS + 400_000, START_MS + DAY_MS)],
]


BREAKS = st.sampled_from(
    [None, None, BreakTerms(900_000, 300_000), BreakTerms(60_000, 300_001), BreakTerms(400_000, 30_000)]
)
UNBROKEN = st.sampled_from([(0, 0), (50_000, START_MS - 100), (899_999, START_MS), (5, START_MS + DAY_MS)])
"""What was played without a break, and until when; the clock may have fallen since."""


EARLIER = st.builds(
    EarlierDay,
    st.integers(-3, 9),
    st.sampled_from([0, 40_000, 5_000_000]),
    st.sampled_from([UNLIMITED, 30_000, 7_200_000]),
    st.sampled_from([0, 0, 60_000]),
)
WEEKS = st.builds(
    WeekTerms,
    st.sampled_from([60_000, 7_200_000, 50_000_000]),
    st.integers(0, 6),
    st.lists(EARLIER, max_size=4).map(tuple),
)


FINISHES = st.builds(
    FinishTerms,
    st.sampled_from([60_000, 600_000, 1_800_000]),
    st.sampled_from([0, 30_001, 60_000, 300_000, 1_200_000, 2_000_000, DAY_MS]) | st.integers(0, 2_000_000),
)


def terms(number: int, allowance_ms: int) -> DayTerms:
    starts_ms = START_MS + number * DAY_MS
    return DayTerms(number, starts_ms, starts_ms + DAY_MS, allowance_ms, allowance_ms)


@st.composite
def steps(draw: Any) -> tuple[int, Beat, int, int]:
    """A gap before the beat, the beat (its days still relative), how many days back its list begins, the generation."""
    beat = Beat(
        session_id=draw(st.sampled_from(SESSIONS)),
        new_session_id=draw(st.sampled_from(SESSIONS)),
        issued_at_ms=draw(st.sampled_from([0, 0, START_MS, START_MS + 40_000, START_MS + 10 * DAY_MS])),
        title_id=draw(st.sampled_from(["a", "b"])),
        is_educational=draw(st.integers(0, 1)),
        is_exempt=draw(st.integers(0, 1)),
        is_paused=draw(st.integers(0, 1)),
        is_end=draw(st.sampled_from([0, 0, 0, 1])),
        watched_ms=draw(st.sampled_from([NO_CLAIM, NO_CLAIM, 0, 45_000, 400_000, 5_000_000, 100_000_000])),
        device_id=draw(st.sampled_from(["d1", "d2"])),
        device_type="tv",
        policy_version=draw(st.sampled_from([1, 1, 1, 2])),
        days=[],
        synced=draw(st.sampled_from(SYNCED)),
        closed=draw(st.sampled_from(CLOSED)),
        week=draw(st.none() | WEEKS),
        breaks=draw(BREAKS),
        finish=draw(st.none() | FINISHES),
    )
    if not beat.session_id and not beat.new_session_id:
        beat = msgspec.structs.replace(beat, new_session_id="s1")
    return draw(GAPS_MS), beat, draw(st.sampled_from([0, 0, 1, 3])), draw(st.sampled_from([0, 0, 0, 0, 1]))


@dataclass
class Model:
    """The rule book's own run of the beats."""

    counters: Counters | None
    at_ms: int = START_MS
    closed: dict[str, Counters] = field(default_factory=dict)

    def step(self, beat: Beat, generation: int) -> Outcome:
        recorded = record(self.counters, beat, at_ms=self.at_ms, rules=RULES, generation=generation)
        self.counters = recorded.counters
        for closed in recorded.closed:
            self.closed[f"{PROFILE}|{closed.session_id}|{closed.day_number}"] = closed
        return recorded.outcome


def with_days(beat: Beat, at_ms: int, back: int, allowance_ms: int) -> Beat:
    today = (at_ms - START_MS) // DAY_MS
    days = [terms(number, allowance_ms) for number in range(today - back, today + 1)]
    return msgspec.structs.replace(beat, days=days)


@given(
    script=st.lists(st.tuples(steps(), ALLOWANCES_MS), min_size=1, max_size=25),
    is_known=st.booleans(),
    uncounted=st.sampled_from(UNCOUNTED),
    unbroken=UNBROKEN,
    finished=st.tuples(*[st.sampled_from([0, 0, 1, 40_000, 900_000])] * 3),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_script_and_rule_book_agree(
    redis_client: Any,
    script: list[tuple[tuple[int, Beat, int, int], int]],
    is_known: bool,
    uncounted: tuple[int, ...],
    unbroken: tuple[int, int],
    *,
    finished: tuple[int, int, int],
) -> None:
    await redis_client.flushall()
    counters = RedisCounters(redis_client, KEYS, RULES, live_ttl_seconds=3600)
    model = Model(counters=None)
    if is_known:
        known = cold(terms=terms(0, 7_200_000), policy_version=1, at_ms=START_MS)
        model.counters = msgspec.structs.replace(
            known,
            session_id="s1",
            session_started_ms=START_MS,
            last_beat_ms=START_MS,
            uncounted=uncounted,
            unbroken_ms=unbroken[0],
            played_until_ms=unbroken[1],
            borrowed_ms=finished[0],
            owed_ms=finished[1],
            finish_until_ms=finished[2] and START_MS + finished[2],
        )
        await counters.seed([(PROFILE, model.counters)])
    for (gap_ms, bare, back, generation), allowance_ms in script:
        model.at_ms = counters.at_ms = max(START_MS, model.at_ms + gap_ms)
        beat = with_days(bare, model.at_ms, back, allowance_ms)
        before = msgspec.structs.replace(model.counters) if model.counters else None
        counters.generations = [generation] * KEYS.buckets
        expected = model.step(beat, generation)
        counters_seen = model.counters is not None and model.counters.generation >= generation
        [actual] = await counters.record([(PROFILE, beat)])
        assert actual == expected
        [(at_ms, stored)] = await counters.read([PROFILE])
        assert at_ms == model.at_ms
        assert stored == (model.counters if counters_seen else None)
        if expected.status != Status.OK:
            assert model.counters == before
    await assert_stored(redis_client, model)


@given(sent=st.lists(steps(), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_beats_of_one_child_in_one_call_count_one_after_the_other(
    redis_client: Any, sent: list[tuple[int, Beat, int, int]]
) -> None:
    await redis_client.flushall()
    counters = RedisCounters(redis_client, KEYS, RULES, live_ttl_seconds=3600, at_ms=START_MS + 60_000)
    model = Model(counters=cold(terms=terms(0, 7_200_000), policy_version=1, at_ms=START_MS), at_ms=counters.at_ms)
    await counters.seed([(PROFILE, cold(terms=terms(0, 7_200_000), policy_version=1, at_ms=START_MS))])
    beats = [with_days(bare, model.at_ms, 0, 7_200_000) for _, bare, _, _ in sent]
    expected = [model.step(beat, 0) for beat in beats]
    assert await counters.record([(PROFILE, beat) for beat in beats]) == expected
    assert await counters.read([PROFILE]) == [(model.at_ms, model.counters)]
    await assert_stored(redis_client, model)


async def assert_stored(redis_client: Any, model: Model) -> None:
    """What waits for the flush is what the rule book set aside, and counters that wait have no end of life."""
    bucket = KEYS.bucket(PROFILE)
    stored_closed = await redis_client.hgetall(KEYS.closed(bucket))
    assert {
        name.decode(): msgspec.msgpack.decode(raw, type=Counters) for name, raw in stored_closed.items()
    } == model.closed
    dirty = await redis_client.zrange(KEYS.dirty(bucket), 0, -1, withscores=True)
    if model.counters is not None and model.counters.dirty_since_ms:
        assert dirty == [(PROFILE.encode(), float(model.counters.dirty_since_ms))]
        assert await redis_client.ttl(KEYS.counters(PROFILE)) == -1
    else:
        assert dirty == []
