"""The pool that hashes passwords and PINs."""

import asyncio
import os
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.auth.hashing import Hasher
from app.errors import TooManyRequests

PEPPER = b"the-pepper-of-these-tests-0123456789"


@pytest.fixture
def hasher() -> Iterator[Hasher]:
    pool = Hasher(pepper=PEPPER, cost=4, workers=1, queue=2)
    yield pool
    pool.close()


async def _matches(hasher: Hasher, secret: str, hashed: str | None) -> bool:
    with hasher.place() as place:
        return await place.matches(secret, hashed)


async def test_only_the_secret_itself_matches(hasher: Hasher) -> None:
    hashed = await hasher.hash("correct horse")
    assert hashed.startswith("$2b$04$")
    assert await _matches(hasher, "correct horse", hashed)
    assert not await _matches(hasher, "correct horsf", hashed)
    assert await hasher.hash("correct horse") != hashed, "each hash has a salt of its own"


async def test_every_letter_of_a_long_secret_counts(hasher: Hasher) -> None:
    hashed = await hasher.hash("x" * 199 + "a")
    assert not await _matches(hasher, "x" * 199 + "b", hashed)
    assert await _matches(hasher, "x" * 199 + "a", hashed)


async def test_accents_may_be_composed_in_either_way(hasher: Hasher) -> None:
    assert await _matches(hasher, "caf\u00e9 au lait", await hasher.hash("cafe\u0301 au lait"))


async def test_the_database_alone_is_not_enough(hasher: Hasher) -> None:
    other = Hasher(pepper=b"another" * 5, cost=4, workers=1, queue=1)
    assert not await _matches(other, "1234", await hasher.hash("1234"))
    other.close()


async def test_nobody_never_matches(hasher: Hasher) -> None:
    assert not await _matches(hasher, "", None)
    assert not await _matches(hasher, "correct horse", None)


def test_comparing_with_nobody_does_the_same_work() -> None:
    """The stand-in has the cost of the real ones, so bcrypt goes through as many rounds."""
    hasher = Hasher(pepper=PEPPER, cost=9, workers=1, queue=1)
    assert hasher._nobody.startswith(b"$2b$09$")
    assert len(hasher._nobody) == 60
    hasher.close()


@given(st.text(max_size=200))
def test_any_text_fits_bcrypt(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return  # refused before it comes here
    peppered = hasher_without_threads._peppered(text)
    assert len(peppered) == 44
    assert b"\0" not in peppered


hasher_without_threads = Hasher(pepper=PEPPER, cost=4, workers=1, queue=1)


async def test_a_full_queue_refuses_and_recovers(hasher: Hasher) -> None:
    gate = threading.Event()
    blocked = [asyncio.ensure_future(hasher.place().run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(TooManyRequests) as refusal:
        await hasher.hash("one more")
    assert refusal.value.headers["Retry-After"] == "1"
    gate.set()
    assert await asyncio.gather(*blocked) == [True] * 3
    assert await _matches(hasher, "x", await hasher.hash("x"))


async def test_callers_who_go_away_free_their_place(hasher: Hasher) -> None:
    gate = threading.Event()
    blocked = [asyncio.ensure_future(hasher.place().run(gate.wait)) for _ in range(3)]
    await asyncio.sleep(0)
    for call in blocked:
        call.cancel()
    await asyncio.gather(*blocked, return_exceptions=True)
    with pytest.raises(TooManyRequests):  # the one that is running holds its place, and two have left
        await asyncio.gather(*(hasher.hash("x") for _ in range(3)))
    gate.set()
    hasher._pool.submit(int).result()
    assert await _matches(hasher, "x", await hasher.hash("x"))


async def test_a_place_that_was_not_needed_is_given_back(hasher: Hasher) -> None:
    for _ in range(10):
        with hasher.place():
            pass
    assert await _matches(hasher, "x", await hasher.hash("x"))


def test_hashing_gives_way_to_a_process_that_gives_way_itself() -> None:
    def niceness() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    async def of_hashing() -> int:
        pool = Hasher(pepper=PEPPER, cost=4, workers=1, queue=2)
        try:
            with pool.place() as place:
                return await place.run(niceness)
        finally:
            pool.close()

    def measured() -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), min(14, niceness() + 7))
        found.append((niceness(), asyncio.run(of_hashing())))

    found: list[tuple[int, int]] = []
    thread = threading.Thread(target=measured)
    thread.start()
    thread.join()
    [(ours, of_its_threads)] = found
    assert of_its_threads == ours + 5
