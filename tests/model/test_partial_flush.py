"""Any part of finished and running usage may be flushed before a total loss of Redis: nothing doubles."""

from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.domain.counters import NO_CLAIM, Beat, Counters, Rules, Status, cold
from app.domain.policy import UNLIMITED, DayTerms
from app.domain.reference import record
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys
from app.redis_store.unflushed import RedisUnflushed
from tests.model.ledger import MemoryLedger

MINUTE_MS = 60_000
HOUR_MS = 60 * MINUTE_MS
DAY_MS = 24 * HOUR_MS
FIRST_DAY = 20_717
BEGIN_MS = FIRST_DAY * DAY_MS + 22 * HOUR_MS
CHILD = "child"
RULES = Rules()


def _terms(number: int) -> DayTerms:
    return DayTerms(number, number * DAY_MS, (number + 1) * DAY_MS, UNLIMITED, UNLIMITED)


class Home:
    """One child on one device that opens a session, beats, changes its title and ends; Redis and PostgreSQL."""

    def __init__(self) -> None:
        self.at_ms = BEGIN_MS
        self.ledger = MemoryLedger(lambda: self.at_ms)
        self.counters: Counters | None = None
        self.closed: list[Counters] = []
        self.session_id = ""
        self.issued_ms: dict[str, int] = {}
        self.title = 0

    def beat(self, after_ms: int, **fields: Any) -> None:
        self.at_ms += after_ms
        if self.counters is None:
            began_ms = self.issued_ms.get(self.session_id, self.at_ms)
            self.counters = cold(terms=_terms(began_ms // DAY_MS), policy_version=1, at_ms=began_ms)
        new_id = f"{len(self.issued_ms)}"
        self.issued_ms[new_id] = self.at_ms
        first = min(self.counters.day_number, self.at_ms // DAY_MS)
        values: dict[str, Any] = {
            "session_id": self.session_id, "new_session_id": new_id,
            "issued_at_ms": self.issued_ms.get(self.session_id, 0),
            "title_id": f"{self.title}", "is_educational": 0, "is_exempt": 1, "is_paused": 0, "is_end": 0,
            "watched_ms": NO_CLAIM, "device_id": "sofa", "device_type": "tv", "policy_version": 1,
            "days": [_terms(number) for number in range(first, self.at_ms // DAY_MS + 1)],
        }  # fmt: skip
        recorded = record(self.counters, Beat(**values | fields), at_ms=self.at_ms, rules=RULES)
        self.counters = recorded.counters
        self.closed += recorded.closed
        is_over = recorded.outcome.status != Status.OK or bool(fields.get("is_end"))
        self.session_id = "" if is_over else recorded.outcome.session_id

    async def flush(self, *, running: bool) -> None:
        entries = [(CHILD, counters) for counters in self.closed]
        if running and self.counters is not None:
            entries.append((CHILD, self.counters))
            self.counters = msgspec.structs.replace(self.counters, dirty_since_ms=0)
        await self.ledger.upsert(entries)
        self.closed = []

    async def lose(self) -> None:
        self.closed = []
        [found] = await self.ledger.recover([CHILD])
        self.counters = None if found is None else msgspec.structs.replace(found, policy_version=1)

    async def counted_ms(self) -> dict[int, int]:
        await self.flush(running=True)
        return {day: sum(sums) for day, sums in self.ledger.sums_ms(CHILD).items()}


STEPS = st.lists(
    st.tuples(
        st.sampled_from([1, 20_000, 30_000, 299_999, 300_000, 300_001, 2 * HOUR_MS]),
        st.sampled_from(["beat", "beat", "beat", "claim", "pause", "retitle", "end"]),
        st.sampled_from([None, None, "finished", "all"]),
        st.booleans(),
    ),
    max_size=25,
)


@given(steps=STEPS)
@settings(max_examples=400, deadline=None)
async def test_nothing_doubles_whatever_was_flushed(steps: list[tuple[int, str, str | None, bool]]) -> None:
    home = Home()
    home.beat(0)
    for after_ms, kind, flushed, is_lost in steps:
        fields: dict[str, Any] = {}
        if kind == "claim" and home.session_id:
            fields["watched_ms"] = home.at_ms + after_ms - home.issued_ms[home.session_id]
        if kind == "end" and home.session_id:
            fields["is_end"] = 1
        if kind == "retitle":
            home.title += 1
        home.beat(after_ms, is_paused=int(kind == "pause"), **fields)
        if flushed:
            await home.flush(running=flushed == "all")
        if is_lost:
            await home.lose()
    for day, counted_ms in (await home.counted_ms()).items():
        starts_ms = max(BEGIN_MS, day * DAY_MS)
        assert counted_ms <= max(0, min(home.at_ms, (day + 1) * DAY_MS) - starts_ms), day


@pytest.mark.parametrize("is_running_flushed", [False, True])
async def test_a_running_session_loses_nothing_at_a_reset(*, is_running_flushed: bool) -> None:
    home = Home()
    home.beat(0)
    for _ in range(260):
        home.beat(29_000)
        if home.closed:
            await home.flush(running=is_running_flushed)
            await home.lose()
    assert await home.counted_ms() == {FIRST_DAY: 2 * HOUR_MS, FIRST_DAY + 1: 260 * 29_000 - 2 * HOUR_MS}


async def test_a_child_that_beat_after_the_reading_stays_dirty(redis_client: Any) -> None:
    child, keys = "11111111-2222-3333-4444-555555555555", Keys(1)
    counters = RedisCounters(redis_client, keys, RULES, live_ttl_seconds=3600, at_ms=BEGIN_MS)
    unflushed = RedisUnflushed(redis_client, keys, live_ttl_seconds=3600, clock=lambda: counters.at_ms)
    today = _terms(FIRST_DAY)
    beat = Beat(
        session_id="", new_session_id="a", issued_at_ms=0, title_id="", is_educational=0, is_exempt=0, is_paused=0,
        is_end=0, watched_ms=NO_CLAIM, device_id="", device_type="", policy_version=1, days=[today],
    )  # fmt: skip

    await counters.seed([(child, cold(terms=today, policy_version=1, at_ms=BEGIN_MS))])
    await counters.record([(child, beat)])
    [opened] = (await unflushed.peek([0], older_than_ms=0, limit=10))[0]
    counters.at_ms += 30_000
    await counters.record([(child, msgspec.structs.replace(beat, session_id="a", new_session_id=""))])
    await unflushed.forget(0, [opened])
    [changed] = (await unflushed.peek([0], older_than_ms=0, limit=10))[0]
    assert (opened.counters.used_ms, changed.counters.used_ms) == (0, 30_000)
    await unflushed.forget(0, [changed])
    assert await unflushed.peek([0], older_than_ms=0, limit=10) == {0: []}
