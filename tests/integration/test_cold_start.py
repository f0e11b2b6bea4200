"""All viewers return to a service with empty caches and an empty Redis."""

import asyncio
from collections import Counter

from app.observability import metrics
from app.redis_store.client import create_client
from tests.integration.scene import Scene
from tests.scenes.api import running
from tests.statements import statements_of

CHILDREN = 20


def beats_handed_over() -> float:
    [family] = metrics.BEATS.collect()
    return next(sample.value for sample in family.samples if sample.name.endswith("_total"))


async def test_counters_are_put_back_for_many_at_once_before_their_beats(scene: Scene) -> None:
    children = [await scene.child() for _ in range(CHILDREN)]
    for child in children:
        await child.beats(2, every_ms=1000)
    await scene.flush()
    redis = create_client(scene.valkey.url, timeout_seconds=5, connections=1)
    await redis.flushall()
    await redis.aclose()
    async with running(scene.settings) as fresh:
        scene.at_ms += 30_000
        fresh.services.counters.at_ms = scene.at_ms
        before = beats_handed_over()
        with statements_of(fresh.services.engine) as sent:
            answers = await asyncio.gather(
                *(child.home.beat(child.id, child.title, on=fresh, session_id=child.session_id) for child in children)
            )
        for child, answer in zip(children, answers, strict=True):
            assert answer.json()["used_seconds"] == (child.watched_ms + scene.at_ms - child.last_ms) / 1000
        assert beats_handed_over() - before == CHILDREN, "each was counted when it was first handed over"
        asked = Counter(statement for statement in sent if "SELECT" in statement)
        assert max(asked.values()) < CHILDREN / 2, asked
