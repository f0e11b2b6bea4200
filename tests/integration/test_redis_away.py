"""Redis does not answer or refuses calls: 503 at once, nothing lost, nothing doubled, recovery without a restart."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx
import pytest
from redis.asyncio import Redis

from app.auth.tokens import Role
from app.redis_store.client import GuardedPool, create_client
from tests.integration.scene import Child, Scene, opened
from tests.scenes.households import registered_at_noon
from tests.servers import Databases

REDIS_TIMEOUT_SECONDS = 1.0
PATIENCE_SECONDS = 60
CROWD = 200
"""One after the other, each waiting for its turn, they would take longer than anybody waits."""
Command = Callable[[Redis], Awaitable[object]]


@pytest.fixture
async def scene(postgres: Databases) -> AsyncIterator[Scene]:
    async with opened(postgres.fresh(), redis_timeout_seconds=REDIS_TIMEOUT_SECONDS) as found:
        yield found


@asynccontextmanager
async def standing_still(scene: Scene) -> AsyncIterator[None]:
    os.kill(scene.valkey.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(scene.valkey.pid, signal.SIGCONT)


def breaker_of(scene: Scene) -> GuardedPool:
    pool = scene.apis[0].services.redis.connection_pool
    assert isinstance(pool, GuardedPool)
    return pool


def is_unavailable(response: httpx.Response) -> bool:
    is_named = response.status_code == 503 and response.json()["code"] == "counters_unavailable"
    return is_named and int(response.headers["Retry-After"]) > 0


async def beats_once(child: Child) -> httpx.Response:
    return await child.home.beat(child.id, child.title, session_id=child.session_id)


async def test_while_redis_stands_still_nobody_queues_and_nothing_is_doubled(scene: Scene) -> None:
    child = await scene.child()
    await child.beats(3)
    async with standing_still(scene), asyncio.timeout(PATIENCE_SECONDS):
        answers = await asyncio.gather(*(beats_once(child) for _ in range(CROWD)))
        assert all(map(is_unavailable, answers))
        assert breaker_of(scene).breaker.is_open
        for _ in range(CROWD):
            assert is_unavailable(await beats_once(child))
    await child.beats(3)  # the helper knows what was watched, to the millisecond
    assert not breaker_of(scene).breaker.is_open
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms


async def test_a_pause_of_writers_alone_is_noticed_too(scene: Scene) -> None:
    child = await scene.child()
    await child.beats(2)
    redis = create_client(scene.valkey.url, timeout_seconds=5, connections=1)
    await redis.client_pause(60_000, all=False)
    try:
        assert is_unavailable(await beats_once(child))
        await asyncio.sleep(REDIS_TIMEOUT_SECONDS)  # a probe that only reads would be answered by now
        assert breaker_of(scene).breaker.is_open
    finally:
        await redis.client_unpause()
        await redis.aclose()
    await child.beats(2)
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms


REFUSALS: dict[str, tuple[Command, Command]] = {
    "a replica": (lambda redis: redis.slaveof("127.0.0.1", 1), lambda redis: redis.slaveof()),
    "full": (lambda redis: redis.config_set("maxmemory", 1), lambda redis: redis.config_set("maxmemory", 0)),
}


@pytest.mark.parametrize("refusal", REFUSALS)
async def test_a_server_that_refuses_to_write_is_away_until_it_does(scene: Scene, refusal: str) -> None:
    child = await scene.child()
    await child.beats(2)
    begin, end = REFUSALS[refusal]
    redis = create_client(scene.valkey.url, timeout_seconds=5, connections=1)
    await begin(redis)
    for _ in range(3):
        assert is_unavailable(await beats_once(child))
    balance = await scene.apis[0].http.get(f"/viewing-time/balance/{child.id}", headers=child.home.as_player)
    assert balance.json()["used_seconds"] == child.watched_ms / 1000, "reading goes on"
    await end(redis)
    await redis.aclose()
    await child.beats(2)
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms


async def test_adults_who_are_tracked_are_answered_all_the_same(postgres: Databases) -> None:
    async with opened(postgres.fresh(), redis_timeout_seconds=REDIS_TIMEOUT_SECONDS, track_adults=True) as scene:
        api = scene.apis[0]
        home, title = await registered_at_noon(api), await api.add_title()
        adult = await home.adult()
        session_id = (await home.beat(adult, title)).json()["session_id"]
        platform = api.as_role("platform", Role.SERVICE)

        async def streams() -> httpx.Response:
            return await api.http.get(f"/viewing-time/streams/{home.id}", headers=platform)

        async with standing_still(scene), asyncio.timeout(PATIENCE_SECONDS):
            for _ in range(CROWD):
                assert (await home.beat(adult, title, session_id=session_id)).status_code == 200
            ended = await api.http.post(f"/viewing-time/session/{session_id}/end", headers=home.as_player)
            assert ended.status_code == 200
            assert is_unavailable(await streams())
            await api.services.viewing.active_sessions.drain()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                await home.beat(adult, title, session_id=session_id)
                await api.services.viewing.active_sessions.drain()
                answer = await streams()
                if answer.status_code == 200 and answer.json()["streams"]:
                    break
                await asyncio.sleep(0.05)
        assert [stream["session_id"] for stream in answer.json()["streams"]] == [session_id]


async def test_scripts_are_loaded_again_without_an_error(scene: Scene) -> None:
    child = await scene.child()
    redis = create_client(scene.valkey.url, timeout_seconds=5, connections=1)
    await child.beats(1)
    for _ in range(5):
        await redis.script_flush()
        scene.at_ms += 30_000
        for api in scene.apis:
            api.services.counters.at_ms = scene.at_ms
        assert (await beats_once(child)).status_code == 200
    await redis.aclose()
    assert not breaker_of(scene).breaker.is_open


async def test_connections_that_are_cut_are_made_again(scene: Scene) -> None:
    child = await scene.child()
    redis = create_client(scene.valkey.url, timeout_seconds=5, connections=1)
    for _ in range(4):
        await child.beats(2)
        await redis.client_kill_filter(_type="normal", skipme=True)
    await redis.aclose()
    assert not breaker_of(scene).breaker.is_open
    await scene.flush()
    assert await child.flushed_ms() == child.watched_ms
