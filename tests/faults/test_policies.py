"""A Redis that must not evict, and policies that must not be out of date."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from uuid import UUID

import httpx
import pytest

from app.auth.tokens import Principal, Role
from app.clock import monotonic_ms, now_ms
from app.domain.counters import Counters
from app.domain.markets import Markets
from app.domain.policy import Policy
from app.embedded.valkey import Valkey
from app.lab.chaos.deployment import ChaosDeployment
from app.redis_store.client import create_client
from app.viewing.policy_cache import PolicyCache
from app.viewing.ports import PolicySource
from app.viewing.schemas import HeartbeatRequest
from app.wiring.api import Services, open_services
from tests.builders import settings_for
from tests.faults.households import Home
from tests.faults.record import Trial
from tests.rows import Rows
from tests.statements import statements_of

Begin = Callable[..., Trial]
HERD = 1000


@pytest.mark.faults
def test_a_redis_that_evicts(deployment: ChaosDeployment) -> None:
    with deployment.redis() as redis:
        redis.config_set("maxmemory-policy", "allkeys-lru")
        try:
            started = subprocess.run(
                [sys.executable, "-P", "-m", "app.cli", "api", "--port", "0", "--workers", "1"],
                env=deployment.variables(),
                check=False,
                capture_output=True,
                timeout=60,
            )
            assert started.returncode != 0
            assert b"noeviction" in started.stderr + started.stdout
            assert deployment.eventually(lambda: _readiness(deployment) == 503, seconds=60)
        finally:
            redis.config_set("maxmemory-policy", "noeviction")
    assert deployment.eventually(lambda: _readiness(deployment) == 200, seconds=60)


def _readiness(deployment: ChaosDeployment) -> int:
    return httpx.get(f"{deployment.url}/health/ready", timeout=20).status_code


def test_subscriptions_are_cut_while_settings_change(deployment: ChaosDeployment, trial: Begin) -> None:
    home = Home.found(deployment)
    session_id = home.beat().json()["session_id"]
    with trial(17, "pub/sub cut at each change of settings") as watching, deployment.redis() as redis:
        for minutes in (60, 75, 90):
            redis.execute_command("CLIENT", "KILL", "TYPE", "pubsub")  # type: ignore[no-untyped-call]
            version = home.limit(minutes)
            for _ in range(6):  # whichever process answers
                answer = home.beat(session_id=session_id)
                assert answer.status_code == 200, answer.text
                assert answer.json()["config_version"] == version
                time.sleep(0.11)  # ten beats a second are allowed
    watching.expect_exact()
    watching.expect_answers("200")


class Gated(PolicySource):
    """Reads, then waits at a gate before it answers."""

    def __init__(self, source: PolicySource) -> None:
        self._source = source
        self.has_read = asyncio.Event()
        self.gate = asyncio.Event()

    async def load(self, profile_ids: Sequence[str]) -> list[Policy | None]:
        return [met and met[0] for met in await self.load_with_counters(profile_ids)]

    async def load_with_counters(self, profile_ids: Sequence[str]) -> list[tuple[Policy, Counters | None] | None]:
        met = await self._source.load_with_counters(profile_ids)
        self.has_read.set()
        await self.gate.wait()
        return met


async def _child(services: Services) -> tuple[str, str, str]:
    """Account, child and title."""
    rows = Rows(services.engine)
    account = await rows.account()
    child = await rows.child(account, at_ms=now_ms() - 86_400_000)
    return account, child, await rows.title(f"film-{child}", "Film")


async def test_a_change_overtakes_a_running_load(database_url: str, valkey: Valkey) -> None:
    settings = settings_for(database_url=database_url, redis_url=valkey.url)
    async with open_services(settings) as services:
        _, child, _ = await _child(services)
        gated = Gated(services.postgres_policies)
        cache = PolicyCache(
            shared=services.shared_policies,
            source=gated,
            markets=Markets(),
            ttl_ms=60_000,
            stale_ms=60_000,
            size=10,
            clock=now_ms,
            monotonic=monotonic_ms,
            jitter=random.Random(0),  # noqa: S311  when an entry ends
        )
        loading = asyncio.create_task(cache.get(child))
        await gated.has_read.wait()
        async with services.engine.begin() as database:
            await database.exec_driver_sql(
                "UPDATE viewing_time_configs SET weekday_limit_minutes = 15, weekend_limit_minutes = 15, version = 2"
                " WHERE profile_id = $1",
                (UUID(child),),
            )
            await database.exec_driver_sql(
                "UPDATE profiles SET policy_version = policy_version + 1 WHERE id = $1", (UUID(child),)
            )
        [changed] = await services.postgres_policies.load([child])
        assert changed is not None
        cache.invalidate(f"{child}:{changed.version}")
        gated.gate.set()
        loaded = await loading
        assert loaded is not None
        assert loaded.version == changed.version
        remembered = cache.peek(child)
        assert remembered is not None
        assert remembered.version == changed.version


async def test_a_cold_herd(database_url: str, valkey: Valkey) -> None:
    """One query of each kind for all of them."""
    settings = settings_for(database_url=database_url, redis_url=valkey.url)
    redis = create_client(valkey.url, timeout_seconds=5, connections=1)
    await redis.flushall()
    await redis.aclose()
    at_ms = now_ms()
    async with open_services(settings, clock=lambda: at_ms) as services:  # however long it takes, it is one moment
        account, child, title = await _child(services)
        principal = Principal(account, Role.HOUSEHOLD, 2**40)
        request = HeartbeatRequest(profile_id=child, title_id=title, device_id="tv-1")
        with statements_of(services.engine) as sent:
            await asyncio.gather(*(services.viewing.service.beat(principal, request) for _ in range(HERD)))
        asked = [statement for statement in sent if "SELECT" in statement and statement != "SELECT 1"]  # the watch's
        assert sorted(Counter(asked).values()) == [1, 1], asked  # the child with its counters, and the title
