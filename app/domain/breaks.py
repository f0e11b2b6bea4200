"""The break: after so much playback without a pause of a given length, a pause of that length is due.

Playback is what a session plays, whatever it counts as: used, educational or beyond the allowance. A pause is time in
which nothing plays: a paused session, none at all, a pause by a parent. The grace of a paused session counts as used,
but it is a pause here. Playback of offline syncs is not known in time and is left out.

The counters keep ``unbroken_ms``, what was played since the last such pause, and ``played_until_ms``, when it was last
played. A pause that is long enough begins at ``played_until_ms``; ``unbroken_ms`` is then what is played after it.
"""

from functools import lru_cache

import msgspec

from app.domain.limits import LimitRules
from app.domain.policy import MINUTE_MS

BREAK = "break"


class NextBreak(msgspec.Struct, frozen=True, gc=False):
    """The break of a child, seen at an instant.

    Attributes:
        left_ms: what may be played until it is due; 0 while it is.
        ends_ms: when it ends if nothing plays until then.
    """

    left_ms: int
    ends_ms: int


class BreakTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The rule of a break, as it is sent with a beat, in ms.

    The order of the fields is what the scripts read.
    """

    after_ms: int
    length_ms: int

    def played(self, unbroken_ms: int, played_until_ms: int, *, from_ms: int, until_ms: int) -> tuple[int, int]:
        """The unbroken time, and when it was last played, after playback of a time range."""
        if from_ms - played_until_ms >= self.length_ms:
            unbroken_ms = 0
        return unbroken_ms + until_ms - from_ms, until_ms

    def next_break(self, unbroken_ms: int, played_until_ms: int, *, at_ms: int) -> NextBreak:
        """The break of a child that has played so much without one, seen at an instant.

        No pause begins in the future: a clock may have been set back since.
        """
        ends_ms = min(played_until_ms, at_ms) + self.length_ms
        left_ms = self.after_ms if ends_ms <= at_ms else max(0, self.after_ms - unbroken_ms)
        return NextBreak(left_ms, ends_ms)


def breaks_of(rules: LimitRules | None) -> BreakTerms | None:
    """The break that settings ask for; None for settings without one."""
    if rules is None or rules.break_after_minutes is None or rules.break_minutes is None:
        return None
    return _break_terms(rules.break_after_minutes, rules.break_minutes)


@lru_cache(maxsize=4096)
def _break_terms(after_minutes: int, length_minutes: int) -> BreakTerms:
    """Children with equal breaks share the object."""
    return BreakTerms(after_minutes * MINUTE_MS, length_minutes * MINUTE_MS)
