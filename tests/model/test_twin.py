"""The script and the rule book in Python answer alike, whatever beats arrive, on every server we support."""

from dataclasses import dataclass, field
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.domain.accounting import NO_CLAIM, Beat, Live, Outcome, Rules, Status, cold, record
from app.domain.policy import DayTerms
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


def terms(number: int, allowance_ms: int) -> DayTerms:
    starts_ms = START_MS + number * DAY_MS
    return DayTerms(number, starts_ms, starts_ms + DAY_MS, allowance_ms, allowance_ms)


@st.composite
def steps(draw: Any) -> tuple[int, Beat, int, int]:
    """A gap before the beat, the beat (its days still relative), how many days back its list begins, the generation."""
    beat = Beat(
        session_id=draw(st.sampled_from(SESSIONS)),
        new_session_id=draw(st.sampled_from(SESSIONS)),
        proof_ms=draw(st.sampled_from([0, 0, START_MS, START_MS + 40_000, START_MS + 10 * DAY_MS])),
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
    )
    if not beat.session_id and not beat.new_session_id:
        beat = msgspec.structs.replace(beat, new_session_id="s1")
    return draw(GAPS_MS), beat, draw(st.sampled_from([0, 0, 1, 3])), draw(st.sampled_from([0, 0, 0, 0, 1]))


@dataclass
class Model:
    """The rule book's own run of the beats."""

    live: Live | None
    at_ms: int = START_MS
    closed: dict[str, Live] = field(default_factory=dict)

    def step(self, beat: Beat, generation: int) -> Outcome:
        recorded = record(self.live, beat, at_ms=self.at_ms, rules=RULES, generation=generation)
        self.live = recorded.live
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
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_script_and_rule_book_agree(
    redis_client: Any, script: list[tuple[tuple[int, Beat, int, int], int]], is_known: bool
) -> None:
    await redis_client.flushall()
    counters = RedisCounters(redis_client, KEYS, RULES, live_ttl_seconds=3600)
    model = Model(live=None)
    if is_known:
        model.live = cold(terms=terms(0, 7_200_000), policy_version=1, at_ms=START_MS)
        await counters.seed([(PROFILE, model.live)])
    for (gap_ms, bare, back, generation), allowance_ms in script:
        model.at_ms = counters.at_ms = max(START_MS, model.at_ms + gap_ms)
        beat = with_days(bare, model.at_ms, back, allowance_ms)
        before = msgspec.structs.replace(model.live) if model.live else None
        counters.generations = [generation] * KEYS.buckets
        expected = model.step(beat, generation)
        counters_seen = model.live is not None and model.live.generation >= generation
        [actual] = await counters.record([(PROFILE, beat)])
        assert actual == expected
        [(at_ms, stored)] = await counters.read([PROFILE])
        assert at_ms == model.at_ms
        assert stored == (model.live if counters_seen else None)
        if expected.status != Status.OK:
            assert model.live == before
    await assert_stored(redis_client, model)


@given(sent=st.lists(steps(), min_size=2, max_size=6))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_beats_of_one_child_in_one_call_count_one_after_the_other(
    redis_client: Any, sent: list[tuple[int, Beat, int, int]]
) -> None:
    await redis_client.flushall()
    counters = RedisCounters(redis_client, KEYS, RULES, live_ttl_seconds=3600, at_ms=START_MS + 60_000)
    model = Model(live=cold(terms=terms(0, 7_200_000), policy_version=1, at_ms=START_MS), at_ms=counters.at_ms)
    await counters.seed([(PROFILE, cold(terms=terms(0, 7_200_000), policy_version=1, at_ms=START_MS))])
    beats = [with_days(bare, model.at_ms, 0, 7_200_000) for _, bare, _, _ in sent]
    expected = [model.step(beat, 0) for beat in beats]
    assert await counters.record([(PROFILE, beat) for beat in beats]) == expected
    assert await counters.read([PROFILE]) == [(model.at_ms, model.live)]
    await assert_stored(redis_client, model)


async def assert_stored(redis_client: Any, model: Model) -> None:
    """What waits for the flush is what the rule book set aside, and counters that wait have no end of life."""
    bucket = KEYS.bucket(PROFILE)
    stored_closed = await redis_client.hgetall(KEYS.closed(bucket))
    assert {
        name.decode(): msgspec.msgpack.decode(raw, type=Live) for name, raw in stored_closed.items()
    } == model.closed
    dirty = await redis_client.zrange(KEYS.dirty(bucket), 0, -1, withscores=True)
    if model.live is not None and model.live.dirty_since_ms:
        assert dirty == [(PROFILE.encode(), float(model.live.dirty_since_ms))]
        assert await redis_client.ttl(KEYS.live(PROFILE)) == -1
    else:
        assert dirty == []
