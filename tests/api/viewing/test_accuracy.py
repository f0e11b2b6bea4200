"""The check of accuracy on real servers: each kind of error is injected, and attributed to its cause."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from app.domain.accuracy import AccuracyError, ErrorCause
from app.embedded.valkey import Valkey
from app.observability.worker_metrics import WORKER, count_checked
from app.reconciling.accuracy import LOOKS_AT_A_BUCKET, AccuracyCheck
from app.redis_store.client import create_client
from app.redis_store.keys import Keys
from app.redis_store.sampled_counters import RedisSampledCounters
from app.settings.settings import Settings
from app.wiring.stores import connect
from app.wiring.worker import accuracy_check, open_worker
from tests.builders import settings_for
from tests.scenes.api import Api, running
from tests.scenes.households import Household, registered_at_noon


@dataclass
class Watched:
    """A child that watches, the check that looks at it, and the results of the check."""

    api: Api
    settings: Settings
    home: Household
    child: str
    title: str
    check: AccuracyCheck
    found: list[AccuracyError | None]
    monotonic: list[int]
    session: str | None = None
    claimed: float = 0.0
    at_ms: int = field(default=0)

    def pass_time(self, seconds: float, *, clock_seconds: float = 0.0) -> None:
        """Let time pass; ``clock_seconds`` is by how much the clock of Redis is set meanwhile."""
        self.monotonic[0] += round(seconds * 1000)
        self.at_ms += round((seconds + clock_seconds) * 1000)
        self.api.services.counters.at_ms = self.at_ms
        counters = self.check._counters
        assert isinstance(counters, RedisSampledCounters)
        counters.at_ms = self.at_ms

    async def beat(self, *, claims: float = 30.0, **fields: Any) -> None:
        self.claimed += claims
        body = {"session_id": self.session, "watched_seconds": self.claimed} | fields
        answer = await self.home.beat(self.child, self.title, **body)
        assert answer.status_code == 200, answer.text
        self.session = answer.json()["session_id"]

    async def minute(self, *, claims: float = 30.0) -> None:
        """Two heartbeats and a look."""
        for _ in range(2):
            self.pass_time(30)
            await self.beat(claims=claims)
        await self.check.look()

    @property
    def causes(self) -> list[ErrorCause]:
        return [error.cause for error in self.found if error is not None]


@pytest.fixture
async def watched(database_url: str, valkey: Valkey) -> AsyncIterator[Watched]:
    settings = settings_for(database_url=database_url, redis_url=valkey.url, buckets=1)
    redis = create_client(valkey.url, timeout_seconds=5, connections=2)
    await redis.flushall()
    await redis.aclose()
    async with open_worker(settings) as worker:
        await worker.make_partitions()
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(running(settings))
        found: list[AccuracyError | None] = []
        monotonic = [1_000_000]
        home = await registered_at_noon(api)
        watched = Watched(
            api=api,
            settings=settings,
            home=home,
            child=await home.child(),
            title=await api.add_title(),
            check=accuracy_check(
                connect(stack, settings), settings, observe=found.append, monotonic=lambda: monotonic[0]
            ),
            found=found,
            monotonic=monotonic,
            at_ms=api.services.clock(),
        )
        watched.pass_time(0)
        await watched.beat(claims=0)
        await watched.minute()
        yield watched


async def test_an_honest_player_is_right_every_minute(watched: Watched) -> None:
    for _ in range(5):
        await watched.minute()
    assert watched.found == [None] * 5


async def test_pauses_and_new_sessions_are_right(watched: Watched) -> None:
    watched.pass_time(30)
    await watched.beat(is_paused=True)
    watched.pass_time(200)
    await watched.beat(claims=0, is_paused=True)
    await watched.check.look()
    watched.session, watched.claimed = None, 0.0
    await watched.minute(claims=0)
    assert watched.causes == []
    assert watched.found


async def test_a_gap_that_the_player_does_not_claim_is_a_late_beat(watched: Watched) -> None:
    watched.pass_time(60)
    await watched.check.look()
    watched.pass_time(60)
    await watched.beat(claims=10)
    await watched.check.look()
    assert watched.found == [AccuracyError(ErrorCause.LATE_BEAT, 110_000)]


async def test_a_claim_that_stands_still_is_a_claim(watched: Watched) -> None:
    await watched.minute(claims=0)
    assert watched.found == [AccuracyError(ErrorCause.CLAIM, 60_000)]


async def test_a_claim_that_runs_ahead_is_a_claim(watched: Watched) -> None:
    await watched.minute(claims=90)
    assert watched.found == [AccuracyError(ErrorCause.CLAIM, 120_000)]


async def test_a_clock_that_is_set_ahead_is_the_clock(watched: Watched) -> None:
    watched.pass_time(30, clock_seconds=120)
    await watched.beat()
    await watched.minute()
    assert watched.found == [AccuracyError(ErrorCause.CLOCK, 120_000)]


async def test_a_clock_that_is_set_back_is_the_clock(watched: Watched) -> None:
    """Once costs one interval, which decides nothing; a clock that keeps falling does."""
    for _ in range(2):
        watched.pass_time(30, clock_seconds=-60)
        await watched.beat()
    await watched.check.look()
    assert watched.causes == [ErrorCause.CLOCK]


async def test_counters_that_came_back_older_are_a_loss_of_redis(watched: Watched) -> None:
    redis, key = watched.api.services.redis, Keys(1).counters(watched.child)
    older = await redis.get(key)
    assert older is not None
    for _ in range(6):
        await watched.minute()
    assert watched.found == [None] * 6
    async with open_worker(watched.settings) as worker:
        await worker.flusher.drain()
    await redis.set(key, older)
    watched.pass_time(30)
    watched.session, watched.claimed = None, 0.0  # a session that goes on would claim the gap
    await watched.beat(claims=0)
    await watched.check.look()
    assert watched.causes == [ErrorCause.REDIS_LOSS]


async def test_a_gap_that_a_session_claims_heals_counters_that_came_back_older(watched: Watched) -> None:
    redis, key = watched.api.services.redis, Keys(1).counters(watched.child)
    older = await redis.get(key)
    assert older is not None
    for _ in range(3):
        await watched.minute()
    await redis.set(key, older)
    watched.pass_time(30)
    await watched.beat()
    await watched.check.look()
    assert watched.causes == []


async def test_counters_that_are_gone_are_a_loss_of_redis(watched: Watched) -> None:
    await watched.minute()
    async with open_worker(watched.settings) as worker:
        await worker.flusher.drain()
    await watched.api.services.redis.flushall()
    watched.pass_time(30)
    await watched.check.look()
    assert watched.causes == [ErrorCause.REDIS_LOSS]


async def test_after_ten_looks_it_is_the_next_buckets_turn(watched: Watched) -> None:
    for _ in range(LOOKS_AT_A_BUCKET + 2):
        await watched.minute()
    assert watched.found == [None] * (LOOKS_AT_A_BUCKET + 1)  # the first look at a bucket has none before it


async def test_a_look_is_two_calls_to_redis_and_one_to_postgresql(
    watched: Watched, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        async def counting(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return await call(*args, **options)

        return counting

    check = watched.check
    for place, name in ((check._counters, "active"), (check._counters, "sample"), (check._kept, "kept")):
        monkeypatch.setattr(place, name, counted(name, getattr(place, name)))
    await watched.minute()
    assert calls == ["active", "kept", "sample"]


async def test_a_sample_of_none_asks_nobody(watched: Watched) -> None:
    watched.check._size = 0
    await watched.minute(claims=0)
    assert watched.found == []


def test_checks_and_errors_are_counted_by_cause() -> None:
    def value(name: str, **labels: str) -> float:
        return WORKER.get_sample_value(f"hourglass_accuracy_{name}_total", labels) or 0.0

    checks, errors = value("checks"), value("errors", cause="clock")
    seconds = value("error_seconds", cause="clock")
    count_checked(None)
    count_checked(AccuracyError(ErrorCause.CLOCK, 45_000))
    assert value("checks") == checks + 2
    assert value("errors", cause="clock") == errors + 1
    assert value("error_seconds", cause="clock") == seconds + 45
    assert {
        cause
        for cause in ErrorCause
        if WORKER.get_sample_value("hourglass_accuracy_errors_total", {"cause": cause}) is not None
    } == set(ErrorCause)
