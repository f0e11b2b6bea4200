"""Retention: what has been kept long enough goes, on the worker's schedule."""

import structlog

from app import metrics
from app.domain.keeping import Keeping
from app.privacy.ports import AgedRows

_BATCH = 5000
_MOST_BATCHES = 200

log = structlog.get_logger(__name__)


async def retain(rows: AgedRows, *, keeping: Keeping, at_ms: int) -> None:
    """Remove what is older than it may be, and measure what is left.

    Each batch and each partition is a step of its own; the next run goes on where this one is interrupted.

    Raises:
        DatabaseUnavailable: not everything is removed yet.
    """
    try:
        for kind, life_ms in keeping.lives_ms.items():
            await _delete(rows, kind, before_ms=at_ms - life_ms)
        for kind, oldest in (("sessions", keeping.sessions_from(at_ms)), ("balances", keeping.balances_from(at_ms))):
            for name in await rows.drop_partitions(kind, before=oldest):
                log.info("partition_dropped", name=name)
    finally:
        for kind, oldest_ms in (await rows.oldest()).items():
            metrics.OLDEST_ROW.labels(kind).set(0 if oldest_ms is None else max(0, at_ms - oldest_ms) / 1000)


async def _delete(rows: AgedRows, kind: str, *, before_ms: int) -> None:
    for _ in range(_MOST_BATCHES):
        if await rows.delete(kind, before_ms=before_ms, most=_BATCH) < _BATCH:
            return
