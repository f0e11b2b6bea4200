"""Retention: remove rows whose retention is over, on the worker's schedule."""

import time
from collections.abc import Callable

import structlog

from app.domain.retention import RetentionPolicy
from app.observability import metrics
from app.privacy.ports import AgedRows

_BATCH = 5000
_MAX_BATCHES = 200

log = structlog.get_logger(__name__)


async def retain(rows: AgedRows, *, retention_policy: RetentionPolicy, at_ms: int) -> None:
    """Remove rows whose retention is over, and measure the age of the remaining ones.

    Each batch and each partition is a separate step. The next run continues an interrupted one.

    Raises:
        DatabaseUnavailable: some rows are not removed yet.
    """
    try:
        for kind, life_ms in retention_policy.lives_ms.items():
            await _delete(rows, kind, before_ms=at_ms - life_ms)
        for kind, oldest in (
            ("sessions", retention_policy.sessions_from(at_ms)),
            ("balances", retention_policy.balances_from(at_ms)),
        ):
            for name in await rows.drop_partitions(kind, before=oldest):
                log.info("partition_dropped", name=name)
    finally:
        for kind, oldest_ms in (await rows.oldest()).items():
            age_seconds = None if oldest_ms is None else max(0, at_ms - oldest_ms) / 1000
            metrics.OLDEST_ROW.labels(kind).set_function(_growing(age_seconds))


def _growing(age_seconds: float | None) -> Callable[[], float]:
    """An age that grows with time until the next measurement, even if the measuring job stops."""
    if age_seconds is None:
        return lambda: 0.0
    measured = time.monotonic()
    return lambda: age_seconds + time.monotonic() - measured


async def _delete(rows: AgedRows, kind: str, *, before_ms: int) -> None:
    for _ in range(_MAX_BATCHES):
        if await rows.delete(kind, before_ms=before_ms, most=_BATCH) < _BATCH:
            return
