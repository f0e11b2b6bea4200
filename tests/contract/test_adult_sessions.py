"""Running sessions of adults behave the same in every Redis and on a cluster."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from app.domain.adults import AdultBeat, AdultSession
from app.redis_store.adults import MAX_SESSIONS, RedisAdultSessions
from app.redis_store.clustered import ClusteredAdultSessions
from app.redis_store.keys import Keys
from tests.fakes import client_of

NOON_MS = 1_772_452_800_000
SILENCE_MS = 300_000
KEYS = Keys(16)


@pytest.fixture(params=["fakeredis", "valkey", "redis7", "cluster"])
async def adults(request: pytest.FixtureRequest) -> AsyncIterator[RedisAdultSessions]:
    client = client_of(request)
    adapter = ClusteredAdultSessions if request.param == "cluster" else RedisAdultSessions
    yield adapter(client, KEYS, silence_ms=SILENCE_MS, at_ms=NOON_MS)
    await client.aclose()


def beat(adult: str, session_id: str, title_id: str = "film", device_type: str = "tv") -> AdultBeat:
    return AdultBeat(adult, session_id, title_id, device_type)


def end(adult: str, session_id: str) -> AdultBeat:
    return AdultBeat(adult, session_id, is_end=True)


async def sessions_of(adults: RedisAdultSessions, adult: str) -> list[AdultSession]:
    [found] = await adults.running([adult])
    return found


async def test_many_adults_beat_in_one_call(adults: RedisAdultSessions) -> None:
    many = [(str(uuid4()), str(uuid4())) for _ in range(40)]
    await adults.keep([beat(adult, session_id) for adult, session_id in many])
    found = await adults.running([*(adult for adult, _ in many), str(uuid4())])
    assert found == [[AdultSession(session_id, "film", "tv", NOON_MS)] for _, session_id in many] + [[]]


async def test_an_adult_may_have_many_until_they_end(adults: RedisAdultSessions) -> None:
    adult, first, second = (str(uuid4()) for _ in range(3))
    await adults.keep([beat(adult, first), beat(adult, second, "a|b", "web")])
    adults.at_ms += 30_000
    await adults.keep([beat(adult, first)])
    assert await sessions_of(adults, adult) == [
        AdultSession(second, "a|b", "web", NOON_MS),
        AdultSession(first, "film", "tv", NOON_MS + 30_000),
    ]
    await adults.keep([end(adult, second), end(adult, second), end(adult, str(uuid4()))])
    assert [session.session_id for session in await sessions_of(adults, adult)] == [first]
    await adults.keep([end(adult, first)])
    assert await sessions_of(adults, adult) == []
    assert not await adults._redis.exists(KEYS.sessions(adult))


async def test_another_title_or_device_takes_the_place_of_the_one_before(adults: RedisAdultSessions) -> None:
    adult, session_id, other = (str(uuid4()) for _ in range(3))
    await adults.keep([beat(adult, session_id), beat(adult, other), beat(adult, session_id, "cartoon", "mobile")])
    assert set(await sessions_of(adults, adult)) == {
        AdultSession(other, "film", "tv", NOON_MS),
        AdultSession(session_id, "cartoon", "mobile", NOON_MS),
    }


async def test_who_is_silent_for_longer_than_the_gap_has_ended(adults: RedisAdultSessions) -> None:
    adult, silent, going_on = (str(uuid4()) for _ in range(3))
    await adults.keep([beat(adult, silent), beat(adult, going_on)])
    adults.at_ms += SILENCE_MS
    assert len(await sessions_of(adults, adult)) == 2
    adults.at_ms += 1
    assert await sessions_of(adults, adult) == []
    await adults.keep([beat(adult, going_on)])
    assert [session.session_id for session in await sessions_of(adults, adult)] == [going_on]
    assert await adults._redis.zcard(KEYS.sessions(adult)) == 1
    assert 0 < await adults._redis.pttl(KEYS.sessions(adult)) <= SILENCE_MS


async def test_only_the_last_sessions_are_kept(adults: RedisAdultSessions) -> None:
    adult = str(uuid4())
    opened = [str(uuid4()) for _ in range(MAX_SESSIONS + 3)]
    for session_id in opened:
        adults.at_ms += 1
        await adults.keep([beat(adult, session_id)])
    assert [session.session_id for session in await sessions_of(adults, adult)] == opened[3:]


async def test_without_a_given_instant_the_servers_clock_counts(adults: RedisAdultSessions) -> None:
    adult, session_id = str(uuid4()), str(uuid4())
    adults.at_ms = 0
    await adults.keep([beat(adult, session_id)])
    [session] = await sessions_of(adults, adult)
    assert session.last_beat_ms > NOON_MS - 10**10


async def test_a_clock_that_fell_leaves_no_sessions_behind(adults: RedisAdultSessions) -> None:
    adult, silent, going_on = (str(uuid4()) for _ in range(3))
    await adults.keep([beat(adult, silent), beat(adult, going_on)])
    adults.at_ms -= 3 * 3_600_000
    assert await sessions_of(adults, adult) == []
    await adults.keep([beat(adult, going_on)])
    adults.at_ms += 1_000
    assert [session.session_id for session in await sessions_of(adults, adult)] == [going_on]
    assert await adults._redis.zcard(KEYS.sessions(adult)) == 1
