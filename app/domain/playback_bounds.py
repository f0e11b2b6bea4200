"""What a player knows to be true about its own watching, as bounds.

A player knows neither the instant at which its first beat was counted nor that of its last: each lies between sending
the request and reading the answer. So a session has a shortest and a longest length, and what was counted must lie in
between. Nothing beyond that needs a tolerance.
"""

from collections.abc import Iterable

import msgspec


class PlaybackBounds(msgspec.Struct, frozen=True):
    """One session by its player's account; instants in ms since 1970.

    Attributes:
        opened_after_ms: when its first opening beat was sent, answered or not: what was counted is settled by the next.
        opened_before_ms: when its answer was read.
        ended_after_ms: when what ended it was first sent.
        ended_before_ms: when the answer to that was read.
    """

    profile_id: str
    opened_after_ms: int
    opened_before_ms: int
    ended_after_ms: int
    ended_before_ms: int

    def bounds_ms(self, starts_ms: int, ends_ms: int) -> tuple[int, int]:
        """The least and the most that may count between two instants."""
        least_ms = min(ends_ms, self.ended_after_ms) - max(starts_ms, self.opened_before_ms)
        most_ms = min(ends_ms, self.ended_before_ms) - max(starts_ms, self.opened_after_ms)
        return max(0, least_ms), max(0, most_ms)


def bounds_ms(sessions: Iterable[PlaybackBounds], starts_ms: int, ends_ms: int) -> tuple[int, int]:
    """The least and the most that all of them may count for between two instants."""
    least_ms = most_ms = 0
    for session in sessions:
        least, most = session.bounds_ms(starts_ms, ends_ms)
        least_ms, most_ms = least_ms + least, most_ms + most
    return least_ms, most_ms
