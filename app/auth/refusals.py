"""The reasons for which tokens are refused, in logs and metrics. No content of a token is ever logged."""

from collections import Counter

import structlog

from app.clock import Clock, monotonic_ms
from app.errors import Unauthenticated
from app.observability import metrics

_QUIET_MS = 10_000

log = structlog.get_logger(__name__)


class RefusedToken(Unauthenticated):
    """An invalid token. All refusals look the same to the client."""


class RefusalLog:
    """Logs each reason immediately, then at most once in ten seconds with the number of refusals since."""

    def __init__(self, clock: Clock = monotonic_ms) -> None:
        self._clock = clock
        self._unsaid: Counter[str] = Counter()
        self._said_ms: dict[str, int] = {}

    def add(self, reason: str) -> None:
        metrics.REFUSED_TOKENS.labels(reason).inc()
        self._unsaid[reason] += 1
        now_ms = self._clock()
        if now_ms - self._said_ms.get(reason, now_ms - _QUIET_MS) >= _QUIET_MS:
            self._said_ms[reason] = now_ms
            log.warning("token_refused", reason=reason, count=self._unsaid.pop(reason))


_REFUSALS = RefusalLog()


def refused(reason: str) -> RefusedToken:
    """A refusal, counted and logged.

    Args:
        reason: a constant of this code, never text from a token.
    """
    _REFUSALS.add(reason)
    return RefusedToken()
