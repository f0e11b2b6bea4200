"""Request quotas behave the same in every Redis."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest

from app.auth.ports import Quota, Rates
from app.redis_store.keys import rate
from app.redis_store.rates import RedisRates
from tests.fakes import client_of

ACCOUNT = Quota(name="account", most=5, window_ms=600_000)
TOKEN = Quota(name="token", most=3, window_ms=600_000)


@pytest.fixture(params=["fakeredis", "valkey", "redis7"])
async def redis(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    client = client_of(request)
    yield client
    await client.aclose()


@pytest.fixture
def rates(redis: Any) -> Rates:
    return RedisRates(redis)


async def test_each_holder_has_its_quota_and_all_share_the_accounts(rates: Rates) -> None:
    account_id = str(uuid4())

    async def admitted(token: str) -> tuple[bool, list[int]]:
        admission = await rates.admit(account_id, (ACCOUNT, TOKEN), ("", token))
        return admission.wait_ms == 0, [quota_state.left for quota_state in admission.standings]

    assert [await admitted("tv") for _ in range(4)] == [
        (True, [4, 2]),
        (True, [3, 1]),
        (True, [2, 0]),
        (False, [2, 0]),
    ]
    assert [await admitted("phone") for _ in range(3)] == [(True, [1, 2]), (True, [0, 1]), (False, [0, 1])]
    assert (await rates.admit(str(uuid4()), (ACCOUNT,), ("",))).wait_ms == 0, "another family has its own"


async def test_what_was_used_comes_back_evenly(rates: Rates) -> None:
    account_id, quota = str(uuid4()), Quota(name="account", most=10, window_ms=60_000)
    admissions = [await rates.admit(account_id, (quota,), ("",)) for _ in range(10)]
    last = admissions[-1]
    assert 55_000 < last.standings[0].whole_in_ms <= 60_000
    refused = await rates.admit(account_id, (quota,), ("",))
    assert 1_000 < refused.wait_ms <= 6_000, "a tenth of the window"


async def test_a_quota_is_whole_again_after_its_window(rates: Rates) -> None:
    account_id, quota = str(uuid4()), Quota(name="account", most=2, window_ms=200)
    while (await rates.admit(account_id, (quota,), ("",))).wait_ms == 0:
        pass
    for _ in range(100):
        if not (await rates.admit(account_id, (quota,), ("",))).wait_ms:
            return
        await asyncio.sleep(0.1)
    pytest.fail("it never came back")


async def test_parallel_requests_share_one_count(rates: Rates) -> None:
    account_id, quota = str(uuid4()), Quota(name="account", most=7, window_ms=3_600_000)
    admissions = await asyncio.gather(*(rates.admit(account_id, (quota,), ("",)) for _ in range(50)))
    assert [admission.wait_ms == 0 for admission in admissions].count(True) == 7


@pytest.mark.parametrize("step_ms", [60_100, 600_000, 86_400_000])
async def test_a_clock_that_fell_shuts_nobody_out(redis: Any, rates: Rates, step_ms: int) -> None:
    """A clock that falls leaves the instants that were written before it ahead; the test moves these instead."""
    account_id, quota = str(uuid4()), Quota(name="account", most=10, window_ms=60_000)
    for _ in range(10):
        assert (await rates.admit(account_id, (quota,), ("",))).wait_ms == 0
    key = rate(account_id, quota.name, "")
    await redis.set(key, f"{float(await redis.get(key)) + step_ms:.3f}", keepttl=True)
    admission = await rates.admit(account_id, (quota,), ("",))
    assert (admission.wait_ms, admission.standings[0].left) == (0, 9)
    assert await redis.pttl(key) <= quota.window_ms


async def test_a_small_step_makes_nobody_wait_for_longer_than_a_window(redis: Any, rates: Rates) -> None:
    account_id, quota = str(uuid4()), Quota(name="account", most=10, window_ms=60_000)
    await rates.admit(account_id, (quota,), ("",))
    key = rate(account_id, quota.name, "")
    await redis.set(key, f"{float(await redis.get(key)) + 53_900:.3f}", keepttl=True)
    assert 0 < (await rates.admit(account_id, (quota,), ("",))).wait_ms <= quota.window_ms
