"""A Redis that may lose counters is refused or reported."""

from typing import Any

import msgspec
import pytest
from prometheus_client import REGISTRY

from app.redis_store.client import create_client
from app.redis_store.durability import HealthIssue, examine
from app.settings.settings import SettingsError
from app.wiring.api import open_services
from app.wiring.worker import open_worker
from tests.integration.scene import Scene


async def ready(scene: Scene) -> tuple[int, dict[str, Any]]:
    response = await scene.apis[0].http.get("http://test/health/ready")
    return response.status_code, msgspec.json.decode(response.content)


def concern_gauge(concern: HealthIssue) -> float | None:
    return REGISTRY.get_sample_value("hourglass_redis_concern", {"concern": concern.value})


@pytest.mark.parametrize("opens", [open_services, open_worker])
async def test_no_process_starts_on_a_server_that_evicts_counters(scene: Scene, opens: Any) -> None:
    redis = scene.apis[0].services.redis
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    with pytest.raises(SettingsError, match=r"REDIS_URL.*noeviction"):
        async with opens(scene.settings):
            pass


async def test_a_policy_set_later_makes_the_process_unready(scene: Scene) -> None:
    redis = scene.apis[0].services.redis
    status, answer = await ready(scene)
    assert (status, answer["status"], answer["concerns"]) == (200, "degraded", ["no_append_only_file"])
    await redis.config_set("maxmemory-policy", "allkeys-lru")
    status, answer = await ready(scene)
    assert (status, answer["redis"]) == (503, "down")
    assert "evicts_counters" in answer["concerns"]
    assert concern_gauge(HealthIssue.EVICTS) == 1
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("appendonly", "yes")
    status, answer = await ready(scene)
    assert (status, answer["status"], answer["concerns"]) == (200, "up", [])
    assert concern_gauge(HealthIssue.EVICTS) == 0


async def test_each_concern_is_found(scene: Scene) -> None:
    redis = create_client(scene.valkey.url, timeout_seconds=5, connections=1)
    await redis.config_set("maxmemory-policy", "volatile-ttl")
    assert await examine(redis) == {HealthIssue.EVICTS_FLUSHED, HealthIssue.NOT_APPENDING}
    await redis.config_set("maxmemory-policy", "noeviction")
    await redis.config_set("appendonly", "yes")
    await redis.config_set("appendfsync", "no")
    assert await examine(redis) == {HealthIssue.NOT_SYNCED}
    await redis.config_set("appendfsync", "everysec")
    await redis.config_set("maxmemory", 1)
    assert await examine(redis) == {HealthIssue.FULL}
    await redis.config_set("maxmemory", 0)
    await redis.slaveof("127.0.0.1", 1)
    assert await examine(redis) == {HealthIssue.REPLICA}
    await redis.slaveof()
    assert await examine(redis) == set()
    await redis.aclose()
