"""Co-viewing: the strictest decision, and each child once."""

from collections.abc import Sequence
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.co_viewing import CoViewed, Overlap, PartKey, deciding, first_shared_ms, together_of
from app.domain.co_viewing import strictest as strictest_until
from app.domain.enforcement import Decision, decide
from app.domain.policy import MINUTE_MS, UNLIMITED

NOON_MS = 1_790_000_000_000
HOUR_MS = 60 * MINUTE_MS
AGAIN_MS = NOON_MS + 20 * HOUR_MS
"""When all may play again, where one is blocked."""


def decision(remaining_ms: int | None, *, is_exempt: bool = False, day_ends_in_ms: int = 12 * HOUR_MS) -> Decision:
    """A child's decision at noon; None is unlimited."""
    return decide(
        at_ms=NOON_MS,
        used_ms=0,
        allowance_ms=UNLIMITED if remaining_ms is None else remaining_ms,
        is_exempt=is_exempt,
        day_ends_ms=NOON_MS + day_ends_in_ms,
        next_allowance_ms=2 * HOUR_MS,
        warning_minutes=(15, 5),
        interval_ms=30_000,
        longest_lease_ms=300_000,
    )


def strictest(own: Decision, others: Sequence[Decision]) -> Decision:
    return strictest_until(own, others, together_ms=lambda: AGAIN_MS)


def decisions() -> st.SearchStrategy[Decision]:
    return st.builds(
        decision,
        st.none() | st.just(0) | st.integers(0, 40 * MINUTE_MS),
        is_exempt=st.booleans(),
        day_ends_in_ms=st.integers(1, 20 * HOUR_MS),
    )


GROUPS = st.lists(decisions(), min_size=1, max_size=5)


def test_a_child_alone_keeps_its_decision() -> None:
    own = decision(20 * MINUTE_MS)
    assert strictest(own, ()) is own


def test_one_child_at_its_limit_blocks_all_and_the_other_keeps_its_remaining_time() -> None:
    joined = strictest(decision(HOUR_MS), [decision(0), decision(None)])
    assert (joined.enforcement, joined.stop_at_ms, joined.lease_ms) == ("blocked", NOON_MS, 0)
    assert joined.remaining_ms == HOUR_MS


@pytest.mark.parametrize(
    ("minutes", "enforcement"), [((60, 10), "warning_15"), ((10, 4), "warning_5"), ((60, 30), "allowed")]
)
def test_the_latest_warning_is_given(minutes: tuple[int, int], enforcement: str) -> None:
    own, other = (decision(each * MINUTE_MS) for each in minutes)
    assert strictest(own, [other]).enforcement == strictest(other, [own]).enforcement == enforcement


def test_an_exempt_child_does_not_stop_the_others() -> None:
    joined = strictest(decision(HOUR_MS), [decision(0, is_exempt=True)])
    assert (joined.enforcement, joined.stop_at_ms) == ("allowed", NOON_MS + HOUR_MS)


@given(GROUPS)
def test_nobody_plays_past_the_instant_of_any_child(group: list[Decision]) -> None:
    joined = strictest(group[0], group[1:])
    assert joined.may_play == all(each.may_play for each in group)
    for each in group:
        assert joined.lease_ms <= each.lease_ms
        assert joined.next_beat_ms <= each.next_beat_ms
        assert each.stop_at_ms is None or (joined.stop_at_ms is not None and joined.stop_at_ms <= each.stop_at_ms)
    assert joined.remaining_ms == group[0].remaining_ms


@given(GROUPS, st.randoms(use_true_random=False))
def test_the_order_of_the_co_viewers_changes_nothing(group: list[Decision], random: Any) -> None:
    own, *others = group
    shuffled = list(others)
    random.shuffle(shuffled)
    assert strictest(own, others) == strictest(own, shuffled)


@given(GROUPS)
def test_a_blocked_group_waits_until_all_may_play(group: list[Decision]) -> None:
    assert strictest(group[0], group[1:]).available_again_ms == (
        AGAIN_MS if len(group) > 1 and any(not each.may_play for each in group) else group[0].available_again_ms
    )


@given(GROUPS)
def test_the_one_that_decides_is_the_first_whose_time_ends(group: list[Decision]) -> None:
    place, joined = deciding(group), strictest(group[0], group[1:])
    if place is None:
        assert joined.stop_at_ms is None
    else:
        assert (group[place].stop_at_ms, group[place].reason) == (joined.stop_at_ms, joined.reason)
        assert all(each.stop_at_ms != joined.stop_at_ms for each in group[:place])


RANGES = st.lists(st.integers(0, 40), max_size=8, unique=True).map(
    lambda cuts: tuple(zip(sorted(cuts)[::2], sorted(cuts)[1::2], strict=False))
)


@given(st.lists(RANGES, min_size=1, max_size=4))
def test_the_first_shared_instant_lies_in_a_range_of_each(groups: Any) -> None:
    shared = set.intersection(*({at for starts, ends in ranges for at in range(starts, ends)} for ranges in groups))
    assert first_shared_ms(groups) == min(shared, default=None)


@given(RANGES, st.lists(RANGES, max_size=3))
def test_each_instant_with_others_counts_once(own: Any, others: list[Any]) -> None:
    part = PartKey("session", date(2026, 3, 2))
    overlaps = [
        Overlap(profile_id="ann", part=part, counted=own, other=CoViewed(str(place), "x"), others_counted=ranges)
        for place, ranges in enumerate(others)
    ]

    def instants(ranges: Any) -> set[int]:
        return {at for starts, ends in ranges for at in range(starts, ends)}

    shared = {str(place): instants(own) & instants(ranges) for place, ranges in enumerate(others)}
    found = together_of(overlaps).get(part)
    if not any(shared.values()):
        assert found is None
    else:
        assert found is not None
        assert found.together_ms == len(set().union(*shared.values()))
        assert {each.profile_id for each in found.co_viewers} == {place for place, both in shared.items() if both}
