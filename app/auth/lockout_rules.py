"""How many wrong answers lock, for how long, and what a comparison under way counts for: pure functions."""

from collections.abc import Mapping, Sequence
from typing import Self

import msgspec

_MINUTE_MS = 60_000
RESERVATION_MS = 45_000
"""Longer than a comparison and the writing down of its answer; then the process that compared has died."""


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """``most`` wrong tries within ``window_ms`` lock for ``lock_ms`` after the last of them."""

    kind: str
    most: int
    window_ms: int
    lock_ms: int

    def locked_until_ms(self, tried_ms: Sequence[int], *, at_ms: int) -> int | None:
        """When the lock ends that these tries mean at an instant, if they mean one.

        Tries that lie ahead mean that the clock fell: they count as made now.
        """
        if len(tried_ms) < self.most or at_ms >= tried_ms[-1] + self.lock_ms:
            return None
        return min(tried_ms[-1], at_ms) + self.lock_ms


PIN = Rule(kind="pin", most=5, window_ms=30 * _MINUTE_MS, lock_ms=30 * _MINUTE_MS)
PASSWORD = Rule(kind="password", most=10, window_ms=15 * _MINUTE_MS, lock_ms=15 * _MINUTE_MS)


class Reservation(msgspec.Struct, frozen=True, kw_only=True):
    """The right to one comparison, and the instant (ms) at which it was given."""

    id: str
    at_ms: int


class Admission(msgspec.Struct, frozen=True, kw_only=True):
    """Whether a comparison may be made: reserved, unless locked until an instant (ms) or too many are under way."""

    locked_until_ms: int | None = None
    is_busy: bool = False

    @property
    def is_reserved(self) -> bool:
        return self.locked_until_ms is None and not self.is_busy


class TryState(msgspec.Struct, frozen=True, kw_only=True):
    """The tries of one account: instants (ms) of the wrong ones, ascending, and reservations by their id."""

    tried_ms: tuple[int, ...] = ()
    reserved_ms: Mapping[str, int] = {}

    def reserve(self, reservation: Reservation, rule: Rule) -> tuple[Self, Admission]:
        """The state with one more comparison under way, if it may be made."""
        at_ms = reservation.at_ms
        made_ms = tuple(min(ms, at_ms) for ms in self.tried_ms)  # those ahead: the clock fell, they count as made now
        until_ms = rule.locked_until_ms(made_ms, at_ms=at_ms)
        if until_ms is not None:
            locked = type(self)(tried_ms=made_ms, reserved_ms=self.reserved_ms)
            return locked, Admission(locked_until_ms=until_ms)
        is_over = len(made_ms) >= rule.most  # a lock that has ended
        tried_ms = () if is_over else tuple(ms for ms in made_ms if ms + rule.window_ms > at_ms)
        under_way = {key: ms for key, ms in self.reserved_ms.items() if abs(at_ms - ms) < RESERVATION_MS}
        if len(tried_ms) + len(under_way) >= rule.most:
            return type(self)(tried_ms=tried_ms, reserved_ms=under_way), Admission(is_busy=True)
        reserved_ms = {**under_way, reservation.id: at_ms}
        return type(self)(tried_ms=tried_ms, reserved_ms=reserved_ms), Admission()

    def conclude(self, reservation: Reservation, rule: Rule, *, is_right: bool | None) -> Self:
        """The state after the answer; None when there was none."""
        reserved_ms = {key: ms for key, ms in self.reserved_ms.items() if key != reservation.id}
        if is_right is None:
            return type(self)(tried_ms=self.tried_ms, reserved_ms=reserved_ms)
        if is_right:
            return type(self)(reserved_ms=reserved_ms)
        before = (ms for ms in self.tried_ms if ms + rule.window_ms > reservation.at_ms)
        return type(self)(tried_ms=tuple(sorted((*before, reservation.at_ms))), reserved_ms=reserved_ms)
