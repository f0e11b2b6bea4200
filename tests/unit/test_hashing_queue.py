"""Fair turns of what is hashed: no account and no kind makes the others wait for more than its share."""

from collections import Counter
from contextlib import suppress
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.hashing_queue import MAX_PLACES_OF_AN_ACCOUNT, HashingKind, HashingQueue
from app.errors import TooManyRequests

Item = tuple[HashingKind, str, int]
KINDS = st.sampled_from(list(HashingKind))
ACCOUNTS = st.sampled_from(["a", "b", "c", "d"])
STEPS = st.lists(st.one_of(st.tuples(KINDS, ACCOUNTS), st.just("next"), st.just("remove")), max_size=80)


class Watched:
    """A queue, what waits in it, and what was served while it waited."""

    def __init__(self) -> None:
        self._queue: HashingQueue[Item] = HashingQueue(1000)
        self.waiting: list[Item] = []
        self._served_meanwhile: dict[tuple[HashingKind, str], list[Item]] = {}
        """For each account that waits, since its first work is the next of this account."""

    def put(self, item: Item) -> None:
        self._queue.put(item[0], item[1], item)
        self.waiting.append(item)
        self._served_meanwhile.setdefault(item[:2], [])

    def remove(self, item: Item) -> None:
        self._queue.remove(item[0], item[1], item)
        self.waiting.remove(item)
        if not self._waits(item):
            del self._served_meanwhile[item[:2]]

    def serve(self) -> None:
        item = self._queue.next()
        if item is None:
            assert not self.waiting
            return
        assert item == next(other for other in self.waiting if other[:2] == item[:2]), "in their order"
        for served in self._served_meanwhile.values():
            served.append(item)
        _check_share(item, self._served_meanwhile.pop(item[:2]))
        self.waiting.remove(item)
        if self._waits(item):
            self._served_meanwhile[item[:2]] = []

    def _waits(self, item: Item) -> bool:
        return any(other[:2] == item[:2] for other in self.waiting)


def _check_share(item: Item, served: list[Item]) -> None:
    kind, account, _ = item
    of_kinds = Counter(other for other, _, _ in served)
    of_accounts = Counter(other for served_kind, other, _ in served if served_kind is kind and other != account)
    assert all(count <= 1 for count in of_accounts.values()), "one of each other account of the kind"
    assert all(count <= of_kinds[kind] for count in of_kinds.values()), "of another kind as many as of this one"


@given(STEPS, st.randoms(use_true_random=False))
def test_nobody_waits_for_more_than_one_of_each_other_account_and_kind(
    steps: list[tuple[HashingKind, str] | str], random: Random
) -> None:
    queue = Watched()
    for number, step in enumerate(steps):
        if isinstance(step, tuple):
            queue.put((*step, number))
        elif step == "next" or not queue.waiting:
            queue.serve()
        else:
            queue.remove(random.choice(queue.waiting))
    for _ in range(len(queue.waiting) + 1):
        queue.serve()


@given(st.lists(st.tuples(KINDS, ACCOUNTS, st.booleans()), max_size=80), st.integers(1, 30))
def test_places_are_bounded_for_all_for_sign_ins_and_for_an_account(
    steps: list[tuple[HashingKind, str, bool]], places: int
) -> None:
    queue: HashingQueue[int] = HashingQueue(places)
    taken: Counter[tuple[HashingKind, str]] = Counter()
    for kind, account, gives_back in steps:
        if gives_back and taken[kind, account]:
            queue.give_back(kind, account)
            taken[kind, account] -= 1
            continue
        sign_ins = sum(count for (other, _), count in taken.items() if other is HashingKind.SIGN_IN)
        is_room = (
            taken.total() < places
            and taken[kind, account] < MAX_PLACES_OF_AN_ACCOUNT
            and (kind is not HashingKind.SIGN_IN or sign_ins < max(1, places // 2))
        )
        with suppress(TooManyRequests):
            queue.take_place(kind, account)
            taken[kind, account] += 1
            assert is_room
            continue
        assert not is_room
    for kind, account in taken.elements():
        queue.give_back(kind, account)
    for number in range(places):
        queue.take_place(HashingKind.PIN, str(number))


def test_strangers_leave_room_for_those_with_a_token() -> None:
    queue: HashingQueue[int] = HashingQueue(64)
    for number in range(32):
        queue.take_place(HashingKind.SIGN_IN, f"stranger {number}")
    with pytest.raises(TooManyRequests):
        queue.take_place(HashingKind.SIGN_IN, "one more stranger")
    for number in range(32):
        queue.take_place(HashingKind.PIN, f"parent {number}")
