"""Calls of gateway batches follow each other without a pause."""

import asyncio
from random import Random
from types import SimpleNamespace
from typing import Any

from app.domain.ids import SessionIds
from app.viewing.beat_recorder import BeatRecorder


async def test_the_next_call_leaves_before_the_outcomes_of_the_last_one_are_used() -> None:
    happened: list[str] = []

    async def record(beats: Any) -> Any:
        happened.append(f"call {beats}")
        await asyncio.sleep(0.01)
        return [beats]

    async def nothing(asked: Any) -> Any:
        return asked

    recorder = BeatRecorder(
        counters=SimpleNamespace(record=record, read=nothing, seed=nothing),
        usage=SimpleNamespace(recover=nothing),
        policies=SimpleNamespace(),  # type: ignore[arg-type]
        session_ids=SessionIds(b"0" * 32),
        randomness=Random(1),  # noqa: S311  no secret
        max_batch=2,
        max_calls_in_flight=1,
    )

    async def chunk(name: Any) -> None:
        happened.append(f"use {await recorder.record_batch(name)}")

    await asyncio.gather(chunk("first"), chunk("second"))
    assert happened == ["call first", "call second", "use ['first']", "use ['second']"]
