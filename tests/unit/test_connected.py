"""Groups of items that share keys."""

from hypothesis import given
from hypothesis import strategies as st

from app.kit.connected import connected

KEYS = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=4), max_size=20)


def test_items_that_share_nothing_stay_alone() -> None:
    assert connected([["a"], ["b"], ["c"]]) == [[0], [1], [2]]


def test_a_chain_of_shared_keys_is_one_group() -> None:
    assert connected([["a", "b"], ["x"], ["c"], ["b", "c"]]) == [[0, 2, 3], [1]]


@given(KEYS)
def test_groups_hold_each_item_once_in_order_and_share_no_key(keys_of: list[list[int]]) -> None:
    groups = connected(keys_of)
    assert sorted(place for group in groups for place in group) == list(range(len(keys_of)))
    assert all(group == sorted(group) for group in groups)
    held = [{key for place in group for key in keys_of[place]} for group in groups]
    assert sum(map(len, held)) == len(set().union(*held))


@given(KEYS)
def test_no_group_can_be_parted(keys_of: list[list[int]]) -> None:
    for group in connected(keys_of):
        reached, waiting = {group[0]}, [group[0]]
        while waiting:
            keys = set(keys_of[waiting.pop()])
            near = [place for place in group if place not in reached and keys & set(keys_of[place])]
            reached.update(near)
            waiting += near
        assert reached == set(group)
