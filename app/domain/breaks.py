"""The break: after so much playback without a pause of a given length, a pause of that length is due.

Playback is what a session plays, whatever it counts as: used, educational or beyond the allowance. A pause is time in
which nothing plays: a paused session, none at all, a pause by a parent. The grace of a paused session counts as used,
but it is a pause here. Playback of offline syncs is not known in time and is left out.

The counters keep ``unbroken_ms``, what was played since the last such pause, and ``played_until_ms``, when it was last
played. A pause that is long enough begins at ``played_until_ms``; ``unbroken_ms`` is then what is played after it.
"""

import msgspec


class BreakTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """The rule of a break, as it is sent with a beat, in ms.

    The order of the fields is what the scripts read.
    """

    after_ms: int
    length_ms: int
