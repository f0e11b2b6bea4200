"""Redis comes back with older data: after each player's next heartbeat nothing is lost or doubled."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable

import pytest

from tests.integration.scene import KEYS, Scene


async def _is_emptied(scene: Scene) -> None:
    await scene.apis[0].services.redis.flushall()


async def _is_killed(scene: Scene) -> None:
    scene.valkey.kill9()
    (scene.valkey.home / "dump.rdb").unlink(missing_ok=True)
    scene.valkey.start()


async def _comes_back_old(scene: Scene) -> None:
    scene.valkey.kill9()
    shutil.copy(scene.valkey.home / "copy.rdb", scene.valkey.home / "dump.rdb")
    scene.valkey.start()


LOSSES = [_is_emptied, _is_killed, _comes_back_old]


@pytest.mark.parametrize("lose", LOSSES)
async def test_the_next_beat_repairs_what_was_lost(scene: Scene, lose: Callable[[Scene], Awaitable[None]]) -> None:
    child = await scene.child()
    await child.beats(2)
    await scene.snapshot()
    await child.beats(12)
    await scene.flush()
    await scene.marks_are_known()
    await child.beats(2)  # these only Redis knows
    await lose(scene)
    await child.beats(4)
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms
    assert await scene.generation(child.id) == 1, "raised once, by whoever noticed first"


async def test_the_worker_notices_for_those_who_do_not_beat(scene: Scene) -> None:
    child, other = await scene.child(), await scene.child()
    await child.beats(2)
    await other.beats(2)
    await scene.snapshot()
    await child.beats(12)
    await scene.flush()
    await _comes_back_old(scene)
    await scene.flush()
    assert await scene.generation(child.id) == 1
    balance = await scene.apis[1].http.get(f"/viewing-time/balance/{child.id}", headers=child.home.as_player)
    assert balance.json()["used_seconds"] == child.watched_ms / 1000
    assert await child.flushed_ms() == child.watched_ms
    assert await other.flushed_ms() == other.watched_ms


async def test_each_regression_raises_the_generation_once(scene: Scene) -> None:
    child = await scene.child()
    await child.beats(2)
    await scene.snapshot()
    for expected in (1, 2, 3):
        await child.beats(4)
        await scene.flush()
        await scene.marks_are_known()
        await _comes_back_old(scene)
        others = [await scene.child() for _ in range(4)]
        await asyncio.gather(child.beats(1), *(other._beat(scene.apis[1]) for other in others))
        assert await scene.generation(child.id) == expected
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms


async def test_a_restart_that_loses_nothing_raises_nothing(scene: Scene) -> None:
    child = await scene.child()
    await child.beats(4)
    await scene.flush()
    await scene.marks_are_known()
    await child.beats(2)
    await scene.snapshot()
    await _comes_back_old(scene)
    await child.beats(2)
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms
    assert await scene.generation(child.id) == 0


async def test_rows_written_by_a_flush_that_was_overtaken_are_noticed(scene: Scene) -> None:
    """Read before the loss, committed after it: PostgreSQL then knows more than Redis once more."""
    child = await scene.child()
    await child.beats(2)
    await scene.snapshot()
    await child.beats(12)
    flusher, bucket = scene.worker.flusher, KEYS.bucket(child.id)
    await flusher._rollback_guard.check()
    peeked = (await flusher._counters.peek([bucket], older_than_ms=0, limit=10))[bucket]
    marks = await flusher._rollback_guard.advance([bucket])
    await _comes_back_old(scene)
    await flusher._usage_store.upsert([(entry.profile_id, entry.counters) for entry in peeked], marks)
    await scene.flush()
    assert await scene.generation(child.id) == 1
    await child.beats(2)
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms
