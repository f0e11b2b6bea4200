"""The parts of a run, one module each. To add one, write a module with a ``PART`` and add a line here."""

from app.lab.bench.parts import (
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
"""In run order. Parts that use the running service are adjacent. The first of them shows every viewer to each
process.
"""
