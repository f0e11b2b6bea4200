"""Offline playback is counted once, whatever overlaps."""

from hypothesis import given
from hypothesis import strategies as st

from app.domain.offline import DayUse, OfflineInterval, Part, settle, settle_tampered, uncovered
from app.domain.policy import UNLIMITED
from app.domain.viewing_day import ViewingDay

DAY_MS = 86_400_000
stretches = st.tuples(st.integers(0, 3 * DAY_MS), st.integers(1, DAY_MS)).map(lambda pair: (pair[0], pair[0] + pair[1]))


def day_at(at_ms: int) -> ViewingDay:
    number = at_ms // DAY_MS
    return ViewingDay(number, number * DAY_MS, (number + 1) * DAY_MS)


def interval(
    starts_ms: int, ends_ms: int, *, watched_ms: int | None = None, is_exempt: bool = False
) -> OfflineInterval:
    return OfflineInterval(
        starts_ms=starts_ms,
        ends_ms=ends_ms,
        watched_ms=ends_ms - starts_ms if watched_ms is None else watched_ms,
        is_exempt=is_exempt,
    )


def length_of_union(parts: list[tuple[int, int]]) -> int:
    covered_to, total = -1, 0
    for starts_ms, ends_ms in sorted(parts):
        total += max(0, ends_ms - max(starts_ms, covered_to))
        covered_to = max(covered_to, ends_ms)
    return total


@given(st.lists(stretches, max_size=8), st.lists(stretches, max_size=8))
def test_the_credit_is_what_the_union_grows_by(sent: list[tuple[int, int]], covered: list[tuple[int, int]]) -> None:
    settlement = settle(
        [interval(*stretch) for stretch in sent], covered=covered, day_at=day_at, use_of=lambda _: DayUse(UNLIMITED, 0)
    )
    assert sum(settlement.credited_ms) == length_of_union(sent + covered) - length_of_union(covered)
    assert sum(use.total_ms for use in settlement.by_day) == sum(settlement.credited_ms)


@given(stretches, st.lists(stretches, max_size=8))
def test_uncovered_parts_lie_inside_and_touch_nothing_covered(
    stretch: tuple[int, int], covered: list[tuple[int, int]]
) -> None:
    for starts_ms, ends_ms in uncovered(stretch, covered):
        assert stretch[0] <= starts_ms < ends_ms <= stretch[1]
        assert all(ends_ms <= other[0] or starts_ms >= other[1] for other in covered)


def test_what_was_watched_is_less_than_the_stretch() -> None:
    settlement = settle(
        [interval(0, 1000, watched_ms=400)], covered=[], day_at=day_at, use_of=lambda _: DayUse(UNLIMITED, 0)
    )
    assert settlement.credited_ms == (400,)


def test_a_stretch_across_a_reset_is_split() -> None:
    settlement = settle(
        [interval(DAY_MS - 300, DAY_MS + 700)], covered=[], day_at=day_at, use_of=lambda _: DayUse(UNLIMITED, 0)
    )
    assert [(use.day_number, use.used_ms) for use in settlement.by_day] == [(0, 300), (1, 700)]


def test_what_is_beyond_the_allowance_is_overrun_and_educational_time_is_apart() -> None:
    settlement = settle(
        [interval(0, 1000), interval(1000, 1500, is_exempt=True)],
        covered=[],
        day_at=day_at,
        use_of=lambda _: DayUse(900, 500),
    )
    [use] = settlement.by_day
    assert (use.used_ms, use.educational_ms, use.overrun_ms) == (400, 500, 600)


@given(
    st.lists(st.integers(0, DAY_MS), max_size=5),
    st.lists(stretches, max_size=6),
    st.integers(1, DAY_MS),
)
def test_a_tampered_batch_counts_today_in_the_time_that_today_has_left(
    watched_ms: list[int], covered: list[tuple[int, int]], passed_ms: int
) -> None:
    today = day_at(2 * DAY_MS)
    at_ms = today.starts_ms + passed_ms
    settlement = settle_tampered(
        [interval(0, DAY_MS, watched_ms=part_ms) for part_ms in watched_ms],
        covered=covered,
        today=today,
        use=DayUse(UNLIMITED, 0),
        at_ms=at_ms,
    )
    free_ms = sum(ends_ms - starts_ms for starts_ms, ends_ms in uncovered((today.starts_ms, at_ms), covered))
    assert sum(settlement.credited_ms) == min(sum(watched_ms), free_ms)
    assert all(credit_ms <= part_ms for credit_ms, part_ms in zip(settlement.credited_ms, watched_ms, strict=True))
    assert sum(use.used_ms for use in settlement.by_day if use.day_number == today.number) == sum(
        settlement.credited_ms
    )
    placed = [(part.starts_ms, part.ends_ms) for part in settlement.parts]
    assert length_of_union(placed) == sum(settlement.credited_ms)
    assert length_of_union([*placed, *covered]) == length_of_union(placed) + length_of_union(covered)


def test_parts_take_the_time_around_what_was_counted_whether_or_not_all_of_it_was_watched() -> None:
    settlement = settle(
        [interval(0, 100, watched_ms=50), interval(90, 120)],
        covered=[(20, 60)],
        day_at=day_at,
        use_of=lambda _: DayUse(UNLIMITED, 0),
    )
    assert settlement.credited_ms == (50, 20)
    assert settlement.parts == (Part(0, 0, 20, 20), Part(0, 60, 100, 30), Part(1, 100, 120, 20))
