"""Look up the sessions of the viewers in the counters.

A player learns its session id from the answer, but the load generator does not read answers. After an opening heartbeat
the counters contain the same id.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from app.domain.counters import Rules
from app.lab.bench.viewers import Mapped, State, Viewers, profile_id
from app.redis_store.client import create_client
from app.redis_store.cluster import as_cluster
from app.redis_store.clustered import ClusteredCounters
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys
from app.settings.settings import Settings

BATCH = 1_000
PAUSE_SECONDS = 0.1
_OPENING = re.compile(bytes([State.OPENING]))


@asynccontextmanager
async def counters_of(settings: Settings) -> AsyncIterator[RedisCounters]:
    """Reads counters directly from Redis."""
    redis = create_client(settings.redis_url.get_secret_value(), timeout_seconds=5, connections=2)
    try:
        adapter = RedisCounters if as_cluster(redis) is None else ClusteredCounters
        yield adapter(redis, Keys(settings.buckets), Rules(), live_ttl_seconds=settings.live_ttl_seconds)
    finally:
        await redis.aclose()


def look_up_sessions(viewers: Viewers, settings: Settings, *, advance: Callable[[int], None]) -> int:
    """Write every viewer's session into its slot. Viewers without a session open one with their next heartbeat.

    Returns:
        The number of viewers with a running session.
    """

    async def learn_all() -> int:
        running = 0
        async with counters_of(settings) as counters:
            with viewers.mapped() as mapped:
                for first in range(0, viewers.count, BATCH):
                    batch = range(first, min(first + BATCH, viewers.count))
                    for viewer in batch:
                        mapped.states[viewer] = State.OPENING
                    running += await _bring_back(batch, mapped, counters, is_over=True)
                    advance(len(batch))
        return running

    return asyncio.run(learn_all())


@contextmanager
def kept(viewers: Viewers, settings: Settings) -> Iterator[None]:
    """While a load runs, return viewers with a reopened session to it."""
    stop = threading.Event()

    async def keep() -> None:
        async with counters_of(settings) as counters:
            with viewers.mapped() as mapped:
                while not stop.is_set():
                    for batch in _opening(mapped):
                        await _bring_back(batch, mapped, counters, is_over=False)
                    await asyncio.sleep(PAUSE_SECONDS)
                for batch in _opening(mapped):
                    await _bring_back(batch, mapped, counters, is_over=True)

    thread = threading.Thread(target=lambda: asyncio.run(keep()), name="sessions")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextmanager
def without_sessions(states: Path) -> Iterator[None]:
    """For a baseline without sessions: a viewer with a new session returns at once."""
    stop = threading.Event()

    def pretend() -> None:
        while not stop.wait(PAUSE_SECONDS):
            found = states.read_bytes()
            with states.open("r+b") as file:
                for opening in _OPENING.finditer(found):
                    file.seek(opening.start())
                    file.write(bytes([State.KNOWN]))

    thread = threading.Thread(target=pretend, name="sessions")
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _opening(mapped: Mapped) -> Iterator[Sequence[int]]:
    waiting = [found.start() for found in _OPENING.finditer(mapped.states)]
    for first in range(0, len(waiting), BATCH):
        yield waiting[first : first + BATCH]


async def _bring_back(batch: Sequence[int], mapped: Mapped, stored: RedisCounters, *, is_over: bool) -> int:
    """Learn sessions and return the viewers that have one. The others wait, or start again after the load."""
    running = 0
    counters_of = await stored.read([profile_id(viewer) for viewer in batch])
    for viewer, (at_ms, counters) in zip(batch, counters_of, strict=True):
        if counters is not None and counters.session_id and not counters.has_ended:
            watched_seconds = (at_ms - counters.session_started_ms) / 1000
            mapped.put_session(viewer, counters.session_id, watched_seconds=watched_seconds)
            mapped.states[viewer] = State.KNOWN
            running += 1
        elif is_over:
            mapped.states[viewer] = State.ENDED
    return running
