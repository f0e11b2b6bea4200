"""Offline playback is counted once, with any overlap."""

from collections.abc import Sequence
from typing import Any

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from app.domain.counters import Counters, Rules, cold
from app.domain.offline import (
    DayUse,
    OfflineInterval,
    Part,
    Settlement,
    TimeRange,
    counted_ranges,
    counted_until_ms,
    credited,
    settle,
    settle_tampered,
    uncovered,
)
from app.domain.policy import UNLIMITED, DayTerms
from app.domain.viewing_day import ViewingDay

DAY_MS = 86_400_000
ranges = st.tuples(st.integers(0, 3 * DAY_MS), st.integers(1, DAY_MS)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def day_at(at_ms: int) -> ViewingDay:
    number = at_ms // DAY_MS
    return ViewingDay(number, number * DAY_MS, (number + 1) * DAY_MS)


def use(allowance_ms: int = UNLIMITED, used_ms: int = 0) -> DayUse:
    return DayUse(DayTerms(0, 0, DAY_MS, allowance_ms, allowance_ms), used_ms)


def settled(intervals: Sequence[OfflineInterval], **given: Any) -> Settlement:
    """The credit on unlimited days with exempt educational titles, unless given otherwise."""
    usual: dict[str, Any] = {
        "covered": [],
        "day_at": day_at,
        "use_of": lambda _: use(),
        "exempt_at": lambda _: (True, 2**62),
    }
    return settle(intervals, **(usual | given))


def interval(
    starts_ms: int, ends_ms: int, *, watched_ms: int | None = None, is_educational: bool = False
) -> OfflineInterval:
    return OfflineInterval(
        starts_ms=starts_ms,
        ends_ms=ends_ms,
        watched_ms=ends_ms - starts_ms if watched_ms is None else watched_ms,
        is_educational=is_educational,
    )


def length_of_union(parts: list[tuple[int, int]]) -> int:
    covered_to, total = -1, 0
    for starts_ms, ends_ms in sorted(parts):
        total += max(0, ends_ms - max(starts_ms, covered_to))
        covered_to = max(covered_to, ends_ms)
    return total


@given(st.lists(ranges, max_size=8), st.lists(ranges, max_size=8))
def test_the_credit_is_what_the_union_grows_by(sent: list[tuple[int, int]], covered: list[tuple[int, int]]) -> None:
    settlement = settled([interval(*time_range) for time_range in sent], covered=covered)
    assert sum(settlement.credited_ms) == length_of_union(sent + covered) - length_of_union(covered)
    assert sum(use.total_ms for use in settlement.by_day) == sum(settlement.credited_ms)


@given(ranges, st.lists(ranges, max_size=8))
def test_uncovered_parts_lie_inside_and_touch_nothing_covered(
    time_range: tuple[int, int], covered: list[tuple[int, int]]
) -> None:
    for starts_ms, ends_ms in uncovered(time_range, covered):
        assert time_range[0] <= starts_ms < ends_ms <= time_range[1]
        assert all(ends_ms <= other[0] or starts_ms >= other[1] for other in covered)


def test_what_was_watched_is_less_than_the_time_range() -> None:
    settlement = settled([interval(0, 1000, watched_ms=400)])
    assert settlement.credited_ms == (400,)


def test_a_time_range_across_a_reset_is_split() -> None:
    settlement = settled([interval(DAY_MS - 300, DAY_MS + 700)])
    assert [(use.day_number, use.used_ms) for use in settlement.by_day] == [(0, 300), (1, 700)]


def test_what_is_beyond_the_allowance_is_overrun_and_educational_time_is_apart() -> None:
    settlement = settled([interval(0, 1000), interval(1000, 1500, is_educational=True)], use_of=lambda _: use(900, 500))
    [day] = settlement.by_day
    assert (day.used_ms, day.educational_ms, day.overrun_ms) == (400, 500, 600)


def test_educational_time_counts_where_it_was_not_exempt() -> None:
    settlement = settled(
        [interval(0, 1000, is_educational=True)],
        exempt_at=lambda at_ms: (at_ms < 300, 300 if at_ms < 300 else 2**62),
    )
    assert [(part.time_range, part.educational_ms, part.used_ms) for part in settlement.parts] == [
        ((0, 300), 300, 0),
        ((300, 1000), 0, 700),
    ]


@given(
    st.lists(st.tuples(ranges, st.integers(0, DAY_MS)), max_size=5),
    st.lists(ranges, max_size=6),
    st.integers(1, DAY_MS),
    st.integers(0, DAY_MS),
)
def test_a_tampered_batch_is_charged_today_and_nothing_it_names_counts_later(
    sent: list[tuple[TimeRange, int]], covered: list[TimeRange], passed_ms: int, limit_ms: int
) -> None:
    today = day_at(2 * DAY_MS)
    at_ms = today.starts_ms + passed_ms
    batch = [interval(*time_range, watched_ms=watched_ms) for time_range, watched_ms in sent]
    settlement = settle_tampered(
        batch,
        named=[(place, time_range) for place, (time_range, _) in enumerate(sent)],
        covered=covered,
        today=today,
        day_at=day_at,
        use=use(limit_ms),
        at_ms=at_ms,
    )
    watched_ms = [part_ms for _, part_ms in sent]
    free_ms = sum(ends_ms - starts_ms for starts_ms, ends_ms in uncovered((today.starts_ms, at_ms), covered))
    assert sum(settlement.credited_ms) == min(sum(watched_ms), free_ms)
    assert sum(settlement.credited_ms) + settlement.penalty_ms == sum(watched_ms)
    assert all(credit_ms <= part_ms for credit_ms, part_ms in zip(settlement.credited_ms, watched_ms, strict=True))
    assert {day.day_number for day in settlement.by_day} <= {today.number}
    assert sum(day.total_ms for day in settlement.by_day) == sum(settlement.credited_ms)
    assert sum(day.used_ms for day in settlement.by_day) <= limit_ms
    placed = [part.time_range for part in settlement.parts if not part.is_settled]
    assert length_of_union(placed) == sum(settlement.credited_ms)
    assert length_of_union([*placed, *covered]) == length_of_union(placed) + length_of_union(covered)
    # An honest clock that tells of the same again is credited nothing, and neither is a beat.
    later = [*covered, *(part.time_range for part in settlement.parts)]
    assert sum(settled([interval(*time_range) for time_range, _ in sent], covered=later).credited_ms) == 0
    known = [*covered, *credited(settlement.parts)]
    assert all(uncovered(time_range, known) == [] for time_range, _ in sent)


def test_parts_take_the_time_around_what_was_counted_whether_or_not_all_of_it_was_watched() -> None:
    settlement = settled([interval(0, 100, watched_ms=50), interval(90, 120)], covered=[(20, 60)])
    assert settlement.credited_ms == (50, 20)
    assert settlement.parts == (
        Part(place=0, starts_ms=0, ends_ms=20, day_number=0, used_ms=20),
        Part(place=0, starts_ms=60, ends_ms=100, day_number=0, used_ms=30),
        Part(place=1, starts_ms=100, ends_ms=120, day_number=0, used_ms=20),
    )


def test_a_day_that_owes_takes_so_much_less() -> None:
    owing = DayUse(DayTerms(0, 0, DAY_MS, 3_600_000, 3_600_000), 600_000, 1_200_000)
    settlement = settled([interval(0, 3_600_000)], use_of=lambda _: owing)
    assert [(used.used_ms, used.overrun_ms) for used in settlement.by_day] == [(1_800_000, 1_800_000)]
    assert settlement.owed_ms == (1_200_000,)
    unlimited = DayUse(DayTerms(0, 0, DAY_MS, UNLIMITED, UNLIMITED), 600_000, 1_200_000)
    assert settled([interval(0, 3_600_000)], use_of=lambda _: unlimited).by_day[0].used_ms == 3_600_000


def session(session_id: str = "session", **fields: Any) -> Counters:
    """The counters of a session that began with the day."""
    blank = cold(terms=use().terms, policy_version=1, at_ms=0)
    return msgspec.structs.replace(blank, session_id=session_id, **fields)


def test_the_next_beat_counts_a_running_session_up_to_now_and_a_paused_one_up_to_the_grace() -> None:
    running, paused = session(last_beat_ms=280_000), session(last_beat_ms=280_000, paused_since_ms=10_000)
    assert counted_until_ms(running, at_ms=400_000, rules=Rules()) == 400_000
    assert counted_until_ms(paused, at_ms=400_000, rules=Rules()) == 310_000
    assert counted_until_ms(running, at_ms=580_001, rules=Rules()) == 280_000


def test_a_session_is_counted_apart_from_what_it_did_not_count() -> None:
    assert counted_ranges(session(uncounted=(10, 20, 40, 50)), until_ms=60) == [(0, 10), (20, 40), (50, 60)]
    assert counted_ranges(session(session_id=""), until_ms=60) == []
