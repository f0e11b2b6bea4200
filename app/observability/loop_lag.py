"""Whether the event loop keeps time: what blocks it delays every player at once."""

import asyncio

import structlog

from app.observability import metrics

log = structlog.get_logger(__name__)
_BLOCKED_SECONDS = 1.0


async def watch_loop(*, every_seconds: float = 0.1) -> None:
    """Measure, for ever, by how much a sleep ends late."""
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + every_seconds
        await asyncio.sleep(every_seconds)
        late_seconds = max(0.0, loop.time() - due)
        metrics.LOOP_LAG.observe(late_seconds)
        if late_seconds >= _BLOCKED_SECONDS:
            log.warning("event_loop_blocked", seconds=round(late_seconds, 2))
