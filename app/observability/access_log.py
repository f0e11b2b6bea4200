"""Lines about requests: a share of all, and each refusal that an operator may be asked about.

A line has the template of the route, never the path; the code of the problem, never what was sent; and the account, so
that the complaint of one family can be followed.
"""

import random
import time
from collections.abc import Callable

import structlog

from app.observability.context import RequestContext

LOGGED_REFUSALS = frozenset({401, 403, 409, 423})
REFUSALS_A_SECOND = 50
"""Beyond that they are counted, and the count is logged: a flood must not fill the disk."""

log = structlog.get_logger(__name__)


class AccessLog:
    """The lines of one process.

    Args:
        share: of requests, from 0 to 1.
        beat_share: of heartbeats and ends of sessions.
        refusals_a_second: most refusals that get a line of their own in a second.
        seconds: a monotonic clock.
        chance: a number from 0 to 1, another each time.
    """

    def __init__(
        self,
        *,
        share: float,
        beat_share: float,
        refusals_a_second: int = REFUSALS_A_SECOND,
        seconds: Callable[[], float] = time.monotonic,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._share = share
        self.beat_share = beat_share
        self._most = refusals_a_second
        self._seconds = seconds
        self._chance = chance
        self._second = 0
        self._refusals = 0

    def chooses(self) -> bool:
        """Whether a request that is no heartbeat gets a line."""
        return self._share > 0 and self._chance() < self._share

    def chooses_beat(self) -> bool:
        """Likewise for a heartbeat."""
        return self.beat_share > 0 and self._chance() < self.beat_share

    def answered(
        self, context: RequestContext, *, method: str, route: str, status: int, seconds: float, is_chosen: bool
    ) -> None:
        """Write the line of a request, if it gets one."""
        is_refusal = status in LOGGED_REFUSALS
        if is_refusal and not is_chosen:
            is_chosen = self._may_log_refusal()
        if not is_chosen:
            return
        facts: dict[str, object] = {
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
            "account_id": context.account_id,
            **context.members(),
        }
        if is_refusal:
            log.warning("request_refused", code=context.code, **facts)
        else:
            log.info("request_answered", code=context.code, **facts)

    def _may_log_refusal(self) -> bool:
        second = int(self._seconds())
        if second != self._second:
            if self._refusals > self._most:
                log.warning("refusals_not_logged", count=self._refusals - self._most)
            self._second, self._refusals = second, 0
        self._refusals += 1
        return self._refusals <= self._most
