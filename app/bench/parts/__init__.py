"""The parts of a run, one module each. Another one is added by a module with a ``PART`` and a line here."""

from app.bench.parts import (
    batch,
    ceiling,
    cold_start,
    direct,
    flat,
    flush,
    flush_interference,
    heartbeat,
    invalidation,
    lone_beat,
    memory,
    one_script,
    pin_storm,
    reports,
)

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
    ceiling.PART,
    direct.PART,
)
"""In the order in which they run: those that use the running service stand together, first the one that lets each
of its processes meet every viewer."""
