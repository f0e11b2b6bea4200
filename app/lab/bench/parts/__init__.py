"""The parts of a run, one module each. To add one, write a module with a ``PART`` and add a line here."""

from collections.abc import Collection

from app.lab.bench.parts import (
    asgi,
    batch,
    cluster,
    cold_start,
    direct,
    echo,
    flat,
    flush,
    flush_interference,
    go_service,
    heartbeat,
    invalidation,
    lone_beat,
    memory,
    one_script,
    pin_storm,
    reports,
    rounds,
)
from app.lab.bench.parts.part import BenchPart

PARTS = (
    cold_start.PART,
    memory.PART,
    heartbeat.PART,
    batch.PART,
    lone_beat.PART,
    invalidation.PART,
    flush_interference.PART,
    pin_storm.PART,
    flush.PART,
    reports.PART,
    flat.PART,
    one_script.PART,
    go_service.PART,
    asgi.PART,
    echo.PART,
    direct.PART,
    rounds.PART,
    cluster.PART,
)
"""In run order. Parts that use the running service are adjacent. The first of them shows every viewer to each
process.
"""
ON_REQUEST = {rounds.PART.name, cluster.PART.name}
"""Parts of a run only if they are named: they take long, and repeat what others measure once."""
COMPARED = {part.name for part in rounds.COMPARED}


def chosen_parts(only: Collection[str], *, repeats: bool) -> list[BenchPart]:
    """The parts of a run, in run order.

    Args:
        only: names; empty means all but those on request.
        repeats: whether parts that can be compared also take turns in rounds.
    """
    names = set(only) or {part.name for part in PARTS} - ON_REQUEST
    if repeats and names & COMPARED:
        names |= {rounds.PART.name}
    return [part for part in PARTS if part.name in names]
