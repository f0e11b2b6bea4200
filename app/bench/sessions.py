"""The sessions of the viewers, looked up where the service keeps them.

A player learns its session id from the answer; the load cannot afford to read answers. What the counters hold after an
opening beat is the same id.
"""

import asyncio
import re
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

from app.bench.viewers import Mapped, State, Viewers, profile_id
from app.domain.accounting import Rules
from app.redis_store.client import create_client
from app.redis_store.counters import RedisCounters
from app.redis_store.keys import Keys
from app.settings import Settings

BATCH = 1_000
PAUSE_SECONDS = 0.1
_OPENING = re.compile(bytes([State.OPENING]))


@asynccontextmanager
async def counters_of(settings: Settings) -> AsyncIterator[RedisCounters]:
    """The counters, read from beside the service."""
    redis = create_client(settings.redis_url.get_secret_value(), timeout_seconds=5, connections=2)
    try:
        yield RedisCounters(redis, Keys(settings.buckets), Rules(), live_ttl_seconds=settings.live_ttl_seconds)
    finally:
        await redis.aclose()


def learn(viewers: Viewers, settings: Settings, *, advance: Callable[[int], None]) -> int:
    """Put every viewer's session into its slot; those without a running one open it with their next beat.

    Returns:
        how many have a running session.
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
    """While a load runs, bring those back whose session was opened again."""
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
def pretended(states: Path) -> Iterator[None]:
    """For a rival, which has no sessions to look up: whoever opened is back at once."""
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


async def _bring_back(batch: Sequence[int], mapped: Mapped, counters: RedisCounters, *, is_over: bool) -> int:
    """Learn sessions. Those who have none yet wait on, or begin anew once the load is over. Answers who has one."""
    running = 0
    lives = await counters.read([profile_id(viewer) for viewer in batch])
    for viewer, (at_ms, live) in zip(batch, lives, strict=True):
        if live is not None and live.session_id and not live.has_ended:
            watched_seconds = (at_ms - live.session_started_ms) / 1000
            mapped.put_session(viewer, live.session_id, watched_seconds=watched_seconds)
            mapped.states[viewer] = State.KNOWN
            running += 1
        elif is_over:
            mapped.states[viewer] = State.ENDED
    return running
