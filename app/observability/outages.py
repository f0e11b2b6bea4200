"""What is away is said at once, then now and then, and its return once."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, NamedTuple

import structlog

log = structlog.get_logger(__name__)
REPEAT_SECONDS = 10.0


class _Events(NamedTuple):
    """The names of log events: at once, then now and then, and at the end."""

    away: str
    lasts: str
    back: str


_EVENTS = {
    "server": _Events("server_away", "server_still_away", "server_back"),
    "job": _Events("job_postponed", "job_still_postponed", "job_resumed"),
}


@dataclass
class _Outage:
    """One thing that is away: since when, and when that was last said (monotonic seconds)."""

    began: float
    said: float


class Outages:
    """What this process misses at the moment, by name.

    Args:
        of: what kind of thing can be away: a server, or a job that cannot be done.
        repeat_seconds: an outage that lasts is said again after so long.
        seconds: reads a monotonic clock.
    """

    def __init__(
        self,
        *,
        of: Literal["server", "job"] = "server",
        repeat_seconds: float = REPEAT_SECONDS,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._of = of
        self._events = _EVENTS[of]
        self._repeat_seconds = repeat_seconds
        self._seconds = seconds
        self._outages: dict[str, _Outage] = {}

    def is_away(self, name: str) -> bool:
        return name in self._outages

    def away(self, name: str, reason: str) -> None:
        """Note that something cannot be reached, and say so if that is due.

        Args:
            name: what is away, e.g. PostgreSQL.
            reason: why, for the operator; nothing personal.
        """
        now = self._seconds()
        known = self._outages.get(name)
        if known is None:
            self._outages[name] = _Outage(began=now, said=now)
            log.warning(self._events.away, **{self._of: name}, reason=reason)
        elif now - known.said >= self._repeat_seconds:
            known.said = now
            away_seconds = round(now - known.began, 1)
            log.warning(self._events.lasts, **{self._of: name}, reason=reason, away_seconds=away_seconds)

    def back(self, name: str) -> None:
        """Note that something answers, and say so if it was away."""
        known = self._outages.pop(name, None)
        if known is not None:
            away_seconds = round(self._seconds() - known.began, 1)
            log.info(self._events.back, **{self._of: name}, away_seconds=away_seconds)
