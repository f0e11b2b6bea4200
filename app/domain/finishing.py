"""Finishing a title: one that ends soon after the limit may be finished, and the next day has so much less.

At a beat with time left, the finish of a title is promised if it ends after the limit, within ``finish_title_minutes``:
``finish_until_ms`` is the instant of its end by the server's clock. It never lies in time that windows or parents
close, and never after the reset. Each beat before the limit renews the promise or takes it back. Once playback
beyond the limit has begun, the instant stays, and no other title is finished on that day.

What is played beyond the allowance until then is used, and is also ``borrowed_ms``. When the next day begins, that is
its ``owed_ms``: its allowance is so much less, but never below zero. A day after the next one owes nothing.
"""

import msgspec


class FinishTerms(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What a beat of a child that may finish titles carries, in ms.

    Attributes:
        longest_ms: how long after the limit a title may end.
        title_left_ms: how much of the title is left, as its player tells.

    The order of the fields is what the scripts read.
    """

    longest_ms: int
    title_left_ms: int
