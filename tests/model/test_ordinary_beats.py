"""The ordinary path of ``record.lua`` counts as the executable specification does, or leaves a beat to the full path.

Many children beat in the same calls, mostly as ordinary players do. ``ORDINARY_SEQUENCES`` sets how many,
``ORDINARY_SEED`` which: the suite always plays the same ones.
"""

import os
import random
from typing import Any

import msgspec
import pytest

from app.domain.breaks import BreakTerms
from app.domain.counters import NO_CLAIM, Beat, Counters, Outcome, Rules, Status, cold
from app.domain.finishing import FinishTerms
from app.domain.policy import DayTerms, EarlierDay
from app.domain.reference import record
from app.domain.weekly import WeekTerms
from app.redis_store import counters as counters_module
from app.redis_store.beat_calls import BeatCall, OrdinaryBeat
from app.redis_store.cluster import as_cluster
from app.redis_store.clustered import ClusteredCounters
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys
from app.redis_store.unflushed import RedisUnflushed

SEQUENCES = int(os.environ.get("ORDINARY_SEQUENCES", "400"))  # noqa: TID251  how long it may take
SEED = int(os.environ.get("ORDINARY_SEED", "1"))  # noqa: TID251  likewise
CHILDREN_A_CALL = 100
STEPS = 20
START_MS = 1_790_000_000_000
DAY_MS = 86_400_000
KEYS = Keys(4)
EDGES_MS = [0, 1, 250, 65_536, 299_999, 300_000, 300_001, 900_000, -1, -30_000, -300_001, DAY_MS]
ALLOWANCES_MS = [-1, 0, 100_000, 127_000, 7_200_000]
DEVICES = [("living room", "tv"), ("Ålesund", "web"), ("x" * 100, "mobile"), ("", "tablet")]
TITLES = ["title-00001", "title-00001", "t" * 40, "ninjago og drømmen"]

NO_RULES = {"week": None, "breaks": None, "finish": None}
ALL_RULES = {
    "week": WeekTerms(9_000_000, 1, (EarlierDay(-2, 60_000, -1), EarlierDay(-1, 0, 7_200_000, 5_000))),
    "breaks": BreakTerms(900_000, 300_000),
    "finish": FinishTerms(600_000, 9_000_000),
}


class LongForms(BeatCall):
    """Sends every beat in the long form, as versions before the ordinary path did."""

    def _add(self, beat: Beat) -> None:
        self._add_long(beat)


class Child:
    """A child, its counters by the specification, and what its player does next."""

    def __init__(self, chance: random.Random, number: int) -> None:
        self.chance = chance
        self.profile_id = f"{number:08x}-2222-4333-8444-555555555555"
        self.session_id = f"01990000-0000-7000-8000-{number:012x}"
        self.title, (self.device, self.device_type) = chance.choice(TITLES), chance.choice(DEVICES)
        self.is_educational, self.is_exempt = chance.choice([0, 0, 1]), chance.choice([0, 1])
        self.allowance_ms = chance.choice(ALLOWANCES_MS)
        self.is_claiming = chance.random() < 0.3
        self.policy_version = 1
        self.watched_ms = 0
        self.counters: Counters | None = None
        self.is_open = False
        self.week_limit_ms = chance.choice([None, None, 0, 200_000, 9_000_000])
        self.break_ms = chance.choice([None, None, 120_000, 900_000])
        self.finishes = chance.random() < 0.3
        self.earlier_days = self._earlier_days()

    def _earlier_days(self) -> tuple[EarlierDay, ...]:
        """Days of the week before the first one, as PostgreSQL has them: usually in order."""
        chance = self.chance
        numbers = sorted(chance.sample(range(-2, 0), chance.choice([0, 1, 2])))
        if chance.random() < 0.1:
            numbers = [*numbers, *numbers[:1], chance.choice([-9, 0, 1])]
        return tuple(
            EarlierDay(number, chance.choice([0, 50_000, 3_600_000]), chance.choice([-1, 60_000, 7_200_000]))
            for number in numbers
        )

    def terms(self, at_ms: int) -> DayTerms:
        number = (at_ms - START_MS) // DAY_MS
        starts_ms = START_MS + number * DAY_MS
        return DayTerms(number, starts_ms, starts_ms + DAY_MS, self.allowance_ms, self.allowance_ms)

    def begin(self, at_ms: int) -> Counters:
        first = cold(terms=self.terms(at_ms), policy_version=1, at_ms=at_ms)
        if self.chance.random() < 0.1:
            first = msgspec.structs.replace(first, previous_session_id=self.session_id[::-1], previous_ended_ms=at_ms)
        self.counters = first
        return first

    def usual_beat(self, at_ms: int, rules: dict[str, Any]) -> Beat:
        """The next beat, without anything unusual but these rules."""
        beat = self.beat(at_ms, 0)
        return msgspec.structs.replace(
            beat, is_paused=0, is_end=0, synced=(), policy_version=1, device_id=self.device, **rules
        )

    def beat(self, at_ms: int, gap_ms: int) -> Beat:
        chance = self.chance
        if chance.random() < 0.04:
            self.allowance_ms, self.policy_version = chance.choice(ALLOWANCES_MS), self.policy_version + 1
        if chance.random() < 0.03:
            self.break_ms, self.finishes = chance.choice([None, 120_000, 900_000]), chance.random() < 0.5
            self.week_limit_ms = chance.choice([None, 200_000, 9_000_000])
        if chance.random() < 0.03:
            self.earlier_days = self._earlier_days()
        if chance.random() < 0.02:
            self.title = chance.choice(TITLES)
        if chance.random() < 0.02:
            self.is_educational = 1 - self.is_educational
        self.watched_ms += max(0, gap_ms) + chance.choice([0, 0, -1000, 5000])
        opens, self.is_open = not self.is_open or chance.random() < 0.02, True
        if opens:
            self.session_id = self.session_id[:-14] + f"{chance.getrandbits(32):08x}" + self.session_id[-6:]
        return Beat(
            session_id="" if opens else self.session_id,
            new_session_id=self.session_id if opens else "",
            issued_at_ms=0,
            title_id=self.title,
            is_educational=self.is_educational,
            is_exempt=self.is_exempt,
            is_paused=int(chance.random() < 0.03),
            is_end=int(chance.random() < 0.01),
            watched_ms=max(0, self.watched_ms) if self.is_claiming else NO_CLAIM,
            device_id=self.device if chance.random() > 0.02 else "another",
            device_type=self.device_type,
            policy_version=self.policy_version - (chance.random() < 0.02),
            days=(self.terms(at_ms),),
            synced=((at_ms - 10_000, at_ms - 5_000),) if chance.random() < 0.02 else (),
            closed=((at_ms + 100_000, at_ms + 900_000),) if chance.random() < 0.02 else None,
            week=None if self.week_limit_ms is None else WeekTerms(self.week_limit_ms, 1, self.earlier_days),
            breaks=None if self.break_ms is None else BreakTerms(900_000, self.break_ms),
            finish=FinishTerms(600_000, chance.choice([30_000, 200_000, 5_000_000])) if self.finishes else None,
        )

    def expected(self, beat: Beat, at_ms: int, rules: Rules) -> Outcome:
        assert self.counters is not None
        recorded = record(self.counters, beat, at_ms=at_ms, rules=rules, generation=self.counters.generation)
        self.counters = recorded.counters
        if recorded.outcome.status in {Status.ENDED, Status.SUPERSEDED, Status.NEEDS_ID}:
            self.is_open = False  # the player begins anew
        return recorded.outcome


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many beats went the ordinary path, and how many there were."""
    counted = [0, 0]
    original = BeatCall.outcomes

    def outcomes(self: BeatCall, answer: bytes) -> list[Outcome]:
        figures = msgspec.msgpack.decode(answer)[1][::3]
        counted[0] += sum(used_ms >= 0 for used_ms in figures)
        counted[1] += len(figures)
        return original(self, answer)

    monkeypatch.setattr(BeatCall, "outcomes", outcomes)
    return counted


@pytest.mark.parametrize("spacing_ms", [0, 100])
async def test_ordinary_beats_count_as_specified(redis_client: Any, shares: list[int], spacing_ms: int) -> None:
    chance = random.Random(SEED)  # noqa: S311  no secret
    rules = Rules(beat_spacing_ms=spacing_ms, beat_burst=3)
    for first in range(0, SEQUENCES, CHILDREN_A_CALL):
        children = [Child(chance, first + number) for number in range(CHILDREN_A_CALL)]
        await _play(redis_client, children, chance, rules)
    assert shares[0] > 0.2 * shares[1], shares


async def _play(redis_client: Any, children: list[Child], chance: random.Random, rules: Rules) -> None:
    await redis_client.flushall()
    adapter = RedisCounters if as_cluster(redis_client) is None else ClusteredCounters
    counters = adapter(redis_client, KEYS, rules, live_ttl_seconds=3600)
    counters.generations = [chance.choice([0, 0, 1, 200])] * KEYS.buckets
    flush = RedisUnflushed(redis_client, KEYS, live_ttl_seconds=3600, clock=lambda: at_ms)
    at_ms = counters.at_ms = START_MS + chance.choice([0, 1000, DAY_MS - 300_000])
    await counters.seed([(child.profile_id, child.begin(at_ms)) for child in children])
    for child in children:
        assert child.counters is not None
        child.counters.generation = counters.generations[0]
    for _ in range(STEPS):
        gap_ms = chance.choice(EDGES_MS) if chance.random() < 0.15 else chance.randint(27_000, 33_000)
        at_ms = counters.at_ms = max(START_MS, at_ms + gap_ms)
        sent = [(child, child.beat(at_ms, gap_ms)) for child in children if chance.random() > 0.05]
        sent += [(child, child.beat(at_ms, 0)) for child, _ in sent if chance.random() < 0.02]
        expected = [child.expected(beat, at_ms, rules) for child, beat in sent]
        assert await counters.record([(child.profile_id, beat) for child, beat in sent]) == expected
        if chance.random() < 0.4:
            await _flush(flush, children)
    stored = [found for _, found in await counters.read([child.profile_id for child in children])]
    assert stored == [child.counters for child in children]


async def _flush(flush: RedisUnflushed, children: list[Child]) -> None:
    """What was written becomes clean, so that the next beat marks it again."""
    for bucket, entries in (await flush.peek(range(KEYS.buckets), older_than_ms=0, limit=1000)).items():
        await flush.forget(bucket, entries)
    for child in children:
        assert child.counters is not None
        child.counters.dirty_since_ms = 0


async def test_both_ways_store_the_same_bytes(redis_client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """So processes of this version and of those before it can serve the same children."""
    stored = []
    for form in (BeatCall, LongForms):
        monkeypatch.setattr(counters_module, "BeatCall", form)
        chance = random.Random(SEED)  # noqa: S311  no secret
        children = [Child(chance, number) for number in range(CHILDREN_A_CALL)]
        await _play(redis_client, children, chance, Rules(beat_spacing_ms=100))
        stored.append([await redis_client.get(KEYS.counters(child.profile_id)) for child in children])
    assert stored[0] == stored[1]


@pytest.mark.parametrize("rules", [NO_RULES, ALL_RULES], ids=["no rules", "all rules"])
async def test_the_short_way_takes_the_usual_beats(redis_client: Any, shares: list[int], rules: dict[str, Any]) -> None:
    """The second beat of a session closes its lease; from the third on nothing is unusual, also after a flush."""
    chance = random.Random(1)  # noqa: S311  no secret
    child = Child(chance, 1)
    counters = RedisCounters(redis_client, KEYS, Rules(beat_spacing_ms=100), live_ttl_seconds=3600, at_ms=START_MS)
    flush = RedisUnflushed(redis_client, KEYS, live_ttl_seconds=3600, clock=lambda: counters.at_ms)
    await counters.seed([(child.profile_id, child.begin(START_MS))])
    usual = child.usual_beat(START_MS, rules)
    await counters.record([(child.profile_id, usual)])
    going_on = msgspec.structs.replace(usual, session_id=child.session_id, new_session_id="")
    for number in range(1, 6):
        counters.at_ms += 30_000
        [outcome] = await counters.record([(child.profile_id, going_on)])
        assert outcome.status == Status.OK
        assert shares == [max(0, number - 1), number + 1]
        await _flush(flush, [child])


async def test_the_ordinary_path_declines_another_day_and_an_older_generation(redis_client: Any) -> None:
    child = Child(random.Random(1), 1)  # noqa: S311  no secret
    counters = RedisCounters(redis_client, KEYS, Rules(), live_ttl_seconds=3600, at_ms=START_MS + DAY_MS - 90_000)
    await counters.seed([(child.profile_id, child.begin(counters.at_ms))])
    usual = child.usual_beat(counters.at_ms, NO_RULES)
    going_on = msgspec.structs.replace(usual, session_id=child.session_id, new_session_id="")
    statuses = []
    for beat in (usual, going_on, going_on, going_on):
        [outcome] = await counters.record([(child.profile_id, beat)])
        statuses.append(outcome.status)
        counters.at_ms += 30_000
    assert statuses == [Status.OK, Status.OK, Status.OK, Status.DAY]
    counters.at_ms -= 50_000
    counters.generations = [1] * KEYS.buckets
    assert [outcome.status for outcome in await counters.record([(child.profile_id, going_on)])] == [Status.COLD]


@pytest.mark.parametrize("beats", [3, 20])
async def test_a_flood_of_ordinary_beats_is_refused(redis_client: Any, shares: list[int], beats: int) -> None:
    """The third of three at once is too fast where two may come at once. A second later there is room for one."""
    child = Child(random.Random(1), 1)  # noqa: S311  no secret
    rules = Rules(beat_spacing_ms=1000, beat_burst=2)
    counters = RedisCounters(redis_client, KEYS, rules, live_ttl_seconds=3600, at_ms=START_MS)
    await counters.seed([(child.profile_id, child.begin(START_MS))])
    usual = child.usual_beat(START_MS, NO_RULES)
    await counters.record([(child.profile_id, usual)])
    going_on = msgspec.structs.replace(usual, session_id=child.session_id, new_session_id="")
    for _ in range(2):
        counters.at_ms += 30_000
        await counters.record([(child.profile_id, going_on)])
    assert shares[0] == 1
    counters.at_ms += 30_000
    statuses = [(await counters.record([(child.profile_id, going_on)]))[0].status for _ in range(beats)]
    assert statuses == [Status.OK] * 2 + [Status.TOO_FAST] * (beats - 2)
    counters.at_ms += 1000
    assert [outcome.status for outcome in await counters.record([(child.profile_id, going_on)])] == [Status.OK]


def test_the_ordinary_form_ends_like_the_counters() -> None:
    playing = Counters.__struct_fields__[12:17]
    assert OrdinaryBeat.__struct_fields__[-5:] == playing
