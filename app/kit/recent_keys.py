"""A bounded memory of keys that were seen. It may forget a key, and does not confuse two."""

from array import array
from collections.abc import Hashable


class RecentKeys:
    """Remembers the hash of a key in one of ``2 ** bits`` slots of 8 bytes; a later key may take the slot.

    Two keys with the same 64-bit hash would be taken for one. With a million keys the chance of that is below 1e-7.
    """

    def __init__(self, bits: int) -> None:
        self._mask = (1 << bits) - 1
        self._slots = array("q", bytes(8 << bits))

    def __contains__(self, key: Hashable) -> bool:
        value = hash(key)
        return self._slots[value & self._mask] == (value or 1)

    def add(self, key: Hashable) -> None:
        value = hash(key)
        self._slots[value & self._mask] = value or 1

    def discard(self, key: Hashable) -> None:
        if key in self:
            self._slots[hash(key) & self._mask] = 0
