"""PostgreSQL away: cached children continue, and nothing is missing once it is back."""

from tests.integration.scene import opened
from tests.servers import running_postgres


async def test_known_children_go_on_and_are_flushed_when_it_is_back() -> None:
    with running_postgres() as server:
        async with opened(server.fresh(), database_timeout_seconds=2, redis_timeout_seconds=5) as scene:
            child = await scene.child()
            await child.beats(3)
            await scene.flush()
            await child.beats(2)
            server.execute("CHECKPOINT")  # this server commits carelessly: what was set up must not go with it
            server.kill9()
            await child.beats(6, must_succeed=True)
            ready = await scene.apis[0].http.get("http://test/health/ready")
            assert (ready.status_code, ready.json()["postgresql"]) == (200, "down")
            server.start()
            await scene.flush()
            assert await child.flushed_ms() == child.watched_ms
            assert (await scene.worker.flusher.backlog()).is_empty
