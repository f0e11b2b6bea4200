"""A child that watches through two API processes while something breaks."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

from app.clock import now_ms
from app.embedded.valkey import Valkey
from app.errors import CountersUnavailable, DatabaseUnavailable
from app.postgres_store.checkpoints import PostgresCheckpoints
from app.redis_store.client import create_client
from app.redis_store.keys import Keys
from app.settings.settings import Settings
from app.wiring.worker import WorkerServices, open_worker
from tests.builders import settings_for
from tests.scenes.api import Api, running
from tests.scenes.households import Household, registered_at_noon
from tests.servers import Cache, reachable_folder

PATIENCE_SECONDS = 20
BUCKETS = 4
KEYS = Keys(BUCKETS)


@dataclass
class Scene:
    """Two API processes, a worker and a Valkey that keeps nothing unless told to; time is the test's."""

    valkey: Valkey
    settings: Settings
    apis: list[Api]
    worker: WorkerServices
    at_ms: int = field(default_factory=now_ms)

    async def child(self) -> "Child":
        home = await registered_at_noon(self.apis[0])
        child, title = await home.child(), await self.apis[0].add_title()
        return Child(self, home, child, title)

    async def snapshot(self) -> None:
        client = create_client(self.settings.redis_url.get_secret_value(), timeout_seconds=10, connections=1)
        await client.save()
        await client.aclose()
        shutil.copy(self.valkey.home / "dump.rdb", self.valkey.home / "copy.rdb")

    async def flush(self) -> None:
        """As the worker does at its next cycles, until one succeeds."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                try:
                    await self.worker.flusher.drain()
                except (CountersUnavailable, DatabaseUnavailable):
                    await asyncio.sleep(0.05)
                else:
                    return

    async def marks_are_known(self) -> None:
        """Both processes have seen how far the flush has come, as they do within a second."""
        noted = await self.noted_watermarks()
        async with asyncio.timeout(PATIENCE_SECONDS):
            while any(api.services.counters._rollback_guard.watermarks != noted for api in self.apis):  # noqa: ASYNC110
                await asyncio.sleep(0.05)

    async def noted_watermarks(self) -> list[int]:
        marks = await PostgresCheckpoints(self.apis[0].services.engine).read(BUCKETS)
        return [mark.watermark for mark in marks]

    async def generation(self, profile_id: str) -> int:
        marks = await PostgresCheckpoints(self.apis[0].services.engine).read(BUCKETS)
        return marks[KEYS.bucket(profile_id)].generation


@dataclass
class Child:
    scene: Scene
    home: Household
    id: str
    title: str
    session_id: str | None = None
    watched_ms: int = 0
    last_ms: int = 0

    async def beats(self, count: int, *, every_ms: int = 30_000, must_succeed: bool = False) -> None:
        """Watch on, beating through both processes in turn; no answer ever tells of less than before."""
        for turn in range(count):
            self.scene.at_ms += every_ms
            for api in self.scene.apis:
                api.services.counters.at_ms = self.scene.at_ms
            answer = await self._beat(self.scene.apis[turn % 2], must_succeed=must_succeed)
            if self.session_id is not None:
                self.watched_ms += self.scene.at_ms - self.last_ms
            self.last_ms = self.scene.at_ms
            assert self.session_id in {None, answer["session_id"]}
            self.session_id = str(answer["session_id"])
            assert answer["used_seconds"] == self.watched_ms / 1000

    async def _beat(self, api: Api, *, must_succeed: bool = False) -> dict[str, object]:
        fields = {} if self.session_id is None else {"session_id": self.session_id}
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                response = await self.home.beat(self.id, self.title, on=api, **fields)
                if response.status_code != 503 or must_succeed:
                    assert response.status_code == 200, response.text
                    answer: dict[str, object] = response.json()
                    return answer
                await asyncio.sleep(0.05)

    async def flushed_ms(self) -> int:
        async with self.scene.apis[0].services.engine.connect() as database:
            rows = await database.exec_driver_sql(
                "SELECT used_ms FROM viewing_time_balances WHERE profile_id = $1::uuid", (self.id,)
            )
            return int(rows.scalar_one())


@asynccontextmanager
async def opened(database_url: str, **overrides: object) -> AsyncIterator[Scene]:
    """Everything started, on a Valkey of its own."""
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(reachable_folder())
        server = Cache(folder / "valkey", options={"appendonly": "no"})
        stack.callback(server.stop)  # after the kill only its folder is left
        stack.callback(server.kill9)  # while it rewrites its file it would take its time
        server.start()
        settings = settings_for(database_url=database_url, redis_url=server.url, buckets=BUCKETS, **overrides)
        apis = [await stack.enter_async_context(running(settings)) for _ in range(2)]
        worker = await stack.enter_async_context(open_worker(settings, clock=lambda: found.at_ms))
        found = Scene(server, settings, apis, worker)
        await worker.make_partitions()
        yield found
