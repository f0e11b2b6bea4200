"""Request quotas of an account and its tokens, and their headers."""

from collections.abc import Sequence

import httpx
import pytest

from app.auth.ports import Quota, QuotaAdmission
from app.auth.rates import RateLimit
from app.auth.tokens import Role
from app.redis_store.client import create_client
from app.redis_store.rates import RedisRates
from tests.scenes.api import Api
from tests.scenes.households import Household, registered


@pytest.fixture
async def household(api: Api) -> Household:
    """A family that may ask six times a minute, each token four times."""
    household = await registered(api)
    _limit(api, RateLimit(account_most=6, token_most=4, rates=RedisRates(api.services.redis)))
    return household


def _limit(api: Api, rate_limit: RateLimit) -> None:
    """Services are made anew for each test."""
    object.__setattr__(api.services, "rate_limit", rate_limit)


async def _statuses(client: httpx.AsyncClient, times: int) -> list[int]:
    return [(await client.get("/profiles")).status_code for _ in range(times)]


async def test_a_player_gone_mad_leaves_its_parents_their_share(household: Household) -> None:
    assert await _statuses(household.player, 6) == [200] * 4 + [429] * 2
    assert await _statuses(household.parent, 3) == [200] * 2 + [429]


async def test_answers_say_how_the_caller_stands(household: Household) -> None:
    first = await household.player.get("/profiles")
    assert first.headers["RateLimit-Policy"] == '"account";q=6;w=60, "token";q=4;w=60'
    assert first.headers["RateLimit"] == '"account";r=5;t=10, "token";r=3;t=15'
    await _statuses(household.player, 3)
    refused = await household.player.get("/profiles")
    assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
    assert refused.headers["RateLimit-Policy"] == first.headers["RateLimit-Policy"]
    assert '"token";r=0;' in refused.headers["RateLimit"]
    assert 1 <= int(refused.headers["Retry-After"]) <= 15
    refusal = await household.parent.post("/profiles", json={})
    assert refusal.status_code == 422
    assert "RateLimit" in refusal.headers, "refusals count and say so, too"


async def test_another_family_and_heartbeats_are_not_concerned(api: Api, household: Household) -> None:
    await _statuses(household.player, 5)
    assert await _statuses(api.signed_in((await registered(api)).id, Role.HOUSEHOLD), 1) == [200]
    beat = await household.player.post("/viewing-time/heartbeat", json={})
    assert beat.status_code == 422, "a beat has a limit of its own, by child"
    assert "RateLimit" not in beat.headers


async def test_with_redis_away_requests_pass_uncounted_and_do_not_wait_for_it(api: Api, household: Household) -> None:
    asked: list[str] = []

    class Counted(RedisRates):
        async def admit(self, account_id: str, quotas: Sequence[Quota], holders: Sequence[str]) -> QuotaAdmission:
            asked.append(account_id)
            return await super().admit(account_id, quotas, holders)

    nowhere = create_client("redis://127.0.0.1:1", timeout_seconds=0.2, connections=2)
    _limit(api, RateLimit(account_most=1, token_most=1, rates=Counted(nowhere)))
    answers = [await household.player.get("/profiles") for _ in range(5)]
    assert [answer.status_code for answer in answers] == [200] * 5
    assert not any("RateLimit" in answer.headers for answer in answers)
    assert 1 <= len(asked) < 5, "for a while nobody asks it again"
    await nowhere.aclose()


async def test_zero_means_no_limit(api: Api, household: Household) -> None:
    _limit(api, RateLimit(account_most=0, token_most=0, rates=RedisRates(api.services.redis)))
    assert await _statuses(household.player, 30) == [200] * 30


async def test_the_platforms_services_are_not_counted(api: Api, household: Household) -> None:
    service = api.signed_in("concurrency", Role.SERVICE)
    answers = [await service.get(f"/viewing-time/streams/{household.id}") for _ in range(8)]
    assert [answer.status_code for answer in answers] == [200] * 8
