"""Finishing a title: one that ends soon after the limit may be finished, and the next day has so much less.

At a beat with time left, the finish of a title is promised if it ends after the limit, within ``finish_title_minutes``:
``finish_until_ms`` is the instant of its end by the server's clock. It never lies in time that windows or parents
close, and never after the reset. Each beat before the limit renews the promise or takes it back. Once playback
beyond the limit has begun, the instant stays, and no other title is finished on that day.

What is played beyond the allowance until then is used, and is also ``borrowed_ms``. When the next day begins, that is
its ``owed_ms``: its allowance is so much less, but never below zero. A day after the next one owes nothing.
"""

from collections.abc import Sequence

import msgspec

from app.domain.limits import LimitRules
from app.domain.policy import MINUTE_MS, UNLIMITED


class FinishTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a beat of a child that may finish titles carries, in ms.

    Attributes:
        longest_ms: how long after the limit a title may end.
        title_left_ms: how much of the title is left, as its player tells.

    The order of the fields is what the scripts read.
    """

    longest_ms: int
    title_left_ms: int

    def promised_until_ms(
        self, *, left_ms: int, at_ms: int, day_ends_ms: int, closed: Sequence[tuple[int, int]] | None
    ) -> int:
        """Until when a title may be finished that plays at an instant with so much of the allowance left; 0 for none.

        Args:
            left_ms: what is left of the allowance, more than nothing.
            at_ms: the instant.
            day_ends_ms: when the running day ends.
            closed: time ranges in which no player may go on, ascending and disjoint.
        """
        if not left_ms < self.title_left_ms <= left_ms + self.longest_ms:
            return 0
        title_ends_ms = min(at_ms + self.title_left_ms, day_ends_ms)
        until_ms = open_until_ms(closed or (), at_ms=at_ms, until_ms=title_ends_ms)
        return until_ms if until_ms > at_ms + left_ms else 0


def open_until_ms(closed: Sequence[tuple[int, int]], *, at_ms: int, until_ms: int) -> int:
    """An instant after another one, or the earlier one at which playback closes between them, or is closed.

    Args:
        closed: time ranges in which no player may go on, ascending and disjoint.
        at_ms: the earlier instant.
        until_ms: the later one.
    """
    for from_ms, to_ms in closed:
        if at_ms < to_ms:
            return min(until_ms, max(at_ms, from_ms))
    return until_ms


def finish_of(rules: LimitRules | None, title_left_ms: int) -> FinishTerms | None:
    """What settings say of a title of which so much is left; None if titles are not finished."""
    if rules is None or rules.finish_title_minutes is None:
        return None
    return FinishTerms(rules.finish_title_minutes * MINUTE_MS, title_left_ms)


def less_owed(allowance_ms: int, owed_ms: int) -> int:
    """The allowance of a day that owes so much to the day before."""
    return allowance_ms if allowance_ms == UNLIMITED else max(0, allowance_ms - owed_ms)


def borrowed_after_ms(borrowed_ms: int, *, left_ms: int, finish_until_ms: int, at_ms: int) -> int:
    """What a day will have borrowed if playback goes on until the end of the promise.

    Args:
        borrowed_ms: what it has borrowed by now.
        left_ms: what is left of the allowance.
        finish_until_ms: until when the title may be finished.
        at_ms: now.
    """
    return borrowed_ms + max(0, finish_until_ms - at_ms - left_ms)
