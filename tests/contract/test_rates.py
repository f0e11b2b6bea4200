"""Admitting requests by quota: the same in every Redis."""

import asyncio
from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from app.auth.rates import Quota, Rates
from app.redis_store.rates import RedisRates
from tests.fakes import client_of

ACCOUNT = Quota(name="account", most=5, window_ms=600_000)
TOKEN = Quota(name="token", most=3, window_ms=600_000)


@pytest.fixture(params=["fakeredis", "valkey", "redis7"])
async def rates(request: pytest.FixtureRequest) -> AsyncIterator[Rates]:
    client = client_of(request)
    yield RedisRates(client)
    await client.aclose()


async def test_each_holder_has_its_quota_and_all_share_the_accounts(rates: Rates) -> None:
    account_id = str(uuid4())

    async def admitted(token: str) -> tuple[bool, list[int]]:
        admission = await rates.admit(account_id, (ACCOUNT, TOKEN), ("", token))
        return admission.wait_ms == 0, [standing.left for standing in admission.standings]

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
