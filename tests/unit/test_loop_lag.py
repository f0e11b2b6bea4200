"""The metrics show a blocked event loop."""

import asyncio
import time

from prometheus_client import REGISTRY

from app.observability.loop_lag import watch_loop

BLOCKED_SECONDS = 0.3


def observed(**labels: str) -> float:
    name = "hourglass_event_loop_lag_seconds" + ("_bucket" if labels else "_count")
    return REGISTRY.get_sample_value(name, labels) or 0.0


async def test_a_blocked_loop_is_measured() -> None:
    late_before = observed() - observed(le="0.25")
    watching = asyncio.create_task(watch_loop(every_seconds=0.01))
    await asyncio.sleep(0)
    time.sleep(BLOCKED_SECONDS)  # noqa: ASYNC251  blocking it is the point
    await asyncio.sleep(0.02)
    watching.cancel()
    assert observed() - observed(le="0.25") > late_before
