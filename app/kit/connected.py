"""Groups of items that share keys."""

from collections.abc import Hashable, Iterable, Sequence


def connected(keys_of: Sequence[Iterable[Hashable]]) -> list[list[int]]:
    """Group items that share a key, directly or through other items.

    Args:
        keys_of: the keys of each item.

    Returns:
        The positions of the items of each group, ascending. Groups come in the order of their first items.
    """
    parents = list(range(len(keys_of)))

    def root_of(place: int) -> int:
        while parents[place] != place:
            parents[place] = parents[parents[place]]
            place = parents[place]
        return place

    first_with: dict[Hashable, int] = {}
    for place, keys in enumerate(keys_of):
        for key in keys:
            one, other = root_of(first_with.setdefault(key, place)), root_of(place)
            parents[max(one, other)] = min(one, other)
    groups: dict[int, list[int]] = {}
    for place in range(len(keys_of)):
        groups.setdefault(root_of(place), []).append(place)
    return list(groups.values())
